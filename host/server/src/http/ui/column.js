// One strategy's search: its settings, its state, its tree as it grows, its answer and its cost.

import { Refusal, searchStream } from "./api.js";
import { costOf } from "./cost.js";
import { count, counted, duration, h, refill } from "./dom.js";
import { Grove } from "./grove.js";
import { drawRanks } from "./ranks.js";
import { rankingItems } from "./ranking.js";
import { drawSettings } from "./settings.js";
import { drawSky } from "./sky.js";
import { searchBody } from "./state.js";
import { TreeView } from "./tree.js";

/** Milliseconds between two looks at the watch. */
const TICK_MS = 100;

export class Column {
  element;
  choice;
  #page;
  #id;
  #parts = {};
  #grove = new Grove();
  #tree = null;
  #reply = null;
  #ticker = 0;
  #isDrawn = true;
  #query = "";

  constructor(id, choice, page) {
    this.#id = id;
    this.choice = choice;
    this.#page = page;
    const part = (name, title, ...children) => h("section", { class: name }, h("h2", {}, title), ...children);
    const svg = document.querySelector("svg.empty").cloneNode();
    svg.setAttribute("class", "sky");
    this.#parts = {
      settings: h("div", { class: "settings", role: "group" }),
      status: h("div", { class: "status" }),
      sky: svg,
      rows: h("div", {}),
      list: h("ol", { class: "results" }),
      ranks: h("figure", { class: "chart" }),
      cost: h("div", {}),
    };
    const { settings, status, sky, rows, list, ranks, cost } = this.#parts;
    this.element = h(
      "article",
      { class: "column", id, "data-state": "idle" },
      settings,
      status,
      part("tree-part", "Search tree", sky, rows),
      h(
        "div",
        { class: "answer" },
        part("ranking", "Answer", list),
        part("ranks", "Rank over the turns", ranks),
        part("cost", "Time and tokens", cost),
      ),
    );
    new ResizeObserver(() => this.redraw()).observe(this.element);
  }

  /** Draws the settings: after the number of columns or the server's offer changed. */
  drawSettings(offer, label, onChange, onRemove) {
    this.#parts.settings.setAttribute("aria-label", `Strategy ${label}`);
    this.element.setAttribute("aria-label", `Column ${label}`);
    drawSettings(this.#parts.settings, { choice: this.choice, offer, label, onChange, onRemove });
  }

  /** The next search will run here: what the last one left is cleared. */
  expect(query) {
    this.#query = query;
    this.#reply = null;
    this.#grove = new Grove();
    this.#tree = new TreeView(this.#id, `Search tree of ${this.choice.strategy}`, this.#grove, {
      titles: this.#page.titles,
      followButton: (id, title) => this.#page.followButton(id, title),
      answerRank: (id) => this.answerRank(id),
      onOpen: () => this.redraw(),
    });
    this.#parts.rows.replaceChildren(this.#tree.element);
    this.#parts.list.replaceChildren(h("li", { class: "none" }, "The answer comes last."));
    this.#parts.cost.replaceChildren();
    this.#state(
      "waiting",
      h("p", {}, "Waiting for its turn; searches run one after another, so that their times compare."),
    );
  }

  /** Searches. Gives whether there was an answer; says itself what went wrong. */
  async run(index, size, signal) {
    const started = performance.now();
    const watch = h("span", { class: "watch" }, "0.0 s");
    this.#state("running", h("p", {}, h("span", { class: "pulse", "aria-hidden": true }), "Searching ", watch));
    this.#grove.start();
    this.#ticker = setInterval(() => {
      watch.textContent = `${((performance.now() - started) / 1000).toFixed(1)} s`;
    }, TICK_MS);
    try {
      const reply = await searchStream(
        index,
        searchBody(this.#query, size, this.choice),
        (branch) => {
          this.#grove.put(branch);
          this.#schedule();
        },
        signal,
      );
      this.#finish(reply);
      return true;
    } catch (error) {
      this.#fail(error, performance.now() - started);
      return false;
    } finally {
      clearInterval(this.#ticker);
    }
  }

  /** Rank in the answer from 1, or null. */
  answerRank(id) {
    const at = (this.#reply?.hits.hits ?? []).findIndex((hit) => hit._id === id);
    return at < 0 ? null : at + 1;
  }

  get hasAnswer() {
    return this.#reply !== null;
  }

  get firstId() {
    return this.#reply?.hits.hits[0]?._id;
  }

  /** Draws everything that depends on titles, followed documents or width. */
  redraw() {
    this.#tree?.update();
    this.#drawSky();
    this.#drawRanks();
    if (this.#reply !== null) this.#drawRanking();
  }

  #schedule() {
    if (!this.#isDrawn) return;
    this.#isDrawn = false;
    requestAnimationFrame(() => {
      this.#isDrawn = true;
      this.#tree.update();
      this.#drawSky();
      this.#drawRanks();
    });
  }

  #finish(reply) {
    const adaptive = reply.ext?.adaptive ?? {};
    this.#reply = reply;
    this.#grove.finish(adaptive.tree);
    this.#tree.finish();
    for (const hit of reply.hits.hits) this.#page.titles.learn(hit._id, hit._source);
    const flags = [
      flag("degraded", "Degraded", adaptive.degraded),
      adaptive.degraded ? null : flag("partial", "Partial", adaptive.partial),
    ].filter(Boolean);
    this.#state("done", h("p", {}, totals(reply, adaptive)), ...flags);
    this.#parts.cost.replaceChildren(...costOf(adaptive).filter(Boolean));
    this.redraw();
    if (this.#grove.branches.size === 0) {
      this.#parts.rows.replaceChildren(h("p", { class: "none" }, "This strategy keeps no tree."));
    }
    const words = `${this.choice.strategy}: ${counted(reply.hits.hits.length, "document", "documents")}`;
    this.#page.announce([words, ...flags.map((element) => element.textContent)].join(". "));
  }

  #fail(error, ms) {
    this.#tree.finish();
    this.#tree.update();
    this.#parts.list.replaceChildren(h("li", { class: "none" }, "No answer."));
    if (error.name === "AbortError") {
      this.#state("cancelled", h("p", {}, ms === null ? "Not begun." : `Cancelled after ${duration(ms)}.`));
      this.#page.announce(`${this.choice.strategy}: cancelled`);
      return;
    }
    const refusal = error instanceof Refusal ? error : new Refusal("fault of this page", error.message);
    this.#state(
      "failed",
      h(
        "div",
        { class: "failure", role: "alert" },
        h("strong", {}, refusal.type.replaceAll("_", " ")),
        h("p", {}, refusal.message),
        refusal.causes.map((cause) => h("p", { class: "faint" }, cause)),
        0 < refusal.status && h("p", { class: "faint" }, `status ${refusal.status}`),
      ),
    );
  }

  /** What is left when a search before this one was cancelled. */
  skip() {
    this.#fail(new DOMException("", "AbortError"), null);
  }

  #state(name, ...content) {
    this.element.dataset.state = name;
    this.element.setAttribute("aria-busy", String(name === "running" || name === "waiting"));
    this.#parts.status.replaceChildren(...content);
  }

  #drawSky() {
    drawSky(this.#parts.sky, this.#grove, {
      width: Math.floor(this.#parts.rows.clientWidth),
      open: this.#tree?.open,
      onPick: (number) => this.#tree.toggle(number),
    });
  }

  #drawRanks() {
    const followed = this.#page.followedIn(this);
    this.#page.titles.want(followed.map(({ id }) => id));
    drawRanks(this.#parts.ranks, {
      grove: this.#grove,
      followed,
      answerRankOf: (id) => (this.#reply === null ? undefined : this.answerRank(id)),
      width: Math.floor(this.#parts.ranks.clientWidth),
    });
  }

  #drawRanking() {
    const { hits } = this.#reply.hits;
    if (hits.length === 0) {
      this.#parts.list.replaceChildren(h("li", { class: "none" }, "No document answers this query."));
      return;
    }
    const opened = [...this.#parts.list.children].map((item) => item.querySelector("details")?.open ?? false);
    refill(
      this.#parts.list,
      rankingItems(hits, this.#query, {
        followButton: (id, title) => this.#page.followButton(id, title),
        comparison: (id, rank) => this.#page.comparison(this, id, rank),
        foundBy: (id) => this.#foundBy(id),
      }),
    );
    for (const [at, item] of [...this.#parts.list.children].entries()) {
      const details = item.querySelector("details");
      if (details !== null) details.open = opened[at] ?? false;
    }
  }

  /** `first in 3 of 10 branches` or the like: why a document is in the answer. */
  #foundBy(id) {
    const branches = [...this.#grove.branches.values()].filter(({ hits }) => 0 < hits.length);
    const found = this.#grove.ranksOf(id);
    if (branches.length < 2 || found.length === 0) return false;
    const best = Math.min(...found.map(({ rank }) => rank));
    return h(
      "span",
      {},
      ` · found by ${count(found.length)} of ${counted(branches.length, "branch", "branches")}, at best rank ${count(best)}`,
    );
  }
}

function totals(reply, { cost, confidence }) {
  if (cost === undefined || cost === null) return duration(reply.took);
  const parts = [duration(cost.total_ms), counted(cost.retrievals, "retrieval", "retrievals")];
  if (0 < cost.tokens_prefilled + cost.tokens_decoded) {
    parts.push(`${count(cost.tokens_prefilled)} tokens read, ${count(cost.tokens_decoded)} written`);
  }
  if (typeof confidence === "number") parts.push(`confidence ${confidence.toFixed(2)}`);
  return parts.join(" · ");
}

/** A mark with its reason, whatever shape the reason has; nothing where the flag is not set. */
function flag(kind, title, value) {
  if (value === undefined || value === null || value === false) return null;
  const said = typeof value === "string" ? value : [value.kind, value.reason].filter(Boolean).join(": ");
  const usual = {
    degraded: "the strategy failed and the plain ranking stands in",
    partial: "a budget ran out before the search was done",
  }[kind];
  return h("p", { class: `flag ${kind}` }, h("strong", {}, title), ` ${usual}${said === "" ? "" : `: ${said}`}.`);
}
