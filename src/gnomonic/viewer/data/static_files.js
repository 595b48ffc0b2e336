/** Files of a static export: fetched, unzipped and taken apart; kept while there is room. docs/reference/formats.md */

import { ARRAYS } from "./columns.js";
import { SourceError } from "./transport.js";

/**
 * @typedef {Uint8Array | Int8Array | Uint16Array | Uint32Array | Int32Array | Float32Array | Float64Array} Numbers
 * @typedef {{head: Record<string, any>, arrays: Record<string, Numbers>}} Packed
 * @typedef {{value: Promise<any>, bytes: number}} Kept
 */

const TRIES = 3;
const FIRST_WAIT_MS = 250;
const PARALLEL = 6;
export class StaticFiles {
  /** @type {Map<string, Kept>} The one used last at the end. */
  #kept = new Map();
  #bytes = 0;

  /**
   * @param {string} base  The folder's address, relative to the page or whole.
   * @param {{onReach?: (reached: boolean) => void, fetching?: typeof fetch, mostBytes?: number}} [options]
   */
  constructor(base, { onReach, fetching, mostBytes = 128 << 20 } = {}) {
    this.base = base.endsWith("/") ? base : `${base}/`;
    this.onReach = onReach;
    this.fetching = fetching ?? ((...given) => fetch(...given));
    this.mostBytes = mostBytes;
  }

  /**
   * A file's bytes.
   *
   * @param {string} path
   * @param {AbortSignal} [signal]
   * @param {RequestCache} [cache]
   * @returns {Promise<ArrayBuffer>}
   * @throws {SourceError} It is absent, or the host does not answer.
   */
  async bytes(path, signal, cache = "default") {
    for (let attempt = 1; ; attempt++) {
      let answer;
      try {
        answer = await this.fetching(this.base + path, { signal: signal ?? null, cache });
        if (answer.ok) {
          const found = await answer.arrayBuffer();
          this.onReach?.(true);
          return found;
        }
      } catch (error) {
        if (signal?.aborted) throw error;
        answer = null;
      }
      if (answer && answer.status < 500 && answer.status !== 429) {
        throw new SourceError(`The file ${path} is not there (status ${answer.status}).`, answer.status);
      }
      if (attempt === TRIES) {
        this.onReach?.(false);
        throw new SourceError("The host of this map does not answer.", answer?.status ?? 0);
      }
      await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** attempt));
    }
  }

  /** A file of plain JSON. @param {string} path @returns {Promise<any>} */
  json(path) {
    return this.#once(path, async () => {
      const bytes = await this.bytes(path);
      return [parsed(bytes, path), bytes.byteLength];
    });
  }

  /** A file of gzipped JSON. @param {string} path @returns {Promise<any>} */
  zipped(path) {
    return this.#once(path, async () => {
      const bytes = await unzipped(await this.bytes(path), path);
      return [parsed(bytes, path), 2 * bytes.byteLength];
    });
  }

  /** A file of gzipped arrays. @param {string} path @returns {Promise<Packed>} */
  packed(path) {
    return this.#once(path, async () => {
      const bytes = await unzipped(await this.bytes(path), path);
      return [unpacked(bytes, path), bytes.byteLength];
    });
  }

  /**
   * @param {string} path
   * @param {() => Promise<[any, number]>} read
   * @returns {Promise<any>}
   */
  #once(path, read) {
    const known = this.#kept.get(path);
    if (known) {
      this.#kept.delete(path);
      this.#kept.set(path, known);
      return known.value;
    }
    const reading = read();
    /** @type {Kept} */
    const entry = { value: reading.then(([value]) => value), bytes: 0 };
    this.#kept.set(path, entry);
    reading.then(
      ([, bytes]) => this.#grew(entry, bytes),
      () => this.#kept.get(path) === entry && this.#kept.delete(path),
    );
    return entry.value;
  }

  /** @param {Kept} entry @param {number} bytes */
  #grew(entry, bytes) {
    entry.bytes = bytes;
    this.#bytes += bytes;
    for (const [path, kept] of this.#kept) {
      if (this.#bytes <= this.mostBytes) break;
      if (kept === entry || !kept.bytes) continue;
      this.#bytes -= kept.bytes;
      this.#kept.delete(path);
    }
  }
}

/**
 * Do something with many things, a few at a time, in order of their start.
 *
 * @template T, R
 * @param {readonly T[]} items
 * @param {(item: T, index: number) => Promise<R>} run
 * @param {AbortSignal} [signal]
 * @returns {Promise<R[]>}
 */
export async function pooled(items, run, signal) {
  /** @type {R[]} */
  const found = new Array(items.length);
  let next = 0;
  const work = async () => {
    while (next < items.length) {
      signal?.throwIfAborted();
      const index = next++;
      found[index] = await run(items[index], index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, items.length) }, work));
  signal?.throwIfAborted();
  return found;
}

/**
 * Which of some files has what stands under a word: the lowest bits of its CRC-32.
 *
 * @param {string} word
 * @param {number} shards  A power of two.
 */
export function shardOf(word, shards) {
  let crc = -1;
  for (const byte of new TextEncoder().encode(word)) crc = (crc >>> 8) ^ CRC[(crc ^ byte) & 255];
  return (~crc >>> 0) & (shards - 1);
}

const CRC = new Int32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  CRC[byte] = value;
}

/**
 * @param {ArrayBuffer} bytes
 * @param {string} path
 * @returns {Promise<ArrayBuffer>}
 */
async function unzipped(bytes, path) {
  const start = new Uint8Array(bytes, 0, Math.min(2, bytes.byteLength));
  // A host that told the browser of the compression has had it undone.
  if (start[0] !== 0x1f || start[1] !== 0x8b) return bytes;
  try {
    return await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  } catch {
    throw damaged(path);
  }
}

/** @param {ArrayBuffer} bytes @param {string} path */
function parsed(bytes, path) {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw damaged(path);
  }
}

/** @param {ArrayBuffer} bytes @param {string} path @returns {Packed} */
function unpacked(bytes, path) {
  try {
    const begin = 4 + new DataView(bytes).getUint32(0, true);
    const { arrays, ...head } = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, begin - 4)));
    /** @type {Record<string, Numbers>} */
    const found = {};
    for (const [name, [dtype, at, count]] of Object.entries(arrays)) {
      const Type = ARRAYS[/** @type {keyof typeof ARRAYS} */ (dtype)];
      found[name] = new Type(bytes, begin + at, count);
    }
    return { head, arrays: found };
  } catch {
    throw damaged(path);
  }
}

/** @param {string} path */
function damaged(path) {
  return new SourceError(`The file ${path} is damaged; copy the export to its host again.`, 200);
}
