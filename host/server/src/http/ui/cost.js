// What a search spent: one row for each round of calls, and every call behind a disclosure.

import { count, duration, h, withProperty } from "./dom.js";

/** Calls in rounds: a round begins where the policy proposes, or, without a policy, where something is looked up. */
export function rounds(calls) {
  const opens = calls.some(({ call }) => call === "policy.propose") ? "policy.propose" : "retrieval.search";
  const result = [];
  for (const call of calls) {
    if (result.length === 0 || call.call === opens) result.push([]);
    result.at(-1).push(call);
  }
  return result;
}

function sum(calls, of) {
  return calls.reduce((total, call) => total + of(call), 0);
}

const isModel = ({ call }) => call.startsWith("policy.") || call.startsWith("feedback.");
const read = ({ usage }) => usage.prefilled_tokens;
const written = ({ usage }) => usage.decoded_tokens;

/** The cost of a reply, as elements. */
export function costOf({ tree, cost, call_ms: times }) {
  const calls = (tree?.calls ?? []).map((call, at) => ({ ...call, ms: times?.[at] ?? null }));
  if (calls.length === 0) return [h("p", { class: "none" }, "No calls were recorded.")];
  const isTimed = calls.every(({ ms }) => ms !== null);
  const weight = isTimed ? ({ ms }) => ms : (call) => read(call) + written(call);
  const all = rounds(calls);
  const heaviest = Math.max(...all.map((round) => sum(round, weight)), 1e-9);
  const bar = (round) => {
    const parts = [
      ["model", round.filter(isModel)],
      ["retrieval", round.filter((call) => !isModel(call))],
    ];
    return h(
      "span",
      { class: "spent", "aria-hidden": true },
      parts.map(([name, its]) => withProperty(h("i", { class: name }), "--share", String(sum(its, weight) / heaviest))),
    );
  };
  const row = (name, round) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      h("td", { class: "wide" }, bar(round)),
      isTimed && h("td", {}, duration(sum(round, ({ ms }) => ms))),
      h("td", {}, count(sum(round, read))),
      h("td", {}, count(sum(round, written))),
    );
  const head = h(
    "tr",
    {},
    h("th", { scope: "col" }, "Round"),
    h(
      "th",
      { scope: "col", class: "wide" },
      h("span", { class: "key" }, h("i", { class: "model" }), "model ", h("i", { class: "retrieval" }), "retrieval"),
    ),
    isTimed && h("th", { scope: "col" }, "Time"),
    h("th", { scope: "col" }, "Read"),
    h("th", { scope: "col" }, "Written"),
  );
  const hasStart = 1 < all.length && all[0][0].call !== all[1][0].call;
  return [
    h(
      "table",
      { class: "rounds" },
      h("thead", {}, head),
      h(
        "tbody",
        {},
        all.map((round, at) => row(hasStart ? (at === 0 ? "start" : String(at)) : String(at + 1), round)),
      ),
    ),
    h(
      "details",
      { class: "calls" },
      h("summary", {}, `Every call · ${count(calls.length)}`),
      h(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "Every call" },
        h(
          "table",
          {},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              ["Call", "Items", "Read", "Written", isTimed && "Time"]
                .filter(Boolean)
                .map((name) => h("th", { scope: "col" }, name)),
            ),
          ),
          h(
            "tbody",
            {},
            calls.map((call) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, call.call, call.error && h("span", { class: "error" }, ` ${call.error}`)),
                h("td", {}, count(call.items)),
                h("td", {}, count(read(call))),
                h("td", {}, count(written(call))),
                isTimed && h("td", {}, duration(call.ms)),
              ),
            ),
          ),
        ),
      ),
    ),
    ...(tree.log ?? []).map(({ level, message }) =>
      h("p", { class: "said" }, h("span", { class: "faint" }, `${level.toLowerCase()}: `), message),
    ),
    cost && h("p", { class: "help" }, summaryOf(cost)),
  ];
}

function summaryOf(cost) {
  const parts = [`${count(cost.nodes)} policy nodes`, `${count(cost.host_calls)} host calls`];
  if (0 < cost.peak_memory_bytes) parts.push(`sandbox ${(cost.peak_memory_bytes / 1048576).toFixed(1)} MiB at most`);
  if (0 < cost.fuel) parts.push(`${count(cost.fuel)} instructions`);
  return parts.join(" · ");
}
