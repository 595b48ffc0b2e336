/** Rows of a static export: shown, looked up by id, and written to files. */

import { SourceError } from "./transport.js";
import { pooled, shardOf } from "./static_files.js";

/**
 * @typedef {import("../bits.js").Bits} Bits
 * @typedef {import("../types.js").Row} Row
 * @typedef {import("./static_files.js").StaticFiles} StaticFiles
 * @typedef {{ids: (string | number | null)[], x: number[], y: number[], trust: number[], columns: string[],
 *   values: any[][], long: Record<string, string[]>, cut: Record<string, string[]>,
 *   images?: (string | null)[]}} Block
 * @typedef {{block: number, long_block: number, id_shards: number, short: number}} Told
 */

const FORMULA = new Set(["=", "+", "-", "@", "\t", "\r"]);
const TYPES = { csv: "text/csv;charset=utf-8", jsonl: "application/x-ndjson", ids: "text/plain;charset=utf-8" };

export class StaticRows {
  /**
   * @param {StaticFiles} files
   * @param {number} count
   * @param {Told} told  Of export.json.
   */
  constructor(files, count, told) {
    this.files = files;
    this.count = count;
    this.told = told;
  }

  /** @param {number} position @returns {Promise<{block: Block, at: number}>} */
  async #at(position) {
    const number = Math.floor(position / this.told.block);
    const block = await this.files.zipped(`rows/${number}.bin`);
    return { block, at: position - number * this.told.block };
  }

  /**
   * @param {number[]} positions
   * @param {{columns?: string[] | null, longest?: number, signal?: AbortSignal}} [options]
   * @returns {Promise<(Row | null)[]>}
   */
  rows(positions, { columns = null, longest = 400, signal } = {}) {
    return pooled(positions, (position) => this.#row(position, columns, longest), signal);
  }

  /**
   * @param {number} position
   * @param {string[] | null} columns
   * @param {number} longest
   * @returns {Promise<Row | null>}
   */
  async #row(position, columns, longest) {
    if (!(position >= 0 && position < this.count)) return null;
    const { block, at } = await this.#at(position);
    const id = block.ids[at];
    if (id === null) return null;
    const long = block.long[at] ?? [];
    const whole = long.length && longest > this.told.short ? await this.#whole(position) : null;
    const cut = new Set(block.cut[at] ?? []);
    /** @type {[string, any][]} */
    const values = [];
    block.columns.forEach((name, place) => {
      if (columns && !columns.includes(name)) return;
      let value = block.values[place][at];
      if (whole && long.includes(name)) value = whole[name];
      else if (long.includes(name)) cut.add(name);
      const short = shortened(value, longest);
      if (short !== value) cut.add(name);
      values.push([name, short]);
    });
    return {
      position,
      id,
      x: block.x[at],
      y: block.y[at],
      trust: block.trust[at] / 255,
      // A column may have any name, "__proto__" too, which this keeps a column.
      values: Object.fromEntries(values),
      cut: [...cut].filter((name) => !columns || columns.includes(name)),
    };
  }

  /** Values that are too long for the file of rows. @param {number} position @returns {Promise<Record<string, any>>} */
  async #whole(position) {
    const number = Math.floor(position / this.told.long_block);
    const found = await this.files.zipped(`long/${number}.bin`);
    return found[position % this.told.block] ?? {};
  }

  /** @param {number[]} positions @returns {Promise<(string | number | null)[]>} */
  ids(positions) {
    return pooled(positions, async (position) => {
      const { block, at } = await this.#at(position);
      return block.ids[at];
    });
  }

  /** What an image's file name ends in; null where a row has none. @param {number} position */
  async imageKind(position) {
    if (!(position >= 0 && position < this.count)) return null;
    const { block, at } = await this.#at(position);
    return block.images?.[at] ?? null;
  }

  /**
   * Where a row is; null where there is none of that id.
   *
   * @param {string | number} id
   * @returns {Promise<number | null>}
   */
  async positionOf(id) {
    const name = String(id);
    const ids = await this.files.zipped(`ids/${shardOf(name, this.told.id_shards)}.bin`);
    return Object.hasOwn(ids, name) ? ids[name] : null;
  }

  /**
   * Rows as a file.
   *
   * @param {Bits} chosen
   * @param {"parquet" | "csv" | "jsonl" | "ids"} format
   * @returns {Promise<Blob>}
   */
  async file(chosen, format) {
    if (format === "parquet") {
      throw new SourceError("A map without a server cannot write parquet files; choose CSV, JSON lines or ids.", 400);
    }
    /** @type {string[]} */
    const parts = [];
    const all = chosen.positions();
    let header = format !== "csv";
    // A block of rows at a time: a file is fetched once, and only its lines are kept.
    for (let begin = 0; begin < all.length; ) {
      const last = (Math.floor(all[begin] / this.told.block) + 1) * this.told.block;
      let end = begin;
      while (end < all.length && all[end] < last) end++;
      const rows = (await this.rows(all.slice(begin, end), { longest: Infinity })).filter((row) => row !== null);
      if (!header && rows.length) {
        parts.push(csvLine(Object.keys(rows[0].values)));
        header = true;
      }
      parts.push(rows.map((row) => lineOf(row, format)).join(""));
      begin = end;
    }
    return new Blob(parts, { type: TYPES[format] });
  }
}

/** @param {Row} row @param {"csv" | "jsonl" | "ids"} format */
function lineOf(row, format) {
  if (format === "ids") return `${row.id}\n`;
  if (format === "jsonl") return `${JSON.stringify(row.values)}\n`;
  return csvLine(Object.values(row.values).map(safe));
}

/** A text that a table program would take for a formula is quoted. @param {unknown} value */
function safe(value) {
  return typeof value === "string" && FORMULA.has(value.charAt(0)) ? `'${value}` : value;
}

/** @param {unknown[]} cells */
function csvLine(cells) {
  const written = cells.map((cell) => {
    if (cell === null || cell === undefined) return "";
    const text = typeof cell === "object" ? JSON.stringify(cell) : String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  });
  return `${written.join(",")}\r\n`;
}

/**
 * @param {any} value
 * @param {number} longest
 */
function shortened(value, longest) {
  if (typeof value === "string") return value.length > longest ? value.slice(0, longest) : value;
  if (value === null || typeof value !== "object") return value;
  const text = JSON.stringify(value);
  return text.length > longest ? text.slice(0, longest) : value;
}
