/** From a column's values to the numbers that points are coloured and sized by. */

/** @typedef {import("../types.js").ColumnInfo} ColumnInfo */
/** @typedef {import("../types.js").Values} Values */
/**
 * @typedef {object} Scale
 * @property {(value: number) => number} place  Of a value: 0 for the lowest to 1 for the highest.
 * @property {(part: number) => number} value  The value at a part of the way.
 */

/** The code of "no value" among 8-bit numbers. */
export const NONE = 255;
/** The highest code a value can have among 8-bit numbers. */
const TOP = 254;

/**
 * How numbers are spread over a ramp: evenly, or by rank where an even one would show most rows in one colour.
 *
 * @param {ColumnInfo} column
 * @param {Values | null} sample  Of the map's values, evenly drawn.
 * @returns {Scale}
 */
export function scaleOf(column, sample) {
  const low = column.minimum ?? 0;
  const high = column.maximum ?? 1;
  const sorted = Float64Array.from(sample ?? []).filter((value) => Number.isFinite(value)).sort();
  const at = (/** @type {number} */ part) => sorted[Math.round(part * (sorted.length - 1))];
  if (sorted.length < 20) return evenly(low, high);
  // A few rows far off at either end must not take the ramp from all others.
  const [least, most] = [at(0.01), at(0.99)];
  const inner = at(0.9) - at(0.1);
  if (most <= least || inner >= 0.5 * (most - least)) {
    return most > least && most - least < 0.6 * (high - low) ? evenly(least, most) : evenly(low, high);
  }
  return byRank(Array.from({ length: 65 }, (_, i) => (i === 0 ? low : i === 64 ? high : at(i / 64))));
}

/** @param {number} low @param {number} high @returns {Scale} */
function evenly(low, high) {
  // Halves first: the widest range is wider than a number can be.
  const half = high / 2 - low / 2 || 1;
  return {
    place: (value) => Math.min(1, Math.max(0, (value / 2 - low / 2) / half)),
    value: (part) => low + 2 * half * part,
  };
}

/** @param {number[]} knots  Values of evenly spaced ranks. @returns {Scale} */
function byRank(knots) {
  const last = knots.length - 1;
  return {
    place: (value) => {
      let low = 0;
      let high = last;
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (knots[middle] <= value) low = middle;
        else high = middle;
      }
      const step = knots[high] - knots[low];
      const part = step > 0 ? Math.min(1, Math.max(0, (value - knots[low]) / step)) : value >= knots[high] ? 1 : 0;
      return (low + part) / last;
    },
    value: (part) => {
      const place = part * last;
      const below = Math.min(last - 1, Math.floor(place));
      return knots[below] + (knots[below + 1] - knots[below]) * (place - below);
    },
  };
}

/**
 * Numbers as 8-bit codes.
 *
 * @param {Values} values
 * @param {Scale} scale
 */
export function numberCodes(values, scale) {
  const codes = new Uint8Array(values.length);
  for (let i = 0; i < codes.length; i++) {
    const value = values[i];
    codes[i] = Number.isNaN(value) ? NONE : Math.round(TOP * scale.place(value));
  }
  return codes;
}

/**
 * A category's codes as 16-bit numbers at most; of more than 65,535 values some share theirs.
 *
 * @param {Values} values
 * @param {number | null} none
 * @returns {Uint8Array | Uint16Array}
 */
export function categoryCodes(values, none) {
  if (values instanceof Uint8Array || values instanceof Uint16Array) return values;
  const codes = new Uint16Array(values.length);
  for (let i = 0; i < codes.length; i++) codes[i] = values[i] === none ? 65535 : values[i] % 65535;
  return codes;
}
