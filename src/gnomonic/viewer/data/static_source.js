/** A map in a folder of plain files, as `AtlasMap.export` writes it: all that a server does but search by meaning. */

import { Bits } from "../bits.js";
import { ARRAYS, Columns } from "./columns.js";
import { StaticDuplicates } from "./static_duplicates.js";
import { explained } from "./static_explain.js";
import { StaticFiles } from "./static_files.js";
import { StaticRows } from "./static_rows.js";
import { countsOf, passing, pointsOf } from "./static_sets.js";
import { StaticSketch, best, heatOf } from "./static_sketch.js";
import { StaticTags } from "./static_tags.js";
import { findWords } from "./static_words.js";
import { SourceError, checkLength, once } from "./transport.js";

/**
 * @typedef {import("../types.js").Conditions} Conditions
 * @typedef {import("../types.js").Dictionary} Dictionary
 * @typedef {import("../types.js").Hit} Hit
 * @typedef {import("../types.js").Neighbor} Neighbor
 * @typedef {import("../types.js").Source} Source
 * @typedef {import("../types.js").Tile} Tile
 * @typedef {ReturnType<typeof opened>} Opened
 */

const FORMAT = "gnomonic-site-1";
const NONE = 4294967295;
const NO_MEANING =
  "Search by meaning needs a server, and this map is a folder of files. Search by words, or for rows like another.";
const MIME = { png: "image/png", jpg: "image/jpeg", webp: "image/webp", gif: "image/gif" };
const MOST_MEMBERS = 100;
/** Pixels of a small picture's side. */
const THUMB = 64;

/**
 * @param {string} base  The folder `data` of the export, relative to the page.
 * @param {{onReach?: (reached: boolean) => void, fetching?: typeof fetch,
 *   storage?: import("./static_tags.js").Keeping | null}} [options]
 * @returns {Source}
 */
export function createStaticSource(base, options = {}) {
  const files = new StaticFiles(base, options);
  const parts = fileParts(files);
  const open = once(async () => {
    const told = await files.json("export.json");
    if (told.format !== FORMAT) {
      throw new SourceError(`This viewer reads exports of the format ${FORMAT} and not ${told.format}.`, 200);
    }
    const gone = told.gone ? new Bits(told.count, new Uint8Array(await goneOf(files))) : null;
    return opened(files, parts, told, gone && gone.inverted(), await parts.manifest(), options.storage);
  });
  return { kind: "static", ...parts, ...rowParts(files, open), ...findParts(open), ...setParts(open) };
}

/** @param {StaticFiles} files @returns {Promise<ArrayBuffer>} */
async function goneOf(files) {
  const { arrays } = await files.packed("gone.bin");
  return /** @type {ArrayBuffer} */ (arrays.bits.slice().buffer);
}

/** Files that are read as they are. @param {StaticFiles} files */
function fileParts(files) {
  return {
    view: () => files.json("view.json"),
    reach: () => files.bytes("view.json", undefined, "no-store"),
    manifest: () => files.json("tiles/manifest.json"),
    columns: once(async () => (await files.json("tiles/columns.json")).columns),
    topics: once(async () => (await files.json("topics.json")).topics),
    labels: once(async () => (await files.json("labels.json")).labels),
    /** @type {Source["tile"]} */
    tile: async (tile, signal) => {
      const bytes = await files.bytes(`tiles/tiles/${keyOf(tile)}.bin`, signal);
      checkLength(bytes, 4 * tile.count, `Tile ${keyOf(tile)}`);
      return new Uint16Array(bytes);
    },
    /** @type {Source["columnTile"]} */
    columnTile: async (column, tile, signal) => {
      const Type = column.dtype && ARRAYS[column.dtype];
      if (!Type) throw new SourceError(`The column “${column.name}” has no values beside the map.`, 404);
      const bytes = await files.bytes(`tiles/columns/${column.id}/${keyOf(tile)}.bin`, signal);
      checkLength(bytes, Type.BYTES_PER_ELEMENT * tile.count, `Column “${column.name}” of tile ${keyOf(tile)}`);
      return new Type(bytes);
    },
    /** @type {Source["dictionary"]} */
    dictionary: (column) => files.json(`tiles/columns/${column.id}/dictionary.json`),
  };
}

/**
 * What the parts below share, made once.
 *
 * @param {StaticFiles} files
 * @param {ReturnType<typeof fileParts>} parts
 * @param {any} told  export.json
 * @param {Bits | null} living  Null where no row is gone.
 * @param {import("../types.js").Manifest} manifest
 * @param {import("./static_tags.js").Keeping | null} [storage]
 */
function opened(files, parts, told, living, manifest, storage) {
  const { count } = told;
  const columns = new Columns(parts, manifest);
  const rows = new StaticRows(files, count, told.rows);
  const sketch = new StaticSketch(files, count, told.block, told.sketch);
  const tags = new StaticTags(files, told.map, count, storage);
  const duplicates = new StaticDuplicates(files, told.duplicates, living, {
    textField: async () => (await parts.view()).text_field,
    columns: parts.columns,
    whole: (column) => columns.whole(column),
  });
  const scores = async (/** @type {number} */ position, /** @type {AbortSignal | undefined} */ signal) =>
    sketch.scores(await sketch.coordinates(position), signal);
  const sets = {
    manifest,
    columns,
    living,
    scores,
    topics: parts.topics,
    tagged: (/** @type {string} */ name) => tags.rows(name),
    positionOf: (/** @type {string | number} */ id) => rows.positionOf(id),
    points: once(() => pointsOf(manifest, parts.tile)),
    deletable: async (/** @type {number} */ cutoff, /** @type {string} */ keep, /** @type {string | null} */ by) =>
      (await duplicates.groups(cutoff, keep, by)).groups.flatMap((group) => group.slice(1)),
  };
  const explaining = {
    files,
    count,
    columns,
    sketch,
    block: told.block,
    words: told.rows.words,
    topics: parts.topics,
    idField: async () => (await parts.view()).dataset.id_field,
  };
  return { files, told, count, living, rows, sketch, tags, duplicates, sets, explaining };
}

/** Rows and their images. @param {StaticFiles} files @param {() => Promise<Opened>} open */
function rowParts(files, open) {
  const image = async (/** @type {number} */ position, /** @type {AbortSignal | undefined} */ signal = undefined) => {
    const { told, rows } = await open();
    const kind = told.images ? await rows.imageKind(position) : null;
    if (kind === null) return null;
    const bytes = await files.bytes(`images/${Math.floor(position / told.images)}/${position}.${kind}`, signal);
    return new Blob([bytes], { type: MIME[/** @type {keyof typeof MIME} */ (kind)] });
  };
  return {
    /** @type {Source["rows"]} */
    rows: async (positions, options) => (await open()).rows.rows(positions, options),
    /** @type {Source["neighbors"]} */
    neighbors: async (position, k = 15) => {
      const { rows } = await open();
      const near = (await nearOf(await open(), position)).slice(0, k);
      const ids = await rows.ids(near.map((one) => one.position));
      return near.map((one, at) => ({ ...one, id: /** @type {string | number} */ (ids[at]) }));
    },
    /** @type {Source["thumbs"]} */
    thumbs: async (tile, signal) => {
      if (!(await open()).told.images || !tile.count) return null;
      const bytes = await files.bytes(`thumbs/${keyOf(tile)}.webp`, signal);
      return createImageBitmap(new Blob([bytes]));
    },
    /** @type {Source["thumb"]} */
    thumb: async (position, signal) => {
      const found = await image(position, signal);
      return found && shrunk(found);
    },
    /** @type {Source["image"]} */
    image: (position) => image(position),
  };
}

/**
 * A picture in the middle of a cell of 64 pixels, as it is on a sheet.
 *
 * @param {Blob} file
 */
async function shrunk(file) {
  const whole = await createImageBitmap(file);
  const scale = Math.min(1, THUMB / whole.width, THUMB / whole.height);
  const [width, height] = [Math.max(1, Math.round(whole.width * scale)), Math.max(1, Math.round(whole.height * scale))];
  const canvas = new OffscreenCanvas(THUMB, THUMB);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, Math.round((THUMB - width) / 2), Math.round((THUMB - height) / 2), width, height);
  whole.close();
  return canvas.transferToImageBitmap();
}

/** The true neighbours that the export holds, nearest first. @param {Opened} opened @param {number} position */
async function nearOf({ files, told }, position) {
  const { block } = told.neighbors;
  const { head, arrays } = await files.packed(`neighbors/${Math.floor(position / block)}.bin`);
  const begin = (position % block) * head.k;
  /** @type {{position: number, distance: number}[]} */
  const found = [];
  for (let at = begin; at < begin + head.k && arrays.positions[at] !== NONE; at++) {
    found.push({ position: arrays.positions[at], distance: arrays.distances[at] * head.step });
  }
  return found;
}

/** Search. @param {() => Promise<Opened>} open */
function findParts(open) {
  return {
    /** @type {Source["find"]} */
    find: async (mode, query, k, conditions = {}, signal) => {
      const parts = await open();
      const asked = Object.values(conditions).some((value) => value !== undefined && value !== null);
      const among = asked ? await passing(parts.sets, conditions, signal) : parts.living;
      if (mode === "words") {
        if (!parts.told.rows.words) throw new SourceError("This map has no texts to search for words.", 400);
        return findWords(parts.files, parts.count, parts.told.rows.words, query.query ?? "", k, among);
      }
      if (mode === "id") {
        const position = await parts.rows.positionOf(query.query ?? "");
        return position === null || (among && !among.has(position)) ? [] : [{ position, score: 1 }];
      }
      if (mode !== "like" || query.position === undefined) throw new SourceError(NO_MEANING, 400);
      return like(parts, query.position, k, among, signal);
    },
    /** @type {Source["heat"]} */
    heat: async ({ position }, signal) => {
      if (position === undefined) throw new SourceError(NO_MEANING, 400);
      const parts = await open();
      return heatOf(await parts.sets.scores(position, signal), parts.living);
    },
  };
}

/**
 * Rows like another: its true neighbours first, as far as the export holds them, then by the sketch.
 *
 * @param {Opened} parts
 * @param {number} position
 * @param {number} k
 * @param {Bits | null} among
 * @param {AbortSignal} [signal]
 * @returns {Promise<Hit[]>}
 */
async function like(parts, position, k, among, signal) {
  const cosine = parts.told.neighbors.metric === "cosine";
  const near = (await nearOf(parts, position))
    .filter((one) => !among || among.has(one.position))
    .map((one) => ({ position: one.position, score: cosine ? 1 - one.distance : -one.distance }));
  if (near.length >= k) return near.slice(0, k);
  const known = new Set([position, ...near.map((one) => one.position)]);
  const scores = await parts.sets.scores(position, signal);
  const others = best(scores, k - near.length, (one) => !known.has(one) && (!among || among.has(one)));
  // What is no neighbour is no nearer than the last neighbour, whatever the sketch says.
  const most = near.at(-1)?.score ?? Infinity;
  return [...near, ...others.map((one) => ({ ...one, score: Math.min(one.score, most) }))];
}

/** Sets of rows, tags and files. @param {() => Promise<Opened>} open */
function setParts(open) {
  const chosen = async (/** @type {Conditions} */ conditions, /** @type {AbortSignal | undefined} */ signal) =>
    passing((await open()).sets, conditions, signal);
  return {
    /** @type {Source["filter"]} */
    filter: chosen,
    /** @type {Source["counts"]} */
    counts: async (columns, conditions, signal) => {
      const { sets } = await open();
      const found = await chosen(conditions, signal);
      return { total: found.count(), counts: await countsOf(sets, columns, found) };
    },
    /** @type {Source["explain"]} */
    explain: async (conditions, signal) => {
      const { explaining, living, count } = await open();
      return explained(explaining, await chosen(conditions, signal), living ?? Bits.full(count), signal);
    },
    /** @type {Source["tags"]} */
    tags: async () => (await open()).tags.list(),
    /** @type {Source["tag"]} */
    tag: async (name, conditions, remove = false) =>
      (await open()).tags.change(name, await chosen(conditions, undefined), remove),
    /** @type {Source["deleteTag"]} */
    deleteTag: async (name) => (await open()).tags.remove(name),
    /** @type {Source["duplicateGroups"]} */
    duplicateGroups: async ({ cutoff, keep, by, offset, limit }) => {
      const { groups, rows, deletable } = await (await open()).duplicates.groups(cutoff, keep, by);
      const page = groups
        .slice(offset, offset + limit)
        .map((all) => ({ positions: all.slice(0, MOST_MEMBERS), keep: all[0], size: all.length }));
      return { cutoff, groups: groups.length, rows, deletable, page };
    },
    /** @type {Source["exportRows"]} */
    exportRows: async (conditions, format) => (await open()).rows.file(await chosen(conditions, undefined), format),
  };
}

/** @param {Tile} tile */
function keyOf(tile) {
  return `${tile.z}/${tile.x}/${tile.y}`;
}
