/** A map that a server tells of. */

import { Bits } from "../bits.js";
import { ARRAYS } from "./columns.js";
import { SourceError, ask, askJson, checkLength, once, parsed } from "./transport.js";

/**
 * @typedef {import("../types.js").Source} Source
 * @typedef {import("../types.js").ColumnInfo} ColumnInfo
 * @typedef {import("../types.js").Dictionary} Dictionary
 * @typedef {import("../types.js").Manifest} Manifest
 * @typedef {import("../types.js").Tile} Tile
 * @typedef {import("./transport.js").Options} Options
 * @typedef {import("./transport.js").Transport} Transport
 * @typedef {{json: (method: string, path: string, options?: Options) => Promise<any>,
 *   bytes: (method: string, path: string, options?: Options) => Promise<import("./transport.js").Received>,
 *   manifest: () => Promise<Manifest>, mapId: () => string | null}} Server
 */

const ROWS_A_REQUEST = 1000;
const MIME = {
  parquet: "application/vnd.apache.parquet",
  csv: "text/csv",
  jsonl: "application/x-ndjson",
  ids: "text/plain",
};
const TAGS = "/../../tags";
const COLUMNS = "/files/columns.json";

/**
 * @param {Transport} transport
 * @returns {Source}
 */
export function createServerSource(transport) {
  const server = pinned(transport);
  return { kind: "server", ...fileParts(server), ...rowParts(server), ...setParts(server), ...tagParts(server) };
}

/**
 * "current" may become another map while somebody looks at this one, and positions of one mean nothing in the other;
 * so everything is asked of the map that the manifest came from.
 *
 * @param {Transport} transport
 * @returns {Server}
 */
function pinned(transport) {
  /** @type {string | null} */
  let id = null;
  const manifest = once(async () => {
    const { bytes, header } = await ask(transport, "GET", "/files/manifest.json");
    const told = header("x-gnomonic-map");
    if (told && /^[\w-]{1,64}$/.test(told)) id = told;
    return checkedManifest(bytes);
  });
  // These are asked for together with the manifest, and tell themselves which map they are of.
  const early = new Set(["/view", COLUMNS]);
  const ready = async (/** @type {string} */ path) => {
    if (!early.has(path)) await manifest();
    return path === TAGS || id === null ? path : `/../${id}${path}`;
  };
  return {
    manifest,
    mapId: () => id,
    json: async (method, path, options) => askJson(transport, method, await ready(path), options),
    bytes: async (method, path, options) => ask(transport, method, await ready(path), options),
  };
}

/** @param {ArrayBuffer} bytes @returns {Manifest} */
function checkedManifest(bytes) {
  /** @type {Manifest | null} */
  let told = null;
  try {
    told = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    // Told of below.
  }
  if (!told || !Array.isArray(told.tiles) || typeof told.count !== "number" || !told.extent) {
    throw new SourceError("The map's list of tiles (manifest.json) cannot be read.", 200);
  }
  return told;
}

/** Files of the map. @param {Server} server */
function fileParts(server) {
  /** @type {Map<string, () => Promise<Dictionary>>} */
  const dictionaries = new Map();
  return {
    manifest: server.manifest,
    view: async () => {
      const told = await server.json("GET", "/view");
      await server.manifest();
      const id = server.mapId();
      // Another map became the current one between the two answers.
      return id === null || told.map.id === id ? told : server.json("GET", "/view");
    },
    columns: once(async () => {
      const { bytes, header } = await server.bytes("GET", COLUMNS);
      await server.manifest();
      const same = server.mapId() === header("x-gnomonic-map");
      return (same ? parsed(bytes, COLUMNS) : await server.json("GET", COLUMNS)).columns;
    }),
    topics: once(async () => (await server.json("GET", "/topics")).topics),
    labels: once(async () => (await server.json("GET", "/labels")).labels),
    /** @type {Source["tile"]} */
    tile: async (tile, signal) => {
      const { bytes } = await server.bytes("GET", `/files/tiles/${keyOf(tile)}.bin`, signalled(signal));
      checkLength(bytes, 4 * tile.count, `Tile ${keyOf(tile)}`);
      return new Uint16Array(bytes);
    },
    /** @type {Source["columnTile"]} */
    columnTile: async (column, tile, signal) => {
      const Type = column.dtype && ARRAYS[column.dtype];
      if (!Type) throw new SourceError(`The column “${column.name}” has no values beside the map.`, 404);
      const path = `/files/columns/${encodeURIComponent(column.id)}/${keyOf(tile)}.bin`;
      const { bytes } = await server.bytes("GET", path, signalled(signal));
      checkLength(bytes, Type.BYTES_PER_ELEMENT * tile.count, `Column “${column.name}” of tile ${keyOf(tile)}`);
      return new Type(bytes);
    },
    /** @type {Source["dictionary"]} */
    dictionary: (column) => {
      const path = `/files/columns/${encodeURIComponent(column.id)}/dictionary.json`;
      const kept = dictionaries.get(column.id) ?? once(() => server.json("GET", path));
      dictionaries.set(column.id, kept);
      return kept();
    },
    /** @type {Source["thumbs"]} */
    thumbs: async (tile, signal) => {
      const found = await unlessAbsent(server.bytes("GET", `/thumbs/${keyOf(tile)}`, signalled(signal)));
      return found && createImageBitmap(new Blob([found.bytes], { type: "image/webp" }));
    },
    /** @type {Source["thumb"]} */
    thumb: async (position, signal) => {
      const found = await unlessAbsent(server.bytes("GET", `/thumbs/${position}`, signalled(signal)));
      return found && createImageBitmap(new Blob([found.bytes], { type: "image/webp" }));
    },
    /** @type {Source["image"]} */
    image: async (position) => {
      const found = await unlessAbsent(server.bytes("GET", `/images/${position}`));
      return found && new Blob([found.bytes], { type: found.header("content-type") ?? "image/*" });
    },
  };
}

/** Rows, and how they are found. @param {Server} server */
function rowParts(server) {
  return {
    /** @type {Source["rows"]} */
    rows: async (positions, { columns = null, longest = 400, signal } = {}) => {
      const parts = [];
      for (let begin = 0; begin < positions.length; begin += ROWS_A_REQUEST) {
        const some = positions.slice(begin, begin + ROWS_A_REQUEST);
        const json = { positions: some, columns, longest };
        const { rows } = await server.json("POST", "/rows-at", { json, ...signalled(signal) });
        if (!Array.isArray(rows) || rows.length !== some.length) {
          throw new SourceError(`${some.length} rows were asked for and ${rows?.length ?? "none"} came.`, 200);
        }
        parts.push(rows);
      }
      return parts.flat();
    },
    /** @type {Source["neighbors"]} */
    neighbors: async (position, k = 15) => (await server.json("GET", `/neighbors/${position}?k=${k}`)).neighbors,
    /** @type {Source["find"]} */
    find: async (mode, query, k, conditions = {}, signal) => {
      const json = { ...conditions, mode, ...query, k };
      return (await server.json("POST", "/find", { json, ...signalled(signal) })).hits;
    },
    /** @type {Source["heat"]} */
    heat: async (query, signal) => {
      const { count } = await server.manifest();
      const json = { ...query, dtype: "uint8" };
      const { bytes, header } = await server.bytes("POST", "/heat", { json, ...signalled(signal) });
      checkLength(bytes, count, "The heat");
      const low = Number(header("x-gnomonic-low"));
      const high = Number(header("x-gnomonic-high"));
      return { values: new Uint8Array(bytes), low: finite(low), high: finite(high) };
    },
  };
}

/** Sets of rows. @param {Server} server */
function setParts(server) {
  return {
    /** @type {Source["filter"]} */
    filter: async (conditions, signal) => {
      const { count } = await server.manifest();
      const { bytes } = await server.bytes("POST", "/filter", { json: conditions, ...signalled(signal) });
      checkLength(bytes, (count + 7) >> 3, "The set of rows");
      return new Bits(count, new Uint8Array(bytes));
    },
    /** @type {Source["counts"]} */
    counts: (columns, conditions, signal) =>
      server.json("POST", "/counts", { json: { ...conditions, columns }, ...signalled(signal) }),
    /** @type {Source["explain"]} */
    explain: (conditions, signal) => server.json("POST", "/explain", { json: conditions, ...signalled(signal) }),
    /** @type {Source["duplicateGroups"]} */
    duplicateGroups: ({ cutoff, keep, by, offset, limit, signal }) => {
      const asked = { cutoff: String(cutoff), keep, offset: String(offset), limit: String(limit) };
      const query = new URLSearchParams(by === null ? asked : { ...asked, by });
      return server.json("GET", `/duplicate-groups?${query}`, signalled(signal));
    },
    /** @type {Source["exportRows"]} */
    exportRows: async (conditions, format) => {
      const { bytes } = await server.bytes("POST", "/export", { json: { ...conditions, format } });
      return new Blob([bytes], { type: MIME[format] });
    },
  };
}

/** Tags; they belong to the dataset and are on all of its maps. @param {Server} server */
function tagParts(server) {
  return {
    /** @type {Source["tags"]} */
    tags: async () => (await server.json("GET", TAGS)).tags,
    /** @type {Source["tag"]} */
    tag: async (name, conditions, remove = false) => {
      const { count } = await server.manifest();
      const told = await server.json("POST", "/tags", { json: { ...conditions, name, remove } });
      return { name: told.name, rows: told.rows, changed: bitsOf(count, told.changed) };
    },
    /** @type {Source["deleteTag"]} */
    deleteTag: async (name) => {
      await server.json("DELETE", TAGS, { json: { name } });
    },
  };
}

/** @param {number} count @param {unknown} text */
function bitsOf(count, text) {
  try {
    return Bits.fromBase64(count, String(text));
  } catch {
    throw new SourceError("The server's list of changed rows does not fit this map.", 200);
  }
}

/**
 * What a promise gives, and null where there is no such thing.
 *
 * @template T
 * @param {Promise<T>} work
 * @returns {Promise<T | null>}
 */
async function unlessAbsent(work) {
  try {
    return await work;
  } catch (error) {
    if (error instanceof SourceError && error.status === 404) return null;
    throw error;
  }
}

/** @param {Tile} tile */
function keyOf(tile) {
  return `${tile.z}/${tile.x}/${tile.y}`;
}

/** @param {AbortSignal} [signal] @returns {{signal?: AbortSignal}} */
function signalled(signal) {
  return signal ? { signal } : {};
}

/** @param {number} value */
function finite(value) {
  return Number.isFinite(value) ? value : 0;
}
