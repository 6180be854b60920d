// collect.mjs TOOLCHAIN FOLDER SEAM: the modules of a folder that SEAM leads to, as JSON, each as a function that
// shell.js can run. Whatever a function cannot do as a module does makes the folder unfit, and then it is built instead.
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const [toolchain, folder, seam] = process.argv.slice(1);
const { parse } = createRequire(path.join(toolchain, 'package.json'))('acorn');

class Unfit extends Error {}

/** Refuses what needs a real module: `await` at the top, `import()`, `import.meta`. */
function refuse(node, isInFunction, file) {
  if (Array.isArray(node)) return node.forEach((inner) => refuse(inner, isInFunction, file));
  if (node === null || typeof node?.type !== 'string') return;
  const { type } = node;
  if (type === 'ImportExpression' || (type === 'MetaProperty' && node.meta.name === 'import')) {
    throw new Unfit(`${file} uses \`import()\` or \`import.meta\``);
  }
  if (!isInFunction && (type === 'AwaitExpression' || (type === 'ForOfStatement' && node.await))) {
    throw new Unfit(`${file} uses \`await\` outside functions`);
  }
  const isInside = isInFunction || /Function/.test(type);
  for (const value of Object.values(node)) if (typeof value === 'object') refuse(value, isInside, file);
}

/** Names that a declaration's pattern binds. */
function bound(pattern) {
  switch (pattern?.type) {
    case 'Identifier': return [pattern.name];
    case 'ObjectPattern': return pattern.properties.flatMap((property) => bound(property.value ?? property.argument));
    case 'ArrayPattern': return pattern.elements.flatMap(bound);
    case 'AssignmentPattern': return bound(pattern.left);
    case 'RestElement': return bound(pattern.argument);
    default: return [];
  }
}

const named = (node) => node.name ?? node.value;

/** A module as a function's text, lines kept, and what it takes from which other module. */
function translated(file, text) {
  let tree;
  try {
    tree = parse(text, { ecmaVersion: 'latest', sourceType: 'module', allowHashBang: true });
  } catch (error) {
    throw new Unfit(`${file}: ${error.message}`);
  }
  refuse(tree.body, false, file);
  const links = [];
  const getters = [];
  const changes = [];
  const blank = (start, end) => changes.push([start, end, text.slice(start, end).replace(/[^\r\n]/g, ' ')]);
  const getter = (name, expression) => getters.push(`${JSON.stringify(name)}:()=>${expression}`);
  for (const node of tree.body) {
    const { type } = node;
    if (node.source && (node.attributes?.length ?? 0) > 0) throw new Unfit(`${file} imports with attributes`);
    if (type === 'ImportDeclaration') {
      const names = node.specifiers.map((one) => {
        const imported = { ImportNamespaceSpecifier: '*', ImportDefaultSpecifier: 'default' }[one.type];
        return [one.local.name, imported ?? named(one.imported)];
      });
      links.push({ from: node.source.value, names, again: [], all: false });
      blank(node.start, node.end);
    } else if (type === 'ExportAllDeclaration') {
      const again = node.exported ? [[named(node.exported), '*']] : [];
      links.push({ from: node.source.value, names: [], again, all: !node.exported });
      blank(node.start, node.end);
    } else if (type === 'ExportNamedDeclaration' && node.source) {
      const again = node.specifiers.map((one) => [named(one.exported), named(one.local)]);
      links.push({ from: node.source.value, names: [], again, all: false });
      blank(node.start, node.end);
    } else if (type === 'ExportNamedDeclaration' && node.declaration) {
      const { declaration } = node;
      const names = declaration.id ? [declaration.id.name] : declaration.declarations.flatMap((one) => bound(one.id));
      names.forEach((name) => getter(name, name));
      blank(node.start, declaration.start);
    } else if (type === 'ExportNamedDeclaration') {
      node.specifiers.forEach((one) => getter(named(one.exported), one.local.name));
      blank(node.start, node.end);
    } else if (type === 'ExportDefaultDeclaration') {
      const name = node.declaration.id?.name;
      const keywords = /^export\s+default/.exec(text.slice(node.start))?.[0];
      if (keywords === undefined) throw new Unfit(`${file} has a comment between \`export\` and \`default\``);
      const end = node.start + keywords.length;
      if (name !== undefined && /Declaration$/.test(node.declaration.type)) blank(node.start, end);
      else changes.push([node.start, end, `const $default=${keywords.replace(/[^\r\n]/g, '')}`]);
      getter('default', name !== undefined && /Declaration$/.test(node.declaration.type) ? name : '$default');
    }
  }
  let body = text.startsWith('#!') ? `//${text.slice(2)}` : text;
  for (const [start, end, replacement] of changes.sort((left, right) => right[0] - left[0])) {
    body = body.slice(0, start) + replacement + body.slice(end);
  }
  const head = `(function($orion){with($orion.scope){return function(){"use strict";$orion.exports({${getters.join()}});`;
  return { links, code: `${head}${body}\n}}})\n//# sourceURL=${file}` };
}

const files = new Map();
const waiting = [seam];
let unfit = null;
try {
  while (waiting.length > 0) {
    const file = waiting.pop();
    if (files.has(file)) continue;
    const module = translated(file, readFileSync(path.join(folder, file), 'utf8'));
    files.set(file, module);
    for (const link of module.links) {
      if (link.from.startsWith('orion:')) continue;
      if (!/^\.\.?\//.test(link.from)) throw new Unfit(`${file} imports \`${link.from}\``);
      link.from = path.posix.join(path.posix.dirname(file), link.from);
      if (!existsSync(path.join(folder, link.from))) throw new Unfit(`${file} imports \`${link.from}\`, which is not there`);
      waiting.push(link.from);
    }
  }
} catch (error) {
  if (!(error instanceof Unfit)) throw error;
  unfit = error.message;
}
const texts = unfit === null ? [...files].map(([file, module]) => [file, JSON.stringify(module)]) : [];
process.stdout.write(JSON.stringify({ files: texts, outside: [], unfit }));
