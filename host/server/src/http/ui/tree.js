// The search tree as a list of rows, an ARIA tree: arrows walk it, Enter opens a branch's details below its row.

import { count, counted, duration, h, refill, withProperty } from "./dom.js";
import { FATE_MARKS, FATE_WORDS, fate } from "./grove.js";

/** Rows drawn before the reader asks for more: beyond that a tree is no picture any more. */
const ROWS_SHOWN = 400;
/** Hits shown of an open branch before the reader asks for more. */
const HITS_SHOWN = 10;
/** Deeper branches are not indented further. */
const DEEPEST_INDENT = 8;

export class TreeView {
  element;
  #page;
  #grove;
  #id;
  #rows = new Map();
  /** What each row was last drawn from. */
  #drawn = new Map();
  #tree;
  #list;
  #collapsed = new Set();
  #focused = null;
  #open = null;
  #allHits = false;
  #allRows = false;
  #isFinished = false;
  #details;

  constructor(id, label, grove, page) {
    this.#id = id;
    this.#grove = grove;
    this.#page = page;
    this.#tree = h("div", { role: "tree", "aria-label": label });
    this.#details = h("div", {
      class: "details",
      id: `${id}-details`,
      role: "region",
      "aria-label": "Details of the open branch",
    });
    this.#list = h("div", {
      class: "rows",
      onkeydown: (event) => this.#key(event),
      onclick: (event) => this.#click(event),
    });
    this.element = h("div", { class: "tree" }, this.#tree, this.#list);
  }

  /** Draws what changed. */
  update() {
    const steps = this.#visible();
    const shown = this.#allRows ? steps : steps.slice(0, ROWS_SHOWN);
    this.#focused ??= shown[0]?.branch.branch ?? null;
    const wanted = [];
    for (const step of shown) {
      wanted.push(this.#row(step));
      if (step.branch.branch === this.#open) wanted.push(this.#details);
    }
    this.#place(wanted);
    this.#tree.setAttribute("aria-owns", shown.map((step) => this.#rowId(step.branch.branch)).join(" "));
    this.#drawDetails();
    this.element.querySelector(".more-rows")?.remove();
    if (shown.length < steps.length) {
      this.element.append(
        h(
          "button",
          {
            type: "button",
            class: "quiet more-rows",
            onclick: () => {
              this.#allRows = true;
              this.update();
            },
          },
          `Draw ${count(steps.length - shown.length)} more branches`,
        ),
      );
    }
  }

  /** Opens a branch's details, or closes them, and moves the focus there. */
  toggle(number) {
    this.#open = this.#open === number ? null : number;
    this.#allHits = false;
    for (let at = this.#grove.branches.get(number); at !== undefined; at = this.#grove.branches.get(at.parent)) {
      if (at.branch !== number) this.#collapsed.delete(at.branch);
    }
    this.#focus(number);
    this.#page.onOpen(this.#open);
  }

  /** Nothing changes any more: what is neither chosen nor pruned was kept. */
  finish() {
    this.#isFinished = true;
  }

  get open() {
    return this.#open;
  }

  #visible() {
    let hiddenBelow = Infinity;
    return this.#grove.walk().filter(({ branch, level }) => {
      if (hiddenBelow < level) return false;
      hiddenBelow = this.#collapsed.has(branch.branch) ? level : Infinity;
      return true;
    });
  }

  #rowId(number) {
    return `${this.#id}-branch-${number}`;
  }

  #row(step) {
    const { branch, level } = step;
    let row = this.#rows.get(branch.branch);
    if (row === undefined) {
      row = h("div", {
        role: "treeitem",
        class: "row fresh",
        id: this.#rowId(branch.branch),
        "data-branch": branch.branch,
      });
      this.#rows.set(branch.branch, row);
    }
    withProperty(row, "--level", String(Math.min(level - 1, DEEPEST_INDENT)));
    row.tabIndex = branch.branch === this.#focused ? 0 : -1;
    const state = {
      "aria-level": level,
      "aria-posinset": step.place,
      "aria-setsize": step.siblings,
      "aria-selected": branch.branch === this.#open,
      "aria-expanded": 0 < step.children ? !this.#collapsed.has(branch.branch) : null,
      "data-fate": fate(branch),
    };
    for (const [name, value] of Object.entries(state)) {
      if (value === null) row.removeAttribute(name);
      else row.setAttribute(name, value);
    }
    // A branch that changed is another object.
    const content = [
      branch,
      step.children,
      this.#collapsed.has(branch.branch),
      this.#isFinished,
      ...this.#topTitles(branch),
    ];
    const drawn = this.#drawn.get(branch.branch);
    if (drawn === undefined || drawn.length !== content.length || drawn.some((one, at) => one !== content[at])) {
      this.#drawn.set(branch.branch, content);
      row.replaceChildren(...this.#rowContent(step));
    }
    return row;
  }

  #topTitles(branch) {
    return branch.hits.slice(0, 2).map(({ id }) => this.#page.titles.of(id));
  }

  #rowContent({ branch, children }) {
    const kind = fate(branch);
    const retriever = branch.retriever.toLowerCase();
    const isHidden = this.#collapsed.has(branch.branch);
    const isOpen = !this.#isFinished && kind === "kept" && branch.confidence === null;
    const found =
      0 < branch.hits.length ? this.#topTitles(branch).join(" · ") : isOpen ? "looking it up" : "nothing found";
    const words = isOpen ? "open" : FATE_WORDS[kind];
    this.#page.titles.want(branch.hits.slice(0, 2).map(({ id }) => id));
    return [
      h("span", { class: "mark", title: words }, h("span", { "aria-hidden": true }, FATE_MARKS[kind])),
      h(
        "div",
        { class: "what" },
        branch.think.trim() !== "" && h("p", { class: "think" }, branch.think),
        h("p", { class: "query" }, branch.query || "(empty query)"),
        h("p", { class: "found" }, found),
      ),
      h(
        "div",
        { class: "facts" },
        meter(branch.confidence),
        h("span", {}, `turn ${branch.turn} · ${retriever}`),
        h("span", { class: "fate" }, words),
        isHidden && h("span", {}, counted(children, "child", "children"), " hidden"),
      ),
    ];
  }

  /** Makes the list's children `wanted` with as few moves as possible, so that focus and animation survive. */
  #place(wanted) {
    const keep = new Set(wanted);
    for (const child of [...this.#list.children]) if (!keep.has(child)) child.remove();
    let at = this.#list.firstChild;
    for (const element of wanted) {
      if (element === at) at = at.nextSibling;
      else this.#list.insertBefore(element, at);
    }
  }

  #drawDetails() {
    const branch = this.#grove.branches.get(this.#open);
    if (branch === undefined) return;
    const shown = this.#allHits ? branch.hits : branch.hits.slice(0, HITS_SHOWN);
    this.#page.titles.want(shown.map(({ id }) => id));
    const firstMs = this.#grove.firstMs.get(branch.branch);
    const facts = [
      ["Thought", branch.think.trim() || "none"],
      ["Query", branch.query],
      [
        "Looked up",
        `${branch.retriever.toLowerCase()}, turn ${branch.turn}${branch.parent === null ? "" : `, after branch ${branch.parent}`}`,
      ],
      branch.confidence !== null && ["Confidence", String(Number(branch.confidence.toPrecision(4)))],
      ...branch.judged.map(({ name, value }) => [
        name,
        Number.isFinite(Number(value)) ? String(Number(Number(value).toPrecision(4))) : value,
      ]),
      firstMs !== undefined && ["Appeared", `after ${duration(firstMs)}, as this page saw it`],
    ].filter(Boolean);
    refill(
      this.#details,
      h(
        "dl",
        {},
        facts.map(([term, text]) => [h("dt", {}, term), h("dd", {}, text)]),
      ),
      branch.hits.length === 0
        ? h("p", { class: "none" }, "This query found nothing.")
        : h(
            "ol",
            { class: "hits" },
            shown.map((hit) => this.#hit(hit)),
          ),
      shown.length < branch.hits.length &&
        h(
          "button",
          {
            type: "button",
            class: "quiet",
            "data-focus": "all",
            onclick: () => {
              this.#allHits = true;
              this.update();
            },
          },
          `All ${count(branch.hits.length)} documents that it found`,
        ),
    );
  }

  #hit({ id, score }) {
    const answerRank = this.#page.answerRank(id);
    return h(
      "li",
      {},
      this.#page.followButton(id, this.#page.titles.of(id)),
      h(
        "span",
        { class: "aside" },
        answerRank !== null && h("span", { class: "answer-rank", title: "rank in the answer" }, `→ ${answerRank} `),
        score.toFixed(3),
      ),
    );
  }

  #focus(number) {
    this.#focused = number;
    this.update();
    this.#rows.get(number)?.focus({ preventScroll: true });
    this.#rows.get(number)?.scrollIntoView({ block: "nearest" });
  }

  #click(event) {
    const row = event.target.closest("[role=treeitem]");
    if (row !== null) this.toggle(Number(row.dataset.branch));
  }

  #key(event) {
    const row = event.target.closest("[role=treeitem]");
    if (row === null || event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = this.#visible();
    const at = steps.findIndex((step) => step.branch.branch === Number(row.dataset.branch));
    const { branch, children } = steps[at];
    const isCollapsed = this.#collapsed.has(branch.branch);
    const go = (step) => step !== undefined && this.#focus(step.branch.branch);
    switch (event.key) {
      case "ArrowDown":
        go(steps[at + 1]);
        break;
      case "ArrowUp":
        go(steps[at - 1]);
        break;
      case "Home":
        go(steps[0]);
        break;
      case "End":
        go(steps.at(-1));
        break;
      case "Enter":
      case " ":
        this.toggle(branch.branch);
        break;
      case "ArrowRight":
        if (isCollapsed) {
          this.#collapsed.delete(branch.branch);
          this.update();
        } else if (0 < children) go(steps[at + 1]);
        break;
      case "ArrowLeft":
        if (0 < children && !isCollapsed) {
          this.#collapsed.add(branch.branch);
          this.update();
        } else go(steps.find((step) => step.branch.branch === branch.parent));
        break;
      default:
        return;
    }
    event.preventDefault();
  }
}

/** A confidence as bar and number; only one in [0, 1] has a bar, since a strategy may count as it likes. */
function meter(confidence) {
  if (confidence === null) return false;
  const text = Math.abs(confidence) < 1000 ? confidence.toFixed(2) : confidence.toPrecision(3);
  const isShare = 0 <= confidence && confidence <= 1;
  return h(
    "span",
    { class: "confidence", title: `confidence ${confidence}` },
    isShare && withProperty(h("span", { class: "bar", "aria-hidden": true }), "--share", String(confidence)),
    h("span", { class: "hidden" }, "confidence "),
    text,
  );
}
