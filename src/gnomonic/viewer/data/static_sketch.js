/** What is alike, by the sketch of the vectors in a static export; approximate, as the directions left out are lost. */

import { pooled } from "./static_files.js";

/**
 * @typedef {import("../bits.js").Bits} Bits
 * @typedef {import("../types.js").Hit} Hit
 * @typedef {import("./static_files.js").StaticFiles} StaticFiles
 * @typedef {{metric: "cosine" | "euclidean", steps: number[], kept: number}} Told
 */

export class StaticSketch {
  /**
   * @param {StaticFiles} files
   * @param {number} count
   * @param {number} block  Positions of a file.
   * @param {Told} told  Of export.json.
   */
  constructor(files, count, block, told) {
    this.files = files;
    this.count = count;
    this.block = block;
    this.told = told;
  }

  /** Coordinates of some rows of one file, in steps. @param {number} number @returns {Promise<Int8Array>} */
  async stored(number) {
    const { arrays } = await this.files.packed(`sketch/${number}.bin`);
    return /** @type {Int8Array} */ (arrays.rows);
  }

  /** A row's coordinates. @param {number} position @returns {Promise<Float64Array>} */
  async coordinates(position) {
    const number = Math.floor(position / this.block);
    const rows = await this.stored(number);
    const { steps } = this.told;
    const begin = (position - number * this.block) * steps.length;
    return Float64Array.from(steps, (step, at) => step * rows[begin + at]);
  }

  /**
   * How near every row is to a point: the cosine, or the Euclidean distance, negative.
   *
   * @param {ArrayLike<number>} point  Coordinates.
   * @param {AbortSignal} [signal]
   * @returns {Promise<Float32Array>}
   */
  async scores(point, signal) {
    const scores = new Float32Array(this.count);
    const numbers = Array.from({ length: Math.ceil(this.count / this.block) }, (_, number) => number);
    await pooled(numbers, async (number) => {
      const rows = await this.stored(number);
      scores.set(nearness(rows, point, this.told), number * this.block);
    }, signal);
    return scores;
  }
}

/**
 * @param {Int8Array} rows  [m, k]
 * @param {ArrayLike<number>} point  [k] coordinates.
 * @param {Told} told
 * @returns {Float32Array} [m]
 */
export function nearness(rows, point, { metric, steps }) {
  const k = steps.length;
  const found = new Float32Array(k ? rows.length / k : 0);
  const weights = Float64Array.from(steps, (step, at) => step * point[at]);
  for (let row = 0; row < found.length; row++) {
    const begin = row * k;
    let sum = 0;
    if (metric === "cosine") {
      for (let at = 0; at < k; at++) sum += weights[at] * rows[begin + at];
      found[row] = sum;
    } else {
      for (let at = 0; at < k; at++) sum += (steps[at] * rows[begin + at] - point[at]) ** 2;
      found[row] = -Math.sqrt(sum);
    }
  }
  return found;
}

/**
 * The best of all rows.
 *
 * @param {Float32Array} scores
 * @param {number} k
 * @param {(position: number) => boolean} allowed
 * @returns {Hit[]} Best first; of equal ones the first.
 */
export function best(scores, k, allowed) {
  /** @type {Hit[]} Ascending by score. */
  const found = [];
  if (k < 1) return found;
  for (let position = 0; position < scores.length; position++) {
    const score = scores[position];
    if (!(score >= -Infinity) || (found.length === k && score <= found[0].score) || !allowed(position)) continue;
    let low = 0;
    let high = found.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (found[middle].score < score) low = middle + 1;
      else high = middle;
    }
    found.splice(low, 0, { position, score });
    if (found.length > k) found.shift();
  }
  return found.reverse();
}

/**
 * Scores as bytes, of which 0 is the lowest and 255 the highest; rows that are gone have 0.
 *
 * @param {Float32Array} scores
 * @param {Bits | null} living
 * @returns {import("../types.js").Heat}
 */
export function heatOf(scores, living) {
  let low = Infinity;
  let high = -Infinity;
  for (let position = 0; position < scores.length; position++) {
    if (living && !living.has(position)) continue;
    low = Math.min(low, scores[position]);
    high = Math.max(high, scores[position]);
  }
  if (!(high >= low)) low = high = 0;
  const scale = high > low ? 255 / (high - low) : 0;
  const values = new Uint8Array(scores.length);
  for (let position = 0; position < scores.length; position++) {
    if (!living || living.has(position)) values[position] = Math.round((scores[position] - low) * scale);
  }
  return { values, low, high };
}
