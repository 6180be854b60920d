// The answer: documents in order, each with the passage of its text that says most about the query.

import { cut, h } from "./dom.js";

/** Characters of a snippet. */
const SNIPPET = 240;
/** Words too common to mark. */
const COMMON = new Set(
  (
    "a about after all an and any are as at be been before but by can could did do does for from had has have how if in " +
    "into is it its of on or over than that the their then there these they this those through to under up was were what when where which " +
    "while who whom whose why will with would"
  ).split(" "),
);

/** List items for the hits of a reply. */
export function rankingItems(hits, query, page) {
  const words = wordsOf(query);
  return hits.map((hit, at) => {
    const { _id: id, _score: score, _source: source } = hit;
    const title = String(source?.title ?? "").trim();
    const text = String(source?.text ?? "")
      .replace(/\s+/g, " ")
      .trim();
    const snippet = snippetOf(text, words);
    const others = Object.entries(source ?? {}).filter(([name]) => name !== "title" && name !== "text");
    const origin = [h("span", { class: "id" }, id), page.foundBy(id)];
    const hasMore = snippet.length < text.length || 0 < others.length;
    return h(
      "li",
      { class: "result" },
      h("span", { class: "rank" }, String(at + 1)),
      h(
        "div",
        { class: "body" },
        h(
          "div",
          { class: "headline" },
          page.followButton(id, title || cut(text, 80) || id),
          h("span", { class: "aside" }, page.comparison(id, at + 1), typeof score === "number" && score.toFixed(3)),
        ),
        text !== "" && h("p", { class: "snippet" }, marked(snippet, words)),
        hasMore
          ? h(
              "details",
              { class: "whole" },
              h("summary", { class: "source", "data-focus": `whole-${id}`, title: "The whole document" }, origin),
              text !== "" && h("p", {}, marked(text, words)),
              0 < others.length &&
                h(
                  "dl",
                  {},
                  others.map(([name, value]) => [
                    h("dt", {}, name),
                    h("dd", {}, typeof value === "string" ? value : JSON.stringify(value)),
                  ]),
                ),
            )
          : h("p", { class: "source" }, origin),
      ),
    );
  });
}

function wordsOf(query) {
  return (query.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).filter((word) => !COMMON.has(word));
}

/** Whether a word of a text belongs to a word of the query: the same, or the same beginning up to an ending. */
function matches(word, words) {
  const lower = word.toLowerCase();
  return words.some(
    (wanted) =>
      lower === wanted ||
      (4 <= wanted.length && lower.startsWith(wanted) && lower.length <= wanted.length + 3) ||
      (4 <= lower.length && wanted.startsWith(lower) && wanted.length <= lower.length + 3),
  );
}

/** The window of the text with most of the query's words, the earliest of equals, cut at words. */
export function snippetOf(text, words) {
  if (text.length <= SNIPPET) return text;
  const tokens = [...text.matchAll(/[\p{L}\p{N}]+/gu)].map((found) => ({
    at: found.index,
    hit: matches(found[0], words),
  }));
  let best = { from: 0, hits: -1 };
  let end = 0;
  let inside = 0;
  for (const [start, token] of tokens.entries()) {
    while (end < tokens.length && tokens[end].at < token.at + SNIPPET - 20) inside += tokens[end++].hit;
    if (best.hits < inside) best = { from: start === 0 ? 0 : token.at, hits: inside };
    inside -= token.hit;
  }
  const rest = text.slice(best.from);
  return `${best.from === 0 ? "" : "… "}${cut(rest, SNIPPET)}`;
}

/** The text with the query's words marked. */
function marked(text, words) {
  return text
    .split(/([\p{L}\p{N}]+)/u)
    .map((part, at) => (at % 2 === 1 && matches(part, words) ? h("mark", {}, part) : part));
}
