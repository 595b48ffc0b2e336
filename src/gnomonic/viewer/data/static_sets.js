/** Sets of rows of a static export: what passes conditions, as on a server, and how often values are there. */

import { Bits } from "../bits.js";
import { SourceError } from "./transport.js";
import { pooled } from "./static_files.js";

/**
 * @typedef {import("../types.js").ColumnInfo} ColumnInfo
 * @typedef {import("../types.js").ColumnCounts} ColumnCounts
 * @typedef {import("../types.js").Conditions} Conditions
 * @typedef {import("../types.js").FieldFilter} FieldFilter
 * @typedef {import("../types.js").Manifest} Manifest
 * @typedef {import("../types.js").Source} Source
 * @typedef {import("../types.js").Topic} Topic
 * @typedef {import("../types.js").Values} Values
 * @typedef {import("./columns.js").Columns} Columns
 * @typedef {{x: Float64Array, y: Float64Array}} Points
 *
 * @typedef {object} Parts  What conditions are looked up in.
 * @property {Manifest} manifest
 * @property {Columns} columns
 * @property {Bits | null} living  Null where no row is gone.
 * @property {() => Promise<Topic[]>} topics
 * @property {(name: string) => Promise<Bits>} tagged
 * @property {(id: string | number) => Promise<number | null>} positionOf
 * @property {() => Promise<Points>} points
 * @property {(position: number, signal?: AbortSignal) => Promise<Float32Array>} scores
 * @property {(cutoff: number, keep: string, by: string | null) => Promise<number[]>} deletable
 */

const CODES = 200;
const BANDS = 512;

/** @param {string} message */
function refused(message) {
  return new SourceError(message, 400);
}

/**
 * The rows that pass all conditions; rows that are gone never do.
 *
 * @param {Parts} parts
 * @param {Conditions} conditions
 * @param {AbortSignal} [signal]
 * @returns {Promise<Bits>}
 */
export async function passing(parts, conditions, signal) {
  const { count } = parts.manifest;
  const { where, topics, tags, ids, bits, fields, polygon, box, heat, duplicates, invert } = conditions;
  if (where) throw refused("A condition in SQL needs a server; this map is a folder of files.");
  /** @type {Promise<Bits>[]} */
  const asked = [];
  if (topics) asked.push(inTopics(parts, topics));
  if (tags) asked.push(withTags(parts, tags));
  if (ids) asked.push(withIds(parts, ids));
  if (bits !== undefined && bits !== null) asked.push(Promise.resolve(Bits.fromBase64(count, bits)));
  for (const field of fields ?? []) asked.push(ofField(parts, field));
  if (polygon) asked.push(parts.points().then((points) => inPolygon(points, polygon)));
  if (box) asked.push(parts.points().then((points) => inBox(points, box)));
  if (heat) asked.push(asHot(parts, heat, signal));
  if (duplicates) {
    const { cutoff, keep, by } = duplicates;
    asked.push(parts.deletable(cutoff, keep, by).then((positions) => Bits.of(count, positions)));
  }
  let found = (await Promise.all(asked)).reduce((one, other) => one.and(other), Bits.full(count));
  signal?.throwIfAborted();
  if (invert) found = found.inverted();
  return parts.living ? found.and(parts.living) : found;
}

/** @param {Parts} parts @param {NonNullable<Conditions["heat"]>} heat @param {AbortSignal} [signal] */
async function asHot(parts, heat, signal) {
  if (heat.position === undefined) throw refused("Rows by meaning of a text or an image need a server.");
  const scores = await parts.scores(heat.position, signal);
  return where(parts.manifest.count, (position) => scores[position] >= heat.at_least);
}

/** @param {Parts} parts @param {string[]} tags */
async function withTags(parts, tags) {
  const found = await Promise.all(tags.map((tag) => parts.tagged(tag)));
  return found.reduce((one, other) => one.or(other), new Bits(parts.manifest.count));
}

/** @param {Parts} parts @param {(number | string)[]} ids */
async function withIds(parts, ids) {
  const found = await pooled(ids, async (id) => {
    const position = await parts.positionOf(id);
    if (position === null) throw refused(`There is no row with the id ${String(id).slice(0, 60)}.`);
    return position;
  });
  return Bits.of(parts.manifest.count, found);
}

/**
 * @param {number} count
 * @param {(position: number) => boolean} test
 */
export function where(count, test) {
  const found = new Bits(count);
  const { bytes } = found;
  for (let position = 0; position < count; position++) {
    if (test(position)) bytes[position >> 3] |= 1 << (position & 7);
  }
  return found;
}

// -- topics ---------------------------------------------------------------------------------------------------------

/** @param {Parts} parts @param {(number | string)[]} wanted */
async function inTopics(parts, wanted) {
  const topics = await parts.topics();
  /** @type {Map<number, Set<string>>} */
  const names = new Map();
  for (const one of wanted) {
    const topic = topics.find((each) => (typeof one === "string" ? each.name === one : each.id === one));
    if (!topic) throw refused(`There is no topic ${String(one).slice(0, 100)} on this map.`);
    names.set(topic.depth, (names.get(topic.depth) ?? new Set()).add(topic.name));
  }
  let found = new Bits(parts.manifest.count);
  for (const [depth, some] of names) {
    const column = await columnOf(parts, `_topic_depth_${depth}`);
    const { names: all } = await parts.columns.dictionary(column);
    const codes = all.flatMap((name, code) => (some.has(name) ? [code] : []));
    found = found.or(withCodes(await parts.columns.whole(column), codes));
  }
  return found;
}

// -- fields ---------------------------------------------------------------------------------------------------------

/** @param {Parts} parts @param {string} name @returns {Promise<ColumnInfo>} */
export async function columnOf(parts, name) {
  const column = await parts.columns.info(name);
  if (!column) throw refused(`The map has no column ${name.slice(0, 100)}.`);
  if (!column.dtype) throw refused(`The column ${name.slice(0, 100)} has no values beside the map.`);
  return column;
}

/** @param {ColumnInfo} column */
function isCoded(column) {
  return column.kind === "category" || column.kind === "bool";
}

/** @param {Parts} parts @param {FieldFilter} field */
async function ofField(parts, { column: name, min = null, max = null, codes, nulls = false }) {
  const column = await columnOf(parts, name);
  if (isCoded(column) && (min !== null || max !== null)) throw refused(`Column ${name} has values and no range.`);
  if (!isCoded(column) && codes) throw refused(`Column ${name} has a range and no values.`);
  const values = await parts.columns.whole(column);
  const none = column.null_code;
  const isAbsent = none === null ? Number.isNaN : (/** @type {number} */ value) => value === none;
  if (isCoded(column)) {
    const found = codes ? withCodes(values, codes) : where(values.length, (at) => !isAbsent(values[at]));
    return nulls ? found.or(where(values.length, (at) => isAbsent(values[at]))) : found;
  }
  const [low, high] = [rounded(min ?? -Infinity, column), rounded(max ?? Infinity, column)];
  return where(values.length, (at) => (values[at] >= low && values[at] <= high) || (nulls && isAbsent(values[at])));
}

/** Limits are rounded as the values were. @param {number} limit @param {ColumnInfo} column */
function rounded(limit, column) {
  return column.dtype === "f32" ? Math.fround(limit) : limit;
}

/** @param {Values} values @param {number[]} codes */
function withCodes(values, codes) {
  const wanted = new Set(codes);
  return where(values.length, (at) => wanted.has(values[at]));
}

/**
 * How often each value of some columns, or step of their histograms, is among some rows.
 *
 * @param {Parts} parts
 * @param {string[]} names
 * @param {Bits} chosen
 * @returns {Promise<Record<string, ColumnCounts>>}
 */
export async function countsOf(parts, names, chosen) {
  /** @type {[string, ColumnCounts][]} */
  const found = [];
  for (const name of names) {
    const column = await columnOf(parts, name);
    const values = await parts.columns.whole(column);
    found.push([name, column.kind === "category" ? ofCodes(column, values, chosen) : ofBins(column, values, chosen)]);
  }
  return Object.fromEntries(found);
}

/** @param {ColumnInfo} column @param {Values} values @param {Bits} chosen */
function ofCodes(column, values, chosen) {
  const { counted, nulls } = codeCounts(column, values, chosen);
  const codes = Array.from(counted.keys()).filter((code) => counted[code] > 0);
  codes.sort((a, b) => counted[b] - counted[a] || a - b);
  const shown = codes.slice(0, CODES);
  const other = codes.slice(CODES).reduce((sum, code) => sum + counted[code], 0);
  return { codes: shown, counts: shown.map((code) => counted[code]), other, nulls };
}

/**
 * @param {ColumnInfo} column  A category or a bool.
 * @param {Values} values
 * @param {Bits | null} chosen  Null for all rows.
 */
export function codeCounts(column, values, chosen) {
  const counted = new Uint32Array(column.kind === "bool" ? 2 : (column.distinct ?? 0));
  let nulls = 0;
  for (let at = 0; at < values.length; at++) {
    if (chosen && !chosen.has(at)) continue;
    if (values[at] === column.null_code) nulls++;
    else counted[values[at]]++;
  }
  return { counted, nulls };
}

/** @param {ColumnInfo} column @param {Values} values @param {Bits} chosen */
function ofBins(column, values, chosen) {
  const count = column.histogram.length;
  const bins = new Array(count).fill(0);
  const { minimum: low, maximum: high } = column;
  let nulls = 0;
  const single = column.kind === "integer" && low !== null && high !== null && high - low < 64;
  for (let at = 0; at < values.length; at++) {
    if (!chosen.has(at)) continue;
    const value = values[at];
    if (column.null_code === null ? Number.isNaN(value) : value === column.null_code) nulls++;
    else if (column.kind === "bool") bins[value]++;
    else if (Number.isFinite(value) && count && low !== null && high !== null) {
      // Halves first, as the histogram was made: the widest range of numbers is wider than they are.
      const step = single ? value - low : ((value / 2 - low / 2) / (high / 2 - low / 2 || 1)) * count;
      bins[Math.max(0, Math.min(Math.trunc(step), count - 1))]++;
    }
  }
  return { bins, nulls };
}

// -- shapes ---------------------------------------------------------------------------------------------------------

/**
 * All points in the units of the plane, as exactly as tiles tell.
 *
 * @param {Manifest} manifest
 * @param {Source["tile"]} tile
 * @returns {Promise<Points>}
 */
export async function pointsOf({ count, extent, tiles }, tile) {
  const points = { x: new Float64Array(count), y: new Float64Array(count) };
  await pooled(tiles, async (one) => {
    if (!one.count) return;
    const stored = await tile(one);
    const size = extent.size / 2 ** one.z;
    const left = extent.x + one.x * size;
    const lower = extent.y + one.y * size;
    for (let at = 0; at < one.count; at++) {
      points.x[one.offset + at] = left + (stored[at] / 65535) * size;
      points.y[one.offset + at] = lower + (stored[one.count + at] / 65535) * size;
    }
  });
  return points;
}

/** @param {Points} points @param {[number, number, number, number]} box */
export function inBox({ x, y }, [x0, y0, x1, y1]) {
  const [left, right, low, high] = [Math.min(x0, x1), Math.max(x0, x1), Math.min(y0, y1), Math.max(y0, y1)];
  return where(x.length, (at) => x[at] >= left && x[at] <= right && y[at] >= low && y[at] <= high);
}

/**
 * The points from which a ray to the right meets an odd number of sides (Shimrat 1962).
 *
 * @param {Points} points
 * @param {[number, number][]} polygon
 */
export function inPolygon({ x, y }, polygon) {
  let [low, high] = [Infinity, -Infinity];
  for (const [, height] of polygon) [low, high] = [Math.min(low, height), Math.max(high, height)];
  const scale = high > low ? BANDS / (high - low) : 0;
  const bandOf = (/** @type {number} */ height) => Math.min(BANDS - 1, Math.floor((height - low) * scale));
  /** @type {[number, number, number, number][][]} Sides by the bands of heights that they cross. */
  const bands = Array.from({ length: BANDS }, () => []);
  polygon.forEach(([x0, y0], corner) => {
    const [x1, y1] = polygon[(corner + 1) % polygon.length];
    if (y0 === y1) return;
    const last = bandOf(Math.max(y0, y1));
    for (let band = bandOf(Math.min(y0, y1)); band <= last; band++) bands[band].push([x0, y0, x1, y1]);
  });
  return where(x.length, (at) => {
    const height = y[at];
    if (!(height >= low && height <= high)) return false;
    let inside = false;
    for (const [x0, y0, x1, y1] of bands[bandOf(height)]) {
      if (y0 > height !== y1 > height && x[at] < x0 + (height - y0) * ((x1 - x0) / (y1 - y0))) inside = !inside;
    }
    return inside;
  });
}
