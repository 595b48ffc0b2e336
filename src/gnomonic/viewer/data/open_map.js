/** What the first picture of a map needs, asked for at once: while it comes, so do the modules that draw it. */

import { Columns, USUAL_COLUMN } from "./columns.js";

/** @typedef {import("../types.js").Manifest} Manifest */
/** @typedef {import("../types.js").MapView} MapView */
/** @typedef {import("../types.js").Source} Source */
/** @typedef {import("../types.js").Tile} Tile */
/** @typedef {{source: Source, manifest: Manifest, view: MapView, columns: Columns}} Opened */

/**
 * @param {Source} source
 * @param {AbortSignal} [signal]  Ends what goes on.
 * @returns {Promise<Opened>}
 */
export async function openMap(source, signal) {
  const view = source.view();
  // Awaited below, unless the manifest fails before; the columns are told of by whoever asks again.
  for (const asked of [view, source.columns()]) asked.catch(() => undefined);
  const manifest = await source.manifest();
  const columns = new Columns(source, manifest, { signal });
  const root = manifest.tiles.find((tile) => tile.z === 0 && tile.count > 0);
  if (root) void askColors(columns, root);
  return { source: root ? withTile(source, root) : source, manifest, view: await view, columns };
}

/**
 * The source, which is asked now for a tile that somebody will want.
 *
 * @param {Source} source
 * @param {Tile} wanted
 * @returns {Source}
 */
function withTile(source, wanted) {
  /** @type {Promise<Uint16Array> | null} */
  let coming = source.tile(wanted);
  coming.catch(() => undefined);
  return {
    ...source,
    tile: (tile, signal) => {
      const asked = tile === wanted && coming;
      coming = asked ? null : coming;
      return asked || source.tile(tile, signal);
    },
  };
}

/**
 * What goes wrong here is told by whoever wants the colours next.
 *
 * @param {Columns} columns
 * @param {Tile} root
 */
async function askColors(columns, root) {
  try {
    const column = await columns.info(USUAL_COLUMN);
    if (!column?.dtype) return;
    const names = column.kind === "category" ? columns.dictionary(column) : null;
    await Promise.all([columns.tile(column, root), names]);
  } catch {
    // As above.
  }
}
