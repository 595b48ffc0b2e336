/** What the page shows, in one place; parts say which of it they follow. */

/** @typedef {import("./types.js").State} State */

export class Store {
  /** @type {{keys: Set<string>, run: (state: Readonly<State>, changed: ReadonlySet<string>) => void}[]} */
  #followers = [];
  /** @type {Set<string>} */
  #changed = new Set();
  #telling = false;

  /** @param {State} state */
  constructor(state) {
    /** @type {Readonly<State>} */
    this.state = state;
  }

  /**
   * Change some of the state, and tell those who follow it, once.
   *
   * @param {Partial<State>} patch
   */
  set(patch) {
    const before = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (this.state));
    for (const [key, value] of Object.entries(patch)) if (before[key] !== value) this.#changed.add(key);
    this.state = { ...this.state, ...patch };
    if (this.#telling) return;
    this.#telling = true;
    try {
      // A follower may change the state again; it is then told in the next round.
      while (this.#changed.size) {
        const changed = this.#changed;
        this.#changed = new Set();
        for (const { keys, run } of [...this.#followers]) {
          if ([...changed].some((key) => keys.has(key))) told(run, this.state, changed);
        }
      }
    } finally {
      this.#telling = false;
    }
  }

  /**
   * Be told when any of some keys changes.
   *
   * @param {(keyof State)[]} keys
   * @param {(state: Readonly<State>, changed: ReadonlySet<string>) => void} run
   * @param {{now?: boolean, signal?: AbortSignal}} [options]  `now`: also be told at once.
   */
  follow(keys, run, { now = false, signal } = {}) {
    const follower = { keys: new Set(/** @type {string[]} */ (keys)), run };
    this.#followers.push(follower);
    const stop = () => {
      this.#followers = this.#followers.filter((one) => one !== follower);
    };
    signal?.addEventListener("abort", stop);
    if (now) run(this.state, follower.keys);
    return stop;
  }
}

/**
 * Tell one follower; its failure is reported, and is no reason for the others not to hear.
 *
 * @param {(state: Readonly<State>, changed: ReadonlySet<string>) => void} run
 * @param {Readonly<State>} state
 * @param {ReadonlySet<string>} changed
 */
function told(run, state, changed) {
  try {
    run(state, changed);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** @returns {State} */
export function firstState() {
  return {
    camera: null,
    tool: "pan",
    theme: "auto",
    colorBy: null,
    sizeBy: null,
    pointSize: 1,
    density: false,
    contours: false,
    showLabels: true,
    showThumbs: true,
    filters: {},
    passing: null,
    living: null,
    selection: null,
    selectionName: "",
    heat: null,
    heatQuery: null,
    heatThreshold: null,
    hover: null,
    focus: null,
    focusNeighbors: [],
    hits: [],
    hitsName: "",
    panel: "topics",
    offline: false,
    busy: false,
  };
}
