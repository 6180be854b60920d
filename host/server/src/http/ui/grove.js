// The branches of one search as they come: order, depth, ranks. Knows nothing of the document.

export class Grove {
  /** Branches by number. */
  branches = new Map();
  /** Milliseconds after the start at which each was first heard of. */
  firstMs = new Map();
  #startedMs = performance.now();

  /** The search begins now. */
  start() {
    this.#startedMs = performance.now();
  }

  put(branch) {
    if (!this.firstMs.has(branch.branch)) this.firstMs.set(branch.branch, performance.now() - this.#startedMs);
    this.branches.set(branch.branch, branch);
  }

  /** Takes over the tree of the final reply, which is the whole truth. */
  finish(tree) {
    for (const branch of tree?.branches ?? []) this.branches.set(branch.branch, branch);
  }

  /** Depth first, children by number: `{branch, level, place, siblings, children}`. A parent not heard of yet makes a root. */
  walk() {
    const children = new Map();
    for (const branch of [...this.branches.values()].sort((a, b) => a.branch - b.branch)) {
      const parent = this.branches.has(branch.parent) ? branch.parent : null;
      if (!children.has(parent)) children.set(parent, []);
      children.get(parent).push(branch);
    }
    const steps = [];
    // An explicit stack: a strategy decides how deep its tree is.
    const open = [];
    const push = (parent, level) => {
      const siblings = children.get(parent) ?? [];
      for (let place = siblings.length - 1; 0 <= place; place--) {
        open.push({ branch: siblings[place], level, place: place + 1, siblings: siblings.length, children: 0 });
      }
      return siblings.length;
    };
    push(null, 1);
    while (0 < open.length) {
      const step = open.pop();
      step.children = push(step.branch.branch, step.level + 1);
      steps.push(step);
    }
    return steps;
  }

  /** Turns that occur, ascending. */
  turns() {
    return [...new Set([...this.branches.values()].map(({ turn }) => turn))].sort((a, b) => a - b);
  }

  /** Where each branch has the document: `{turn, rank, branch}`, rank from 1, only branches that found it. */
  ranksOf(id) {
    const found = [];
    for (const branch of this.branches.values()) {
      const at = branch.hits.findIndex((hit) => hit.id === id);
      if (0 <= at) found.push({ turn: branch.turn, rank: at + 1, branch });
    }
    return found;
  }
}

/** What became of a branch, in the words of the command line: `chosen`, `pruned` or `kept`. */
export function fate(branch) {
  if (branch.chosen) return "chosen";
  return branch.pruned ? "pruned" : "kept";
}

export const FATE_WORDS = { chosen: "in the answer", pruned: "pruned", kept: "kept" };
export const FATE_MARKS = { chosen: "●", pruned: "×", kept: "○" };
