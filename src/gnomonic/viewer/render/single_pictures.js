/** Small pictures of rows, asked for one by one: of those that are on no sheet of their tile. */

import { isAbort } from "../data/columns.js";

/** @typedef {import("../types.js").Source} Source */

const PARALLEL = 4;
/** Kept at most, 16 kB each. */
const KEPT = 500;
/** How long the view must rest before its pictures are asked for. */
const REST_MS = 120;

export class SinglePictures {
  /** @type {Map<number, ImageBitmap | null>} By map position, the one used last at the end; null: there is none. */
  #held = new Map();
  /** @type {Set<number>} */
  #coming = new Set();
  /** @type {Set<number>} */
  #failed = new Set();
  /** @type {number[]} */
  #wanted = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {Source} source
   * @param {AbortSignal} signal
   * @param {() => void} came
   */
  constructor(source, signal, came) {
    this.source = source;
    this.signal = signal;
    this.came = came;
    signal.addEventListener("abort", () => {
      clearTimeout(this.#timer);
      this.#close(0);
    });
  }

  /** The picture at a map position; null where there is none, undefined where nobody knows. @param {number} at */
  of(at) {
    const found = this.#failed.has(at) ? null : this.#held.get(at);
    if (found) {
      this.#held.delete(at);
      this.#held.set(at, found);
    }
    return found;
  }

  /** Ask for these, once the view rests, and for no others any more. @param {number[]} positions */
  want(positions) {
    this.#wanted = positions;
    clearTimeout(this.#timer);
    if (positions.length) this.#timer = setTimeout(() => this.#fill(), REST_MS);
  }

  /** Ask again for what could not be had. */
  forgive() {
    this.#failed.clear();
  }

  #fill() {
    while (this.#coming.size < PARALLEL && !this.signal.aborted) {
      const next = this.#wanted.find((at) => !this.#coming.has(at) && this.of(at) === undefined);
      if (next === undefined) return;
      void this.#fetch(next);
    }
  }

  /** @param {number} at */
  async #fetch(at) {
    this.#coming.add(at);
    try {
      const picture = await this.source.thumb(at, this.signal);
      if (this.signal.aborted) return picture?.close();
      this.#held.set(at, picture);
      this.#close(KEPT);
      if (picture) this.came();
    } catch (error) {
      if (!isAbort(error)) this.#failed.add(at);
    } finally {
      this.#coming.delete(at);
      this.#fill();
    }
  }

  /** @param {number} most  Pictures to keep. */
  #close(most) {
    for (const [at, picture] of this.#held) {
      if (this.#held.size <= most) break;
      picture?.close();
      this.#held.delete(at);
    }
  }
}
