/** What sets a selection apart from all other rows, worked out in the browser over a static export. */

import { nearness } from "./static_sketch.js";
import { pooled } from "./static_files.js";
import { codeCounts } from "./static_sets.js";

/**
 * @typedef {import("../bits.js").Bits} Bits
 * @typedef {import("../types.js").ColumnInfo} ColumnInfo
 * @typedef {import("../types.js").Explanation} Explanation
 * @typedef {import("../types.js").Topic} Topic
 * @typedef {import("./columns.js").Columns} Columns
 * @typedef {import("./static_files.js").StaticFiles} StaticFiles
 * @typedef {import("./static_sketch.js").StaticSketch} StaticSketch
 * @typedef {{inside: Bits, outside: Bits, here: number, there: number}} Sides
 * @typedef {{files: StaticFiles, count: number, block: number, words: {keyed: number, rows: number} | null,
 *   columns: Columns, sketch: StaticSketch, topics: () => Promise<Topic[]>, idField: () => Promise<string>}} Parts
 */

const BLOCKS = 8;
const WORDS = 20;
const FIELDS = 30;
const TOPICS = 200;
const EXAMPLES = 8;
const LEAST_ROWS = 3;
const LEAST_LIFT = 1.05;
const SMALL = 0.01;
const NO_WORD = 65535;

/**
 * @param {Parts} parts
 * @param {Bits} inside
 * @param {Bits} living
 * @param {AbortSignal} [signal]
 * @returns {Promise<Explanation>}
 */
export async function explained(parts, inside, living, signal) {
  const outside = living.without(inside);
  const sides = { inside, outside, here: inside.count(), there: outside.count() };
  const sampled = sampledBlocks(parts, inside);
  const [words, fields, topics, examples] = await Promise.all([
    wordsOf(parts, sides, sampled),
    fieldsOf(parts, sides),
    topicsOf(parts, sides),
    examplesOf(parts, sides, sampled),
  ]);
  signal?.throwIfAborted();
  return { count: sides.here, words, fields, topics, ...examples };
}

/**
 * The blocks that hold the most rows of the selection. The rows of one are spread over the map as those of a tile are,
 * so some of a large map's are a sample of it.
 *
 * @param {Parts} parts
 * @param {Bits} inside
 */
function sampledBlocks({ count, block }, inside) {
  const held = new Uint32Array(Math.ceil(count / block));
  for (const position of inside.positions()) held[Math.floor(position / block)]++;
  const numbers = [...held.keys()].filter((number) => held[number]);
  return numbers.sort((a, b) => held[b] - held[a] || a - b).slice(0, BLOCKS);
}

/**
 * Words by p log2(p / q) (Kullback and Leibler 1951), p and q the shares of rows inside and outside that they tell.
 *
 * @param {Parts} parts
 * @param {Sides} sides
 * @param {number[]} sampled
 */
async function wordsOf({ files, block, words: told }, { inside, here, there }, sampled) {
  if (!told || !here || !there) return [];
  const keys = await files.zipped("words/keys.bin");
  const counted = new Uint32Array(keys.words.length);
  let read = 0;
  await pooled(sampled, async (number) => {
    const { head, arrays } = await files.packed(`words/rows/${number}.bin`);
    const rows = arrays.keys;
    for (let at = 0; at * head.keys < rows.length; at++) {
      if (!inside.has(number * block + at)) continue;
      read++;
      for (let key = at * head.keys; key < (at + 1) * head.keys && rows[key] !== NO_WORD; key++) counted[rows[key]]++;
    }
  });
  const found = [...counted.keys()].flatMap((key) => {
    if (counted[key] < Math.min(LEAST_ROWS, Math.max(1, read))) return [];
    const share = counted[key] / read;
    const rest = Math.max(0, Math.min(1, (keys.rows[key] - share * here) / there));
    const score = share * Math.log2(share / (rest + SMALL));
    return share > rest && score > 0 ? [{ phrase: String(keys.words[key]), share, rest, score }] : [];
  });
  return found.sort((a, b) => b.score - a.score).slice(0, WORDS);
}

/**
 * Values of categories and bools, counted over all rows.
 *
 * @param {Parts} parts
 * @param {Sides} sides
 * @returns {Promise<Explanation["fields"]>}
 */
async function fieldsOf({ columns, idField }, { inside, outside, here, there }) {
  if (!here || !there) return [];
  const id = await idField();
  /** @type {(Explanation["fields"][number] & {score: number})[]} */
  const found = [];
  for (const column of await columns.infos()) {
    if (!["category", "bool"].includes(column.kind) || !column.dtype) continue;
    if (column.name === id || column.name.startsWith("_topic_depth_")) continue;
    const names = await namesOf(columns, column);
    const values = await columns.whole(column);
    const own = codeCounts(column, values, inside).counted;
    const other = codeCounts(column, values, outside).counted;
    names.forEach((value, code) => {
      const share = own[code] / here;
      const rest = other[code] / there;
      const lift = share / (Math.max(other[code], 0.5) / there);
      const score = share * Math.log2(share / (rest + SMALL));
      if (own[code] < LEAST_ROWS || lift < LEAST_LIFT || !(score > 0)) return;
      found.push({ column: column.name, value, code, share, rest, lift, count: own[code], score });
    });
  }
  found.sort((a, b) => b.score - a.score);
  return found.slice(0, FIELDS).map(({ score, ...told }) => told);
}

/** @param {Columns} columns @param {ColumnInfo} column @returns {Promise<string[]>} */
async function namesOf(columns, column) {
  return column.kind === "bool" ? ["false", "true"] : (await columns.dictionary(column)).names;
}

/**
 * How much of the selection is in each topic, coarse ones first, then the largest.
 *
 * @param {Parts} parts
 * @param {Sides} sides
 */
async function topicsOf({ columns, topics: read }, { inside, outside, here, there }) {
  const topics = await read();
  /** @type {Explanation["topics"]} */
  const found = [];
  for (const depth of new Set(topics.map((topic) => topic.depth))) {
    const column = await columns.info(`_topic_depth_${depth}`);
    if (!column?.dtype) continue;
    const { names } = await columns.dictionary(column);
    const values = await columns.whole(column);
    const own = codeCounts(column, values, inside).counted;
    const other = codeCounts(column, values, outside).counted;
    for (const { id, name, depth: at } of topics) {
      const code = at === depth ? names.indexOf(name) : -1;
      if (code < 0 || !own[code]) continue;
      const [share, rest] = [own[code] / Math.max(1, here), other[code] / Math.max(1, there)];
      found.push({ id, name, depth, count: own[code], share, rest });
    }
  }
  return found.sort((a, b) => a.depth - b.depth || b.count - a.count).slice(0, TOPICS);
}

/**
 * The rows nearest to the mean of the selection's, and the farthest; no row is both.
 *
 * @param {Parts} parts
 * @param {Sides} sides
 * @param {number[]} sampled
 */
async function examplesOf({ block, sketch }, { inside }, sampled) {
  const { steps } = sketch.told;
  const mean = new Float64Array(steps.length);
  /** @type {number[]} */
  const positions = [];
  const blocks = await pooled(sampled, (number) => sketch.stored(number));
  blocks.forEach((rows, place) => {
    for (let at = 0; at * steps.length < rows.length; at++) {
      const position = sampled[place] * block + at;
      if (!inside.has(position)) continue;
      positions.push(position);
      for (let one = 0; one < steps.length; one++) mean[one] += steps[one] * rows[at * steps.length + one];
    }
  });
  for (let one = 0; one < mean.length; one++) mean[one] /= Math.max(1, positions.length);
  /** @type {Map<number, number>} */
  const near = new Map();
  blocks.forEach((rows, place) => {
    nearness(rows, mean, sketch.told).forEach((score, at) => near.set(sampled[place] * block + at, score));
  });
  positions.sort((a, b) => (near.get(b) ?? 0) - (near.get(a) ?? 0) || a - b);
  const exemplars = positions.slice(0, EXAMPLES);
  return { exemplars, outliers: positions.slice(Math.max(EXAMPLES, positions.length - EXAMPLES)).reverse() };
}
