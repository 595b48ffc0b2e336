/**
 * Which points fade, which are as usual and which stand out. The points of a tile are sorted by that, so that each
 * group can be drawn on its own, the ones that matter last.
 */

/** @typedef {import("../types.js").Heat} Heat */
/** @typedef {import("../bits.js").Bits} Bits */
/** @typedef {import("./tiles.js").TileNode} TileNode */
/**
 * @typedef {object} PointState
 * @property {number} version  Another one whenever it changes.
 * @property {Bits | null} passing
 * @property {Bits | null} [living]  Null where all rows are there.
 * @property {Bits | null} selection
 * @property {Heat | null} heat
 * @property {number} coolest  Heat values below fade.
 * @property {number} hottest  Heat values from here on stand out.
 */
/**
 * @typedef {object} Parts  Points of a tile by group.
 * @property {number} version
 * @property {Uint16Array | Uint32Array | null} index  Null where all points are in one group and in their own order.
 * @property {number[]} starts  Where each group begins in it; the end is last.
 * @property {Uint8Array | null} groups  Of each point; null where all are as usual.
 * @property {[number, number, number, number] | null} within
 */

export const FADED = 0;
export const USUAL = 1;
export const HOT = 2;
export const CHOSEN = 3;
/** Rows that were deleted: points that are not drawn. */
export const GONE = 255;

/**
 * The group of each point of a tile; null where all are as usual.
 *
 * @param {TileNode["tile"]} tile
 * @param {PointState} state
 */
export function groupsOf({ offset, count }, { passing, living = null, selection, heat, coolest, hottest }) {
  if (!passing && !living && !selection && !heat) return null;
  const groups = new Uint8Array(count);
  if (heat) {
    const values = heat.values;
    for (let i = 0; i < count; i++) {
      const value = values[offset + i];
      groups[i] = value < coolest ? FADED : value >= hottest ? HOT : USUAL;
    }
  } else groups.fill(USUAL);
  if (selection) {
    const bytes = selection.bytes;
    for (let i = 0, p = offset; i < count; i++, p++) if ((bytes[p >> 3] >> (p & 7)) & 1) groups[i] = CHOSEN;
  }
  if (passing) putWhereNot(passing, FADED, groups, offset);
  if (living) putWhereNot(living, GONE, groups, offset);
  return groups;
}

/**
 * @param {Bits} bits
 * @param {number} group
 * @param {Uint8Array} groups  Of the points from a position on.
 * @param {number} offset
 */
function putWhereNot({ bytes }, group, groups, offset) {
  for (let i = 0, p = offset; i < groups.length; i++, p++) if (!((bytes[p >> 3] >> (p & 7)) & 1)) groups[i] = group;
}

/**
 * Sort a tile's points by group, those that are gone or outside a part of the tile left out.
 *
 * @param {TileNode} node
 * @param {Uint8Array | null} groups
 * @param {[number, number, number, number] | null} within  In steps of the tile's positions.
 */
export function arrange(node, groups, within) {
  const xy = /** @type {Uint16Array} */ (node.xy);
  const count = node.tile.count;
  if (!groups && !within) return { index: null, starts: [0, 0, count, count, count] };
  const [x0, y0, x1, y1] = within ?? [0, 0, 65535, 65535];
  const sizes = [0, 0, 0, 0];
  let kept = 0;
  // 65,535 is no point but the mark of a new line to WebGL2.
  const found = new (count > 65535 ? Uint32Array : Uint16Array)(count);
  for (let i = 0; i < count; i++) {
    const x = xy[i];
    const y = xy[count + i];
    if (x < x0 || x > x1 || y < y0 || y > y1 || (groups && groups[i] === GONE)) continue;
    found[kept++] = i;
    sizes[groups ? groups[i] : USUAL]++;
  }
  const starts = [0, 0, 0, 0, 0];
  for (let group = 0; group < 4; group++) starts[group + 1] = starts[group] + sizes[group];
  if (!groups) return { index: found.slice(0, kept), starts };
  const next = starts.slice();
  const index = found instanceof Uint32Array ? new Uint32Array(kept) : new Uint16Array(kept);
  for (let k = 0; k < kept; k++) index[next[groups[found[k]]]++] = found[k];
  return { index, starts };
}

/**
 * The part of a tile that a view shows, with some room around it, in steps of the tile's positions.
 *
 * @param {TileNode} node
 * @param {import("./camera.js").View} view
 * @param {number} room  Shares of the view on each side.
 * @returns {[number, number, number, number]}
 */
export function partInView(node, view, room) {
  const halfX = (view.width * (0.5 + room) + 40) / view.scale;
  const halfY = (view.height * (0.5 + room) + 40) / view.scale;
  const unit = 65535 / node.side;
  const x0 = (view.x - halfX - node.left) * unit;
  const x1 = (view.x + halfX - node.left) * unit;
  const y0 = (view.y - halfY - node.lower) * unit;
  const y1 = (view.y + halfY - node.lower) * unit;
  return [Math.max(0, x0), Math.max(0, y0), Math.min(65535, x1), Math.min(65535, y1)];
}

/**
 * What the value of a score is among a heat's 8-bit values, rounded up.
 *
 * @param {Heat} heat
 * @param {number | null} score
 */
export function heatStep(heat, score) {
  if (score === null) return 0;
  return Math.ceil(((score - heat.low) / (heat.high - heat.low || 1)) * 255 - 1e-6);
}

/** The heat that three in a hundred rows reach. @param {Heat} heat */
export function hottestOf(heat) {
  const counts = new Uint32Array(256);
  for (const value of heat.values) counts[value]++;
  let above = 0;
  for (let step = 255; step > 0; step--) {
    above += counts[step];
    if (above >= 0.03 * heat.values.length) return Math.max(step, 1);
  }
  return 256;
}
