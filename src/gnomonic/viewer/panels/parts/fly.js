/** Moves the map to where rows lie. */

/** @typedef {import("../../types.js").App} App */
/** @typedef {import("../../bits.js").Bits} Bits */

/** Rows that are looked at: the first positions are of coarse tiles, which are samples of the whole. */
const SAMPLE = 400;
/** Share of rows at each edge that do not count: a few far away would make the rest a dot. */
const TRIM = 0.04;
const MARGIN = 0.35;
/** Smallest side that is flown to, as a share of the map's. */
const SMALLEST = 0.012;

/**
 * Show a set of rows.
 *
 * @param {App} app
 * @param {Bits | null} rows
 * @param {[number, number] | null} [middle]  Where to go without rows.
 */
export async function flyTo(app, rows, middle = null) {
  const positions = rows?.positions(SAMPLE) ?? [];
  const places = positions.length ? await app.renderer.locate(positions).catch(() => []) : [];
  const size = app.manifest.extent.size;
  if (!places.length && !middle) return;
  const [x0, x1] = places.length ? spread(places.map(([x]) => x)) : [middle?.[0] ?? 0, middle?.[0] ?? 0];
  const [y0, y1] = places.length ? spread(places.map(([, y]) => y)) : [middle?.[1] ?? 0, middle?.[1] ?? 0];
  const half = Math.max(x1 - x0, y1 - y0, SMALLEST * size) * (0.5 + MARGIN);
  const x = (x0 + x1) / 2;
  const y = (y0 + y1) / 2;
  app.renderer.fit([x - half, y - half, x + half, y + half], { animate: true });
}

/**
 * @param {number[]} values
 * @returns {[number, number]}
 */
function spread(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const off = Math.floor(TRIM * sorted.length);
  return [sorted[off], sorted[sorted.length - 1 - off]];
}
