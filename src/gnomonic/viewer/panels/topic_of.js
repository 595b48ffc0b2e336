/** Which topics a row is in, from the columns beside the tiles. */

import { topicColumns } from "./row_fields.js";

/**
 * @typedef {import("../types.js").App} App
 * @typedef {import("../types.js").ColumnInfo} ColumnInfo
 * @typedef {import("../types.js").Tile} Tile
 * @typedef {import("../types.js").Values} Values
 */

const MOST_PARTS = 32;

/** @type {WeakMap<App, (position: number) => Promise<string[]>>} */
const finders = new WeakMap();

/**
 * Names of the topics of a row, the broadest first; empty where it is in none.
 *
 * @param {App} app
 * @param {number} position
 * @returns {Promise<string[]>}
 */
export function topicsOf(app, position) {
  const kept = finders.get(app) ?? finder(app);
  finders.set(app, kept);
  return kept(position);
}

/** @param {App} app */
function finder({ source, manifest }) {
  /** @type {Map<string, Promise<Values>>} */
  const parts = new Map();

  /** @param {ColumnInfo} column @param {Tile} tile */
  const part = (column, tile) => {
    const key = `${column.id} ${tile.offset}`;
    const kept = parts.get(key) ?? source.columnTile(column, tile);
    parts.delete(key);
    parts.set(key, kept);
    kept.catch(() => parts.delete(key));
    const oldest = parts.keys().next();
    if (parts.size > MOST_PARTS && !oldest.done) parts.delete(oldest.value);
    return kept;
  };

  return async (/** @type {number} */ position) => {
    const tile = tileAt(manifest.tiles, position);
    if (!tile) return [];
    const names = await Promise.all(
      topicColumns(await source.columns()).map(async (column) => {
        const [values, dictionary] = await Promise.all([part(column, tile), source.dictionary(column)]);
        const code = values[position - tile.offset];
        return code === column.null_code ? null : (dictionary.names[code] ?? null);
      }),
    );
    return names.filter((name) => name !== null);
  };
}

/**
 * The tile that holds a position.
 *
 * @param {Tile[]} tiles  In map order.
 * @param {number} position
 * @returns {Tile | null}
 */
export function tileAt(tiles, position) {
  let low = 0;
  let high = tiles.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const tile = tiles[middle];
    if (position < tile.offset) high = middle - 1;
    else if (position >= tile.offset + tile.count) low = middle + 1;
    else return tile;
  }
  return null;
}
