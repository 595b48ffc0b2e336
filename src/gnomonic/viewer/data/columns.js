/** Values of columns, of one tile or of the whole map: each fetched once, tried again when it fails, kept while there
 * is room. */

/** @typedef {import("../types.js").ColumnInfo} ColumnInfo */
/** @typedef {import("../types.js").Dictionary} Dictionary */
/** @typedef {import("../types.js").Manifest} Manifest */
/** @typedef {import("../types.js").Source} Source */
/** @typedef {import("../types.js").Tile} Tile */
/** @typedef {import("../types.js").Values} Values */
/** @typedef {{promise: Promise<Values>, values: Values | null}} Kept */

/** Arrays by the names that the map's files use for the types of their numbers; all little-endian. */
export const ARRAYS = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  f64: Float64Array,
};

/** The column that a map is coloured by when nothing is said. */
export const USUAL_COLUMN = "_topic_depth_1";
const TRIES = 3;
const PARALLEL = 6;
const PATIENCE_MS = 30_000;

export class Columns {
  /** @type {Map<string, Kept>} Of tiles, the one used last at the end. */
  #tiles = new Map();
  /** @type {Map<string, Kept>} Of whole columns. */
  #wholes = new Map();
  /** @type {Map<string, Promise<Dictionary>>} */
  #dictionaries = new Map();
  /** @type {Promise<ColumnInfo[]> | null} */
  #infos = null;
  #bytes = 0;

  /**
   * @param {Pick<Source, "columns" | "columnTile" | "dictionary">} source
   * @param {Manifest} manifest
   * @param {{signal?: AbortSignal, mostBytes?: number}} [options]
   */
  constructor(source, manifest, { signal, mostBytes = 192 << 20 } = {}) {
    this.source = source;
    this.manifest = manifest;
    this.signal = signal;
    this.mostBytes = mostBytes;
  }

  /** All columns of the map. @returns {Promise<ColumnInfo[]>} */
  infos() {
    const asked = (this.#infos ??= this.source.columns());
    asked.catch(() => (this.#infos = null));
    return asked;
  }

  /** The column of that name. @param {string} name @returns {Promise<ColumnInfo | null>} */
  async info(name) {
    return (await this.infos()).find((one) => one.name === name) ?? null;
  }

  /** Names of a category's codes. @param {ColumnInfo} column @returns {Promise<Dictionary>} */
  dictionary(column) {
    const known = this.#dictionaries.get(column.id);
    if (known) return known;
    const asked = this.source.dictionary(column);
    this.#dictionaries.set(column.id, asked);
    asked.catch(() => this.#dictionaries.delete(column.id));
    return asked;
  }

  /**
   * A column's values of a tile; rejects after three tries.
   *
   * @param {ColumnInfo} column
   * @param {Tile} tile
   * @param {AbortSignal} [signal]
   * @returns {Promise<Values>}
   */
  tile(column, tile, signal) {
    const whole = this.#wholes.get(column.id)?.values;
    if (whole) return Promise.resolve(whole.subarray(tile.offset, tile.offset + tile.count));
    const key = `${column.id}/${tile.z}/${tile.x}/${tile.y}`;
    const kept = this.#tiles.get(key);
    if (kept) {
      this.#tiles.delete(key);
      this.#tiles.set(key, kept);
      // Whoever asked first may give up; that is no reason for those who asked later to go without.
      return kept.promise.catch((error) => {
        if (!isAbort(error) || signal?.aborted || this.signal?.aborted) throw error;
        return this.tile(column, tile, signal);
      });
    }
    const entry = this.#keep(this.#tiles, key, this.#fetch(column, tile, signal));
    entry.promise.then((values) => this.#grew(values.byteLength), () => undefined);
    return entry.promise;
  }

  /**
   * All values of a column in map order.
   *
   * @param {ColumnInfo} column
   * @param {{signal?: AbortSignal, progress?: (done: number, total: number) => void}} [options]
   * @returns {Promise<Values>}
   */
  whole(column, { signal, progress } = {}) {
    const kept = this.#wholes.get(column.id);
    if (kept) return kept.promise;
    return this.#keep(this.#wholes, column.id, this.#gather(column, signal, progress)).promise;
  }

  /**
   * @param {Map<string, Kept>} where
   * @param {string} key
   * @param {Promise<Values>} promise
   */
  #keep(where, key, promise) {
    /** @type {Kept} */
    const entry = { promise, values: null };
    where.set(key, entry);
    promise.then(
      (values) => (entry.values = values),
      () => where.get(key) === entry && where.delete(key),
    );
    return entry;
  }

  /** @param {number} bytes */
  #grew(bytes) {
    this.#bytes += bytes;
    for (const [key, kept] of this.#tiles) {
      if (this.#bytes <= this.mostBytes) break;
      if (!kept.values) continue;
      this.#bytes -= kept.values.byteLength;
      this.#tiles.delete(key);
    }
  }

  /**
   * @param {ColumnInfo} column
   * @param {AbortSignal | undefined} signal
   * @param {((done: number, total: number) => void) | undefined} progress
   */
  async #gather(column, signal, progress) {
    if (!column.dtype) throw new Error(`Column ${column.name} has no values beside the map.`);
    const { tiles, count } = this.manifest;
    const values = new ARRAYS[column.dtype](count);
    let next = 0;
    let done = 0;
    const work = async () => {
      while (next < tiles.length) {
        const tile = tiles[next++];
        if (tile.count) values.set(await this.tile(column, tile, signal), tile.offset);
        done += tile.count;
        progress?.(done, count);
      }
    };
    await Promise.all(Array.from({ length: Math.min(PARALLEL, tiles.length) }, work));
    return values;
  }

  /**
   * @param {ColumnInfo} column
   * @param {Tile} tile
   * @param {AbortSignal | undefined} signal
   */
  #fetch(column, tile, signal) {
    if (!column.dtype) return Promise.reject(new Error(`Column ${column.name} has no values beside the map.`));
    const made = ARRAYS[column.dtype];
    const signals = [this.signal, signal].filter((one) => one !== undefined);
    return withTries(async (attempt) => {
      const values = await this.source.columnTile(column, tile, attempt);
      if (!(values instanceof made) || values.length !== tile.count) {
        throw new Error(`Column ${column.name} of tile ${tile.z}/${tile.x}/${tile.y} is damaged.`);
      }
      return values;
    }, signals);
  }
}

/**
 * Try three times, with a pause between and a limit of time for each; a tile that hangs fails like one that is absent.
 *
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} run
 * @param {AbortSignal[]} signals  Any of them ends it.
 * @returns {Promise<T>}
 */
export async function withTries(run, signals) {
  for (let tried = 1; ; tried++) {
    if (signals.some((signal) => signal.aborted)) throw new DOMException("Given up.", "AbortError");
    try {
      return await once(run, signals);
    } catch (error) {
      if (signals.some((signal) => signal.aborted)) throw new DOMException("Given up.", "AbortError");
      if (tried === TRIES) throw isAbort(error) ? new Error("No answer came in time.") : error;
    }
    await new Promise((resolve) => setTimeout(resolve, 400 * 3 ** (tried - 1)));
  }
}

/**
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} run
 * @param {AbortSignal[]} signals
 * @returns {Promise<T>}
 */
function once(run, signals) {
  const attempt = new AbortController();
  return new Promise((resolve, reject) => {
    // What runs may not listen to its signal, so that the end of its time is told here too.
    const end = () => {
      attempt.abort();
      reject(new DOMException("Given up.", "AbortError"));
    };
    const timer = setTimeout(end, PATIENCE_MS);
    for (const signal of signals) signal.addEventListener("abort", end);
    run(attempt.signal)
      .then(resolve, reject)
      .finally(() => {
        clearTimeout(timer);
        for (const signal of signals) signal.removeEventListener("abort", end);
      });
  });
}

/** Whether an error only says that nobody waits any more. @param {unknown} error */
export function isAbort(error) {
  return error instanceof Error && error.name === "AbortError";
}
