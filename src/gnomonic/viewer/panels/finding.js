/** The one search that is under way: the box, a row's “more like this” and the list of results share it. */

/**
 * @typedef {import("../types.js").App} App
 * @typedef {import("../types.js").Query} Query
 * @typedef {"semantic" | "words" | "hybrid" | "id" | "like" | "image"} Mode
 * @typedef {{status: "idle" | "searching" | "done" | "failed", message: string, query: Query | null}} Finding
 */

export const MOST_HITS = 50;

/** @type {WeakMap<App, Finder>} */
const finders = new WeakMap();

/** The app's finder. @param {App} app */
export function finderOf(app) {
  const kept = finders.get(app) ?? new Finder(app);
  finders.set(app, kept);
  return kept;
}

export class Finder {
  /** @type {Set<() => void>} */
  #listeners = new Set();
  #asking = new AbortController();
  #app;

  /** @param {App} app */
  constructor(app) {
    this.#app = app;
    /** @type {Finding} */
    this.finding = { status: "idle", message: "", query: null };
    /** Whether to look among those rows only that pass the filters. */
    this.withinFilters = true;
    app.signal.addEventListener("abort", () => this.#asking.abort());
  }

  /** Be told of changes, and at once. @param {() => void} run */
  follow(run) {
    this.#listeners.add(run);
    run();
  }

  /**
   * Look for rows, and how near every row is where the question has an answer to that.
   *
   * @param {Mode} mode
   * @param {Query} query
   * @param {string} name  What was looked for, in words.
   */
  async run(mode, query, name) {
    const { store, actions } = this.#app;
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    this.#become({ status: "searching", message: "", query });
    store.set({ hits: [], hitsName: name, hover: null, ...NO_HEAT });
    void this.#showHeat(mode, query, signal);
    let hits;
    try {
      hits = await this.#hits(mode, query, signal);
    } catch (error) {
      if (!signal.aborted) this.#become({ status: "failed", message: messageOf(error), query });
      return;
    }
    if (signal.aborted) return;
    store.set({ hits });
    this.#become({ status: "done", message: "", query });
    if (mode === "id" && hits.length) void actions.focus(hits[0].position, { move: true });
  }

  /** Forget the search, its results and its heat. */
  clear() {
    this.#asking.abort();
    this.#app.store.set({ hits: [], hitsName: "", hover: null, ...NO_HEAT });
    this.#become({ status: "idle", message: "", query: null });
  }

  /**
   * @param {Mode} mode
   * @param {Query} query
   * @param {AbortSignal} signal
   */
  #hits(mode, query, signal) {
    const { filters, passing } = this.#app.store.state;
    const conditions = passing && this.withinFilters && mode !== "id" ? filters : {};
    return this.#app.source.find(mode, query, MOST_HITS, conditions, signal);
  }

  /**
   * @param {Mode} mode
   * @param {Query} query
   * @param {AbortSignal} signal
   */
  async #showHeat(mode, query, signal) {
    const { source, view, store, actions } = this.#app;
    const asked = heatQuery(mode, query);
    if (!asked || (asked.query !== undefined && !view.can.semantic)) return;
    try {
      const heat = await source.heat(asked, signal);
      if (!signal.aborted) store.set({ heat, heatQuery: asked });
    } catch (error) {
      // Without a server there is no heat for some questions; where even the rows are not found, that is told of.
      if (signal.aborted || source.kind === "static" || this.finding.status === "failed") return;
      actions.say(`The heat cannot be shown: ${messageOf(error)}`, "error");
    }
  }

  /** @param {Finding} finding */
  #become(finding) {
    this.finding = finding;
    for (const run of [...this.#listeners]) run();
  }
}

const NO_HEAT = { heat: null, heatQuery: null, heatThreshold: null };

/**
 * What can be asked of all rows; exact words and ids cannot.
 *
 * @param {Mode} mode
 * @param {Query} query
 */
function heatQuery(mode, query) {
  return mode === "words" || mode === "id" ? null : query;
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
