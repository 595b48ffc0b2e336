/** Tags of a map without a server: those of the export, and what was changed since, kept in this browser. */

import { Bits } from "../bits.js";
import { SourceError } from "./transport.js";

/**
 * @typedef {import("../types.js").Tag} Tag
 * @typedef {import("../types.js").TagChange} TagChange
 * @typedef {import("./static_files.js").StaticFiles} StaticFiles
 * @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Keeping
 */

const LONGEST_NAME = 200;

export class StaticTags {
  /** @type {Promise<Map<string, Bits>> | null} */
  #known = null;

  /**
   * @param {StaticFiles} files
   * @param {string} map  Id of the map.
   * @param {number} count
   * @param {Keeping | null} [storage]  Null keeps nothing beyond the page.
   */
  constructor(files, map, count, storage = browserStorage()) {
    this.files = files;
    this.key = `gnomonic-tags/${map}`;
    this.count = count;
    this.storage = storage;
  }

  /** @returns {Promise<Tag[]>} */
  async list() {
    const known = await this.#all();
    return [...known].map(([name, bits]) => ({ name, rows: bits.count() })).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** @param {string} name @returns {Promise<Bits>} */
  async rows(name) {
    const found = (await this.#all()).get(name);
    if (!found) throw new SourceError(`There is no tag “${name}”.`, 404);
    return found;
  }

  /**
   * Give a tag to rows, or take it from them.
   *
   * @param {string} name
   * @param {Bits} rows
   * @param {boolean} remove
   * @returns {Promise<TagChange>}
   */
  async change(name, rows, remove) {
    if (!name.trim() || name.length > LONGEST_NAME) {
      throw new SourceError(`A tag's name has 1 to ${LONGEST_NAME} characters.`, 400);
    }
    const known = await this.#all();
    const before = remove ? await this.rows(name) : (known.get(name) ?? new Bits(this.count));
    const changed = remove ? before.and(rows) : rows.without(before);
    const after = remove ? before.without(rows) : before.or(rows);
    await this.#keep(name, after);
    return { name, rows: after.count(), changed };
  }

  /** @param {string} name */
  async remove(name) {
    await this.rows(name);
    await this.#keep(name, null);
  }

  #all() {
    this.#known ??= this.#read();
    this.#known.catch(() => (this.#known = null));
    return this.#known;
  }

  async #read() {
    /** @type {Map<string, Bits>} */
    const known = new Map();
    const exported = await this.files.zipped("tags.bin");
    for (const [name, text] of Object.entries(exported)) known.set(name, Bits.fromBase64(this.count, String(text)));
    for (const [name, text] of this.#changes()) {
      if (text === null) known.delete(name);
      else known.set(name, decoded(this.count, text));
    }
    return known;
  }

  /** What was changed in this browser: a tag's rows by its name, or null where it was deleted. */
  #changes() {
    /** @type {Map<string, string | null>} */
    let found = new Map();
    try {
      found = new Map(JSON.parse(this.storage?.getItem(this.key) ?? "[]"));
    } catch {
      // Somebody else's, or damaged: tags of the export are still there.
    }
    return found;
  }

  /** @param {string} name @param {Bits | null} rows */
  async #keep(name, rows) {
    const known = await this.#all();
    const changes = this.#changes().set(name, rows && encoded(rows));
    try {
      this.storage?.setItem(this.key, JSON.stringify([...changes]));
    } catch {
      throw new SourceError("This browser has no room for more tags; delete some, or export their rows.", 507);
    }
    if (rows) known.set(name, rows);
    else known.delete(name);
  }
}

/** What the browser keeps for this page; null where it keeps nothing. @returns {Keeping | null} */
function browserStorage() {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}

/** Rows as text: the gaps between them where they are few, else all bits. @param {Bits} rows */
export function encoded(rows) {
  const positions = rows.count() * 24 < rows.length ? rows.positions() : null;
  if (!positions) return `b${rows.toBase64()}`;
  return `g${positions.map((position, at) => (position - (at ? positions[at - 1] : 0)).toString(36)).join(",")}`;
}

/** @param {number} count @param {string} text @returns {Bits} */
export function decoded(count, text) {
  if (text.startsWith("b")) return Bits.fromBase64(count, text.slice(1));
  const found = new Bits(count);
  let position = 0;
  for (const gap of text.length > 1 ? text.slice(1).split(",") : []) {
    position += Number.parseInt(gap, 36);
    found.add(position);
  }
  return found;
}
