/** Rows in short, kept for a while: what hovering and lists show. */

import { titleFields } from "./row_fields.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Row} Row */

const MOST_KEPT = 800;
const LONGEST = 300;

/** @type {WeakMap<App, RowCache>} */
const caches = new WeakMap();

/** The app's cache. @param {App} app */
export function rowCacheOf(app) {
  const kept = caches.get(app) ?? new RowCache(app);
  caches.set(app, kept);
  return kept;
}

export class RowCache {
  /** In the order of their last use. @type {Map<number, Row | null>} */
  #kept = new Map();
  #app;
  /** @type {string[]} */
  #fields;

  /** @param {App} app */
  constructor(app) {
    this.#app = app;
    this.#fields = titleFields(app.view);
  }

  /** Have these fields in every row, beside title and text. @param {string[]} fields */
  want(fields) {
    const wanted = [...new Set([...titleFields(this.#app.view), ...fields])];
    if (wanted.join("\n") === this.#fields.join("\n")) return;
    this.#fields = wanted;
    this.#kept.clear();
  }

  /**
   * A row that is here already; null where it is gone, undefined where it must be asked for.
   *
   * @param {number} position
   */
  peek(position) {
    const row = this.#kept.get(position);
    if (row !== undefined) this.#keep(position, row);
    return row;
  }

  /**
   * Rows by position; null for those that are gone.
   *
   * @param {number[]} positions
   * @param {AbortSignal} [signal]
   * @returns {Promise<(Row | null)[]>}
   */
  async rows(positions, signal) {
    const missing = [...new Set(positions.filter((position) => !this.#kept.has(position)))];
    /** @type {Map<number, Row | null>} */
    const came = new Map();
    if (missing.length) {
      const fields = this.#fields;
      const options = { columns: fields.length ? fields : null, longest: LONGEST, ...(signal ? { signal } : {}) };
      const rows = await this.#app.source.rows(missing, options);
      missing.forEach((position, i) => came.set(position, rows[i]));
      // Other fields may have become wanted in the meantime.
      if (fields === this.#fields) for (const [position, row] of came) this.#keep(position, row);
    }
    return positions.map((position) => came.get(position) ?? this.peek(position) ?? null);
  }

  /** @param {number} position @param {Row | null} row */
  #keep(position, row) {
    this.#kept.delete(position);
    this.#kept.set(position, row);
    if (this.#kept.size <= MOST_KEPT) return;
    const oldest = this.#kept.keys().next();
    if (!oldest.done) this.#kept.delete(oldest.value);
  }
}
