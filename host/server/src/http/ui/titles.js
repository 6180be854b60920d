// Titles of documents by id. Hits of a branch are ids alone; titles are asked for in batches, and where the server
// gives none the ids stand for themselves.

import { post } from "./api.js";

/** Ids in one question. */
const BATCH = 200;
/** Milliseconds in which wishes gather. */
const GATHER_MS = 60;

export class Titles {
  #index;
  #known = new Map();
  #wanted = new Set();
  #timer = 0;
  #onChange;

  constructor(index, onChange) {
    this.#index = index;
    this.#onChange = onChange;
  }

  /** The title, or the id. */
  of(id) {
    return this.#known.get(id) || id;
  }

  /** Remembers a document that came with an answer. */
  learn(id, source) {
    this.#known.set(id, heading(source));
  }

  /** Asks for those of `ids` that are not known; `onChange` is called when they come. */
  want(ids) {
    for (const id of ids) if (!this.#known.has(id)) this.#wanted.add(id);
    if (this.#wanted.size === 0 || this.#timer !== 0) return;
    this.#timer = setTimeout(() => this.#ask(), GATHER_MS);
  }

  async #ask() {
    const ids = [...this.#wanted].slice(0, BATCH);
    for (const id of ids) {
      this.#wanted.delete(id);
      this.#known.set(id, ""); // Asked once.
    }
    try {
      const { docs } = await post(`${encodeURIComponent(this.#index)}/_mget?_source_includes=title`, { ids });
      for (const { _id: id, _source: source } of docs) this.#known.set(id, heading(source));
      this.#onChange();
    } catch {
      // Ids are good enough to read a tree by; the search itself reports what is wrong with the server.
    }
    this.#timer = 0;
    this.want([]);
  }
}

function heading(source) {
  return String(source?.title ?? "").trim();
}
