// A component without a strategy: it runs the modules that its host hands it when it starts, as collect.mjs prepared
// them. Lines above this one, written when the shell is built, import the contract as `NATIVES`.
import { read } from 'orion:draft/sources@0.1.0';
import { write } from 'orion:search/log@0.1.0';

const SEAM = 'orion.js';
// Called by another name, `eval` runs code in the global scope.
const evaluate = eval;
let strategy;

function define(target, name, get) {
  Object.defineProperty(target, name, { get, enumerable: true, configurable: true });
}

/** The exports of a module, run once; modules that import each other see each other's, as far as they are there. */
function run(name, texts, known) {
  if (known.has(name)) return known.get(name).exports;
  const module = { exports: Object.create(null), hasRun: false };
  known.set(name, module);
  const { links, code } = JSON.parse(texts.get(name));
  const scope = Object.create(null);
  for (const { from, names, again, all } of links) {
    const exports = NATIVES[from] ?? (texts.has(from) ? run(from, texts, known) : undefined);
    if (exports === undefined) throw new SyntaxError(`${name} imports \`${from}\`, which is not granted`);
    const isWhole = known.get(from)?.hasRun ?? true;
    const getter = (wanted) => {
      if (wanted === '*') return () => exports;
      if (isWhole && !(wanted in exports)) throw new SyntaxError(`${name}: \`${from}\` does not export \`${wanted}\``);
      return () => exports[wanted];
    };
    for (const [local, wanted] of names) define(scope, local, getter(wanted));
    for (const [exported, wanted] of again) define(module.exports, exported, getter(wanted));
    if (all) {
      for (const key of Object.keys(exports)) if (key !== 'default') define(module.exports, key, getter(key));
    }
  }
  const exports = (getters) => Object.entries(getters).forEach(([key, get]) => define(module.exports, key, get));
  evaluate(code)({ scope, exports })();
  module.hasRun = true;
  return module.exports;
}

function loaded() {
  if (strategy !== undefined) return strategy;
  try {
    strategy = run(SEAM, new Map(read()), new Map());
    return strategy;
  } catch (exception) {
    const stack = String(exception?.stack ?? '').split('\n');
    const place = exception instanceof SyntaxError ? `${exception.fileName}:${exception.lineNumber}` : stack[0];
    write('error', [String(exception), ...stack.map((frame) => `  at ${frame}`)].join('\n'));
    write('error', `${exception} (${place})`);
    throw exception;
  }
}

export function describe() {
  return loaded().describe();
}

export function search(request) {
  return loaded().search(request);
}
