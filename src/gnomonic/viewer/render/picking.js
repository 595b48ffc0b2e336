/** Which point is under the pointer: those of the few tiles there are looked through, which takes well below 2 ms. */

/** @typedef {import("./passes.js").Drawn} Drawn */

/**
 * The map position of the nearest point that is drawn and does not fade.
 *
 * @param {Iterable<Drawn>} drawn
 * @param {number} x  On the plane.
 * @param {number} y
 * @param {number} reach  In units of the plane.
 * @returns {number | null}
 */
export function nearest(drawn, x, y, reach) {
  let best = reach * reach;
  let found = null;
  for (const { node, index, spans } of drawn) {
    const { xy, left, lower, side, tile } = node;
    if (!xy || x + reach < left || x - reach > left + side || y + reach < lower || y - reach > lower + side) continue;
    const step = side / 65535;
    const [u, v, r] = [(x - left) / step, (y - lower) / step, reach / step];
    const [u0, u1, v0, v1] = [u - r, u + r, v - r, v + r];
    for (const [begin, end] of spans) {
      for (let k = begin; k < end; k++) {
        const i = index ? index[k] : k;
        const a = xy[i];
        if (a < u0 || a > u1) continue;
        const b = xy[tile.count + i];
        if (b < v0 || b > v1) continue;
        const far = ((a - u) * step) ** 2 + ((b - v) * step) ** 2;
        // Of points in the same place the one drawn last, which lies on top.
        if (far > best) continue;
        best = far;
        found = tile.offset + i;
      }
    }
  }
  return found;
}
