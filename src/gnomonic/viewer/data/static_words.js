/** Search by words over the index of a static export. */

import { pooled, shardOf } from "./static_files.js";

/**
 * @typedef {import("../bits.js").Bits} Bits
 * @typedef {import("../types.js").Hit} Hit
 * @typedef {import("./static_files.js").StaticFiles} StaticFiles
 * @typedef {{shards: number, rows: number, words: number, keyed: number, block: number}} Told
 */

const UNSPACED = "\\u3040-\\u30ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff";
const MARKS =
  "\\u0300-\\u036f\\u0591-\\u05c7\\u0610-\\u061a\\u064b-\\u065f" +
  "\\u0900-\\u0963\\u0966-\\u0e7f\\u0e80-\\u109f\\u1780-\\u17d3";
// atlas/word_index.py has the same.
const WORD = new RegExp(`[${UNSPACED}]|(?:(?![${UNSPACED}])[\\p{L}\\p{N}_]|[${MARKS}])+`, "gu");
const LONGEST = 64;
const MOST_WORDS = 32;
const STEPS = 15;
const K1 = 1.2;

/** The words of a text in small letters; in scripts without spaces every character is one. @param {string} text */
export function wordsOf(text) {
  return (text.toLowerCase().match(WORD) ?? []).map((word) => [...word].slice(0, LONGEST).join(""));
}

/**
 * Find rows by words: those that have all of them first, each group by BM25.
 *
 * @param {StaticFiles} files
 * @param {number} count  Positions of the map.
 * @param {Told} told  Of export.json.
 * @param {string} query
 * @param {number} k
 * @param {Bits | null} among  Which rows may be found; null for all.
 * @returns {Promise<Hit[]>}
 */
export async function findWords(files, count, told, query, k, among) {
  const words = [...new Set(wordsOf(query))].slice(0, MOST_WORDS);
  const scores = new Float32Array(count);
  const matched = new Uint8Array(count);
  /** @type {number[]} */
  const found = [];
  const lists = await pooled(words, (word) => postingsOf(files, told, word));
  for (const list of lists) {
    if (!list) continue;
    const rarity = Math.log(1 + (told.rows - list.rows + 0.5) / (list.rows + 0.5)) * ((K1 + 1) / STEPS);
    eachPosting(list.bytes, (position, weight) => {
      if (among && !among.has(position)) return;
      if (!matched[position]++) found.push(position);
      scores[position] += rarity * weight;
    });
  }
  found.sort((a, b) => matched[b] - matched[a] || scores[b] - scores[a] || a - b);
  // Rows with all the words come first; how many of the others a row has counts no more than its score.
  const all = found.filter((position) => matched[position] === words.length);
  const some = found.slice(all.length).sort((a, b) => scores[b] - scores[a] || a - b);
  return [...all, ...some].slice(0, k).map((position) => ({ position, score: scores[position] }));
}

/**
 * @param {StaticFiles} files
 * @param {Told} told
 * @param {string} word
 */
async function postingsOf(files, told, word) {
  const { head, arrays } = await files.packed(`words/${shardOf(word, told.shards)}.bin`);
  const place = head.words.indexOf(word);
  if (place < 0) return null;
  const bytes = /** @type {Uint8Array} */ (arrays.postings);
  return { rows: head.rows[place], bytes: bytes.subarray(place ? head.ends[place - 1] : 0, head.ends[place]) };
}

/**
 * @param {Uint8Array} bytes
 * @param {(position: number, weight: number) => void} use
 */
function eachPosting(bytes, use) {
  let position = 0;
  for (let at = 0; at < bytes.length; ) {
    let value = 0;
    let scale = 1;
    let byte;
    do {
      byte = bytes[at++];
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte & 128);
    position += Math.floor(value / 16);
    use(position, value % 16);
  }
}
