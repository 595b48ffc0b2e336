/** How large and how opaque points are, so that a map is neither faint nor one flat blob at any zoom. */

/** @typedef {import("./tiles.js").TileNode} TileNode */

import { GONE } from "./states.js";

/** Share of the background that is covered where points are as dense as they mostly are. */
const COVERED = 0.86;

/**
 * Points a unit of the plane's area, as the middle one of the points has it around.
 *
 * @param {TileNode} root  A sample of the whole map.
 * @param {number} total  Points of the map.
 * @param {Uint8Array | null} groups  Of the root's points.
 * @param {number} least  The lowest group that counts.
 */
export function typicalDensity(root, total, groups, least) {
  const count = root.tile.count;
  if (!root.xy || !count) return 0;
  const across = Math.max(4, Math.min(128, Math.round(Math.sqrt(count) / 2)));
  const cells = new Uint32Array(across * across);
  const unit = across / 65536;
  let kept = 0;
  for (let i = 0; i < count; i++) {
    if (groups && (groups[i] < least || groups[i] === GONE)) continue;
    cells[((root.xy[count + i] * unit) | 0) * across + ((root.xy[i] * unit) | 0)]++;
    kept++;
  }
  if (!kept) return 0;
  const filled = cells.filter((cell) => cell > 0).sort();
  // All in a few places: those are what is seen, and not how many points lie on each other there.
  if (filled.length <= 8) return filled.length / root.side ** 2;
  let seen = 0;
  let middle = 1;
  for (const cell of filled) {
    seen += cell;
    middle = cell;
    if (seen >= kept / 2) break;
  }
  // A point alone in its cell is as good as alone: what counts is those beside it.
  const area = (root.side / across) ** 2;
  return (Math.max(middle - 1, 0.5) / area) * (total / count);
}

/**
 * @param {number} density  Of the plane.
 * @param {number} scale  CSS pixels a unit.
 * @returns {{radius: number, alpha: number, spacing: number}}  In CSS pixels.
 */
export function pointLook(density, scale) {
  const spacing = density > 0 ? scale / Math.sqrt(density) : 100;
  const radius = Math.min(8, Math.max(0.75, 1.2 * spacing ** 0.42));
  return { radius, spacing, alpha: opacityAt(radius, spacing) };
}

/** @param {number} radius @param {number} spacing */
export function opacityAt(radius, spacing) {
  const over = (Math.PI * radius ** 2) / spacing ** 2;
  return Math.min(0.92, Math.max(0.1, 1 - (1 - COVERED) ** (1 / over)));
}
