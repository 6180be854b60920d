// Where the followed documents stood, turn by turn: one line each, over the best rank of any branch of the turn, and a
// dot for every branch that found it. Ranks count logarithmically, since the difference of 1 and 2 matters most.

import { cut, h, s } from "./dom.js";
import { fate } from "./grove.js";

const HEIGHT = 196;
const MARGIN = { top: 14, right: 16, bottom: 26, left: 34 };
const GRID = [1, 3, 10, 30, 100];
/** Ranks beyond this lie on the bottom line with those that were not found. */
const DEEPEST = 100;
/** Narrower than this a turn has room for its number alone. */
const ROOM_FOR_WORDS = 90;
/** Room below rank 100 for "not found". */
const ABSENT = 24;

/** Best rank in each turn, null where no branch found the document, and its rank in the answer. */
export function course(id, grove, answerRank) {
  const found = grove.ranksOf(id);
  const perTurn = grove.turns().map((turn) => {
    const ranks = found.filter((one) => one.turn === turn).map(({ rank }) => rank);
    return ranks.length === 0 ? null : Math.min(...ranks);
  });
  return { found, perTurn, answerRank };
}

/** Draws into `figure`; `followed` is `[{id, title, slot, isOwn}]`, `answerRankOf` null before there is an answer. */
export function drawRanks(figure, { grove, followed, answerRankOf, width }) {
  const turns = grove.turns();
  if (turns.length === 0 || followed.length === 0 || width < 1) {
    figure.replaceChildren(h("p", { class: "none" }, "Choose a document to follow it over the turns."));
    return;
  }
  const columns = [...turns.map(String), "answer"];
  const step = (width - MARGIN.left - MARGIN.right) / Math.max(1, columns.length - 1);
  const x = (column) => MARGIN.left + column * step;
  const bottom = HEIGHT - MARGIN.bottom;
  const y = (rank) =>
    rank === null || DEEPEST < rank
      ? bottom
      : MARGIN.top + (Math.log(rank) / Math.log(DEEPEST)) * (bottom - ABSENT - MARGIN.top);
  const marks = [];
  for (const rank of GRID) {
    marks.push(s("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(rank), y2: y(rank), class: "grid" }));
    marks.push(s("text", { x: MARGIN.left - 8, y: y(rank) + 4, class: "tick end" }, String(rank)));
  }
  marks.push(s("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: bottom, y2: bottom, class: "grid absent" }));
  marks.push(s("text", { x: MARGIN.left - 8, y: bottom + 4, class: "tick end" }, "–"));
  for (const [at, name] of columns.entries()) {
    const anchor = at === columns.length - 1 ? "end" : at === 0 ? "start" : "middle";
    marks.push(
      s(
        "text",
        { x: x(at), y: HEIGHT - 6, class: `tick ${anchor}` },
        at === 0 && name === "0" && ROOM_FOR_WORDS <= step ? "your words" : name,
      ),
    );
  }
  const courses = followed.map((document) => ({
    ...document,
    ...course(document.id, grove, answerRankOf(document.id)),
  }));
  for (const { slot, found, perTurn, answerRank, title } of courses.toReversed()) {
    const ranks = answerRank === undefined ? perTurn : [...perTurn, answerRank];
    const points = ranks.map((rank, at) => `${x(at).toFixed(1)},${y(rank).toFixed(1)}`).join(" ");
    const line = s("g", { class: "course", "data-slot": slot });
    line.append(s("title", {}, title), s("polyline", { points }));
    for (const { turn, rank, branch } of found) {
      line.append(
        s(
          "circle",
          { cx: x(turns.indexOf(turn)), cy: y(rank), r: 3, "data-fate": fate(branch) },
          s("title", {}, `${title}: rank ${rank} in turn ${turn}, “${branch.query}”`),
        ),
      );
    }
    if (answerRank !== undefined)
      line.append(s("circle", { cx: x(ranks.length - 1), cy: y(answerRank), r: 4.5, class: "final" }));
    marks.push(line);
  }
  const svg = s(
    "svg",
    {
      viewBox: `0 0 ${width} ${HEIGHT}`,
      width,
      height: HEIGHT,
      role: "img",
      "aria-label": "Rank of the followed documents over the turns; the table below has the numbers",
    },
    marks,
  );
  const cell = (rank) => h("td", {}, rank === undefined ? "" : rank === null ? "not found" : String(rank));
  const table = h(
    "table",
    {},
    h("caption", {}, "Best rank in each turn"),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "Document"),
        columns.map((name) => h("th", { scope: "col" }, name === "answer" ? name : `turn ${name}`)),
      ),
    ),
    h(
      "tbody",
      {},
      courses.map(({ title, perTurn, answerRank }) =>
        h("tr", {}, h("th", { scope: "row" }, title), perTurn.map(cell), cell(answerRank)),
      ),
    ),
  );
  const legend = h(
    "figcaption",
    { class: "legend" },
    courses.map(({ slot, title, isOwn }) =>
      h(
        "span",
        { "data-slot": slot },
        h("i", { class: "swatch", "aria-hidden": true }),
        cut(title, 48),
        isOwn && h("span", { class: "faint" }, " · first of the answer"),
      ),
    ),
  );
  figure.replaceChildren(svg, legend, h("div", { class: "hidden" }, table));
}
