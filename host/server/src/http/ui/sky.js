// The whole tree at a glance: dots by turn, lines from parent to child. A picture for the pointer; everything in it
// can also be reached and read in the rows below it, so it is hidden from screen readers.

import { cut, s } from "./dom.js";
import { FATE_WORDS, fate } from "./grove.js";

/** Beyond this many branches the picture would be dust. */
const MOST_DRAWN = 150;
const ROW = 22;
const MARGIN = { top: 26, right: 14, bottom: 12, left: 12 };
/** Narrower than this a turn has no room for words, only for dots. */
const ROOM_FOR_WORDS = 96;
/** Width of a letter of a label, on average and rather more than less. */
const LETTER = 7.2;

/** Draws into `svg`, `width` pixels wide; `onPick` hears of the branch that is clicked. */
export function drawSky(svg, grove, { width, open, onPick }) {
  const steps = grove.walk();
  const isDrawn = 1 < steps.length && steps.length <= MOST_DRAWN && 0 < width;
  svg.toggleAttribute("hidden", !isDrawn);
  if (!isDrawn) return;
  const turns = grove.turns();
  const columnWidth = (width - MARGIN.left - MARGIN.right) / turns.length;
  const places = placed(steps, turns, columnWidth);
  const lowest = Math.max(...[...places.values()].map(({ y }) => y));
  const height = lowest + MARGIN.bottom + 6;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  const headings = turns.map((turn, at) =>
    s(
      "text",
      { x: MARGIN.left + 2 + at * columnWidth, y: 11, class: "turn" },
      columnWidth < 52 ? turn : `turn ${turn}`,
    ),
  );
  const edges = [];
  const dots = [];
  for (const { branch } of steps) {
    const here = places.get(branch.branch);
    const parent = places.get(branch.parent);
    const kind = fate(branch);
    if (parent !== undefined) {
      const middle = here.x - Math.min(13, (here.x - parent.x) / 2);
      const path = `M${parent.x} ${parent.y} H${middle - 10} C${middle} ${parent.y} ${middle - 10} ${here.y} ${middle} ${here.y} H${here.x}`;
      edges.push({ kind, line: s("path", { d: path, class: "edge", "data-fate": kind }) });
    }
    const radius =
      branch.confidence === null || branch.confidence < 0 || 1 < branch.confidence ? 4.5 : 3.5 + 3 * branch.confidence;
    const words = ROOM_FOR_WORDS <= columnWidth ? cut(branch.query, Math.floor((columnWidth - 36) / LETTER)) : "";
    dots.push(
      s(
        "g",
        {
          class: "dot",
          "data-fate": kind,
          "data-open": branch.branch === open || undefined,
          onclick: () => onPick(branch.branch),
        },
        s("title", {}, `${branch.query} (${FATE_WORDS[kind]})`),
        s("rect", {
          x: here.x - 11,
          y: here.y - ROW / 2,
          width: Math.max(22, columnWidth - 4),
          height: ROW,
          class: "target",
        }),
        s("circle", { cx: here.x, cy: here.y, r: radius }),
        words !== "" && [
          // Lines pass behind words, not through them.
          s("rect", {
            x: here.x + radius + 1,
            y: here.y - 8,
            width: 9 + LETTER * Array.from(words).length - radius,
            height: 16,
            class: "under",
          }),
          s("text", { x: here.x + 11, y: here.y + 4 }, words),
        ],
      ),
    );
  }
  // What is in the answer lies on top.
  const order = ["pruned", "kept", "chosen"];
  edges.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
  svg.replaceChildren(...headings, ...edges.map(({ line }) => line), ...dots);
}

/** Every turn is a column; rows go to the children in order, the first beside its parent. */
function placed(steps, turns, columnWidth) {
  const places = new Map();
  let row = -1;
  const taken = new Set();
  for (const { branch } of steps) {
    // The first child continues its parent's row, every other opens a new one.
    const isFirst = places.has(branch.parent) && !taken.has(branch.parent);
    if (!isFirst) row += 1;
    taken.add(branch.parent);
    const column = turns.indexOf(branch.turn);
    places.set(branch.branch, {
      x: MARGIN.left + 6 + column * columnWidth,
      y: MARGIN.top + ROW / 2 + (isFirst ? places.get(branch.parent).y - MARGIN.top - ROW / 2 : row * ROW),
    });
  }
  return places;
}
