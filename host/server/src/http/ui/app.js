// The page: what the server offers, what the reader chose, columns side by side, and the address that says it all.

import { Refusal, forgetKey, get, hasKey, onKeyWanted } from "./api.js";
import { Column } from "./column.js";
import { count, h } from "./dom.js";
import { MOST_COLUMNS, MOST_FOLLOWED, newChoice, readState, writeState } from "./state.js";
import { Titles } from "./titles.js";

const byId = (id) => document.getElementById(id);
const parts = Object.fromEntries(
  [
    "search",
    "q",
    "index",
    "size",
    "go",
    "cancel",
    "add",
    "columns",
    "intro",
    "problem",
    "live",
    "version",
    "theme",
    "forget",
    "key",
  ].map((id) => [id, byId(id)]),
);

let state = readState(location.search);
/** What the server has: `{strategies, usual, policies, defaultPolicy}`. */
let offer = { strategies: [], usual: "", policies: [], defaultPolicy: "" };
let indices = [];
let columns = [];
let columnNumber = 0;
let running = null;
/** Colour of each followed document, by its place in the palette. */
const slots = new Map();

const page = {
  titles: new Titles("", () => {}),

  announce(words) {
    parts.live.textContent = words;
  },

  /** A document's title as the switch that follows it over the turns. */
  followButton(id, title) {
    const slot = slots.get(id);
    return h(
      "button",
      {
        type: "button",
        class: "follow",
        "data-focus": `follow-${id}`,
        "data-slot": slot,
        "aria-pressed": String(slot !== undefined),
        title: slot === undefined ? "Follow over the turns" : "Follow no longer",
        onclick: () => follow(id),
      },
      h("i", { class: "swatch", "aria-hidden": true }),
      title,
    );
  },

  /** Documents of a column's chart: those the reader chose, else the first of its answer. */
  followedIn(column) {
    if (0 < state.followed.length) {
      return state.followed.map((id) => ({ id, title: page.titles.of(id), slot: slots.get(id), isOwn: false }));
    }
    const id = column.firstId;
    return id === undefined ? [] : [{ id, title: page.titles.of(id), slot: 0, isOwn: true }];
  },

  /** How a document's rank differs from that in the first column. */
  comparison(column, id, rank) {
    const [first] = columns;
    if (column === first || !first?.hasAnswer) return false;
    const there = first.answerRank(id);
    const name = first.choice.strategy;
    if (there === null) return h("span", { class: "shift new", title: `not in the answer of ${name}` }, "new ");
    if (there === rank) return h("span", { class: "shift", title: `the same rank as in ${name}` }, "= ");
    return h(
      "span",
      { class: `shift ${rank < there ? "up" : "down"}`, title: `rank ${there} in ${name}` },
      `${rank < there ? "↑" : "↓"}${Math.abs(there - rank)} `,
    );
  },
};

function follow(id) {
  if (slots.has(id)) {
    slots.delete(id);
    state.followed = state.followed.filter((other) => other !== id);
  } else {
    // The oldest gives way.
    if (state.followed.length === MOST_FOLLOWED) slots.delete(state.followed.shift());
    state.followed.push(id);
    takeSlot(id);
  }
  remember();
  redraw();
}

function takeSlot(id) {
  const taken = new Set(slots.values());
  slots.set(
    id,
    [...Array(MOST_FOLLOWED).keys()].find((slot) => !taken.has(slot)),
  );
}

function redraw() {
  for (const column of columns) column.redraw();
}

function remember(isNew = false) {
  const address = writeState(state);
  if (address === location.search) return;
  if (isNew) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

/** Columns as the choices say; those that stay keep what they show. */
function layOut() {
  columns = state.choices.map(
    (choice) => columns.find((column) => column.choice === choice) ?? new Column(`c${++columnNumber}`, choice, page),
  );
  parts.columns.dataset.columns = columns.length;
  parts.columns.replaceChildren(...columns.map(({ element }) => element));
  for (const [at, column] of columns.entries()) {
    const remove = () => {
      state.choices.splice(at, 1);
      remember();
      layOut();
      parts.q.focus();
    };
    column.drawSettings(offer, String(at + 1), () => remember(), columns.length === 1 ? null : remove);
  }
  parts.add.disabled = MOST_COLUMNS <= columns.length;
  redraw();
}

function addColumn() {
  const used = state.choices.map(({ strategy }) => strategy);
  const names = offer.strategies.map(({ name }) => name);
  // One-shot search is what an adaptive one has to beat, its blind twin what the policy has to.
  const wanted = [offer.usual, "hybrid", "blind", ...names];
  const name = wanted.find((other) => !used.includes(other) && names.includes(other)) ?? used[0];
  state.choices.push(newChoice(name));
  remember();
  layOut();
  columns.at(-1).element.querySelector("select")?.focus();
}

function setRunning(controller) {
  running = controller;
  parts.go.hidden = controller !== null;
  parts.cancel.hidden = controller === null;
  document.body.dataset.state = controller === null ? "ready" : "running";
}

async function search() {
  state.query = parts.q.value.trim();
  if (state.query === "" || state.index === "") {
    parts.q.focus();
    return;
  }
  running?.abort();
  const controller = new AbortController();
  setRunning(controller);
  remember(true);
  document.title = `${state.query} · Orion`;
  parts.intro.hidden = true;
  page.titles = new Titles(state.index, redraw);
  const theirs = [...columns];
  for (const column of theirs) column.expect(state.query);
  redraw();
  page.announce("Searching");
  for (const column of theirs) {
    if (controller.signal.aborted) column.skip();
    else await column.run(state.index, state.size, controller.signal);
  }
  // Another search may have begun meanwhile.
  if (running === controller) setRunning(null);
  parts.forget.hidden = !hasKey();
}

function cancel() {
  running?.abort();
  parts.q.focus();
}

function fromState() {
  parts.q.value = state.query;
  parts.size.value = String(state.size);
  slots.clear();
  for (const id of state.followed) takeSlot(id);
  const isKnown = indices.some(({ index }) => index === state.index);
  if (state.index === "") state.index = indices[0]?.index ?? "";
  parts.index.replaceChildren(
    ...indices.map(({ index, "docs.count": documents }) =>
      h("option", { value: index, selected: index === state.index }, `${index} (${count(Number(documents))})`),
    ),
    ...(isKnown || state.index === "" || indices.some(({ index }) => index === state.index)
      ? []
      : [h("option", { value: state.index, selected: true }, `${state.index} (not here)`)]),
  );
  if (state.choices.length === 0) {
    state.choices = [newChoice(offer.usual)];
  }
  columns = [];
  layOut();
}

function problem(...content) {
  parts.problem.hidden = content.length === 0;
  parts.problem.replaceChildren(...content);
}

async function load() {
  problem();
  document.body.dataset.state = "loading";
  try {
    const [version, listed, known] = await Promise.all([
      get("_orion/version"),
      get("_cat/indices?format=json"),
      get("_orion/strategies"),
    ]);
    parts.version.textContent = version.version;
    indices = listed.filter(({ index }) => !index.startsWith(".")).sort((a, b) => (a.index < b.index ? -1 : 1));
    offer = {
      strategies: known.strategies,
      usual: known.default,
      policies: known.policies,
      defaultPolicy: known.default_policy,
    };
  } catch (error) {
    const reason = error instanceof Refusal ? `${error.type.replaceAll("_", " ")}: ${error.message}` : error.message;
    problem(
      h("strong", {}, "The server's indexes and strategies could not be read."),
      h("p", {}, reason),
      h("button", { type: "button", onclick: load }, "Try again"),
    );
    document.body.dataset.state = "failed";
    return;
  }
  document.body.dataset.state = "ready";
  parts.forget.hidden = !hasKey();
  fromState();
  if (indices.length === 0) {
    problem(
      h("strong", {}, "There is no index yet."),
      h(
        "p",
        {},
        "Make one with ",
        h("code", {}, "orion index add notes corpus.jsonl"),
        " or by sending documents to ",
        h("code", {}, "POST /notes/_bulk"),
        ".",
      ),
      h("button", { type: "button", onclick: load }, "Look again"),
    );
    return;
  }
  if (state.query === "") parts.q.focus();
  else await search();
}

onKeyWanted(
  (wasRefused) =>
    new Promise((resolve) => {
      const input = parts.key.querySelector("input");
      parts.key.querySelector(".refused").hidden = !wasRefused;
      input.value = "";
      parts.key.addEventListener(
        "close",
        () => resolve(parts.key.returnValue === "use" && input.value !== "" ? input.value.trim() : null),
        { once: true },
      );
      parts.key.returnValue = "";
      parts.key.showModal();
    }),
);

function nameTheme() {
  const name = globalThis.orionTheme.current();
  parts.theme.textContent = { auto: "◐", light: "○", dark: "●" }[name];
  parts.theme.setAttribute("aria-label", `Theme: ${name}`);
  parts.theme.title = `Theme: ${name}`;
}

parts.search.addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
parts.cancel.addEventListener("click", cancel);
parts.add.addEventListener("click", addColumn);
parts.index.addEventListener("change", () => {
  state.index = parts.index.value;
  remember();
});
parts.size.addEventListener("change", () => {
  const size = Number(parts.size.value);
  state.size = Number.isInteger(size) && 1 <= size && size <= 1000 ? size : 10;
  parts.size.value = String(state.size);
  remember();
});
parts.theme.addEventListener("click", () => {
  globalThis.orionTheme.next();
  nameTheme();
});
parts.forget.addEventListener("click", () => {
  forgetKey();
  parts.forget.hidden = true;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running !== null && !parts.key.open) cancel();
  const isTyping = event.target instanceof Element && event.target.closest("input, select, textarea, dialog") !== null;
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  parts.q.focus();
  parts.q.select();
});
let shownAddress = location.search;
addEventListener("popstate", () => {
  // Jumps inside the page come here too.
  if (location.search === shownAddress && location.hash !== "") return;
  shownAddress = location.search;
  running?.abort();
  state = readState(location.search);
  fromState();
  parts.intro.hidden = state.query !== "";
  if (state.query !== "") search();
});

nameTheme();
load();
