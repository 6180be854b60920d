// What a search is made of, and its form in the address, so that a search can be shared:
// `?q=…&index=…&size=10&s=beam~turns=4~budget.ms=500&s=hybrid&doc=…`, one `s` for each column.

export const MOST_COLUMNS = 3;
export const MOST_FOLLOWED = 5;
export const BUDGETS = ["ms", "tokens", "retrievals"];
/** What a search may say of itself beside its strategy's parameters. */
export const CHOSEN = ["policy", "seed"];

/** A column's choices: strategy, values of its parameters, budgets, and the rest. Only what was chosen is kept. */
export function newChoice(strategy) {
  return { strategy, parameters: {}, budget: {}, search: {} };
}

function writeChoice({ strategy, parameters, budget, search }) {
  const named = (group, values) => Object.entries(values).map(([name, value]) => [`${group}.${name}`, value]);
  const pairs = [...Object.entries(parameters), ...named("budget", budget), ...named("search", search)];
  const escape = (text) => encodeURIComponent(text).replaceAll("~", "%7E");
  return [escape(strategy), ...pairs.map(([name, value]) => `${escape(name)}=${escape(value)}`)].join("~");
}

function unescape(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // Typed by hand: taken as it stands.
  }
}

function readChoice(text) {
  const [strategy, ...pairs] = text.split("~");
  const choice = newChoice(unescape(strategy));
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    if (at < 1) continue;
    const name = unescape(pair.slice(0, at));
    const value = unescape(pair.slice(at + 1));
    const [, group, member] = /^(budget|search)\.(.*)$/.exec(name) ?? [];
    if (group === undefined) choice.parameters[name] = value;
    else if ((group === "budget" ? BUDGETS : CHOSEN).includes(member)) choice[group][member] = value;
  }
  return choice;
}

/** The address's search part for a state. */
export function writeState({ query, index, size, choices, followed }) {
  const parameters = new URLSearchParams();
  if (query !== "") parameters.set("q", query);
  if (index !== "") parameters.set("index", index);
  if (size !== 10) parameters.set("size", String(size));
  for (const choice of choices) parameters.append("s", writeChoice(choice));
  for (const id of followed) parameters.append("doc", id);
  return `?${parameters}`;
}

/** The state in an address; what is missing or senseless is left at its default. */
export function readState(search) {
  const parameters = new URLSearchParams(search);
  const size = Number(parameters.get("size") ?? 10);
  const choices = parameters
    .getAll("s")
    .slice(0, MOST_COLUMNS)
    .filter((text) => text !== "")
    .map(readChoice);
  return {
    query: parameters.get("q") ?? "",
    index: parameters.get("index") ?? "",
    size: Number.isInteger(size) && 1 <= size && size <= 1000 ? size : 10,
    choices,
    followed: [...new Set(parameters.getAll("doc"))].slice(0, MOST_FOLLOWED),
  };
}

/** The body of a search. Parameters go as they were typed: the server knows their kinds. */
export function searchBody(query, size, { strategy, parameters, budget, search }) {
  const adaptive = { strategy, trace: true };
  if (0 < Object.keys(parameters).length) adaptive.params = parameters;
  const limits = Object.entries(budget).map(([name, value]) => [name, Number(value)]);
  if (0 < limits.length) adaptive.budget = Object.fromEntries(limits);
  if (search.policy !== undefined) adaptive.policy = search.policy;
  if (search.seed !== undefined) adaptive.seed = Number(search.seed);
  return { query: { match: { text: query } }, size, ext: { adaptive } };
}
