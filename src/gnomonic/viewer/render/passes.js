/** What a picture is drawn of: which points of which tiles, as many as there is time for; and which is where. */

import { CHOSEN, FADED, HOT, USUAL } from "./states.js";

/** @typedef {import("./camera.js").View} View */
/** @typedef {import("./points.js").GroupLook} GroupLook */
/** @typedef {import("./points.js").Paint} Paint */
/** @typedef {import("./points.js").Stretch} Stretch */
/** @typedef {import("./tiles.js").TileNode} TileNode */
/**
 * @typedef {object} Drawn  A tile in the picture.
 * @property {TileNode} node
 * @property {Uint8Array | null} groups
 * @property {Uint16Array | Uint32Array | null} index  The order of its points; null for their own.
 * @property {[number, number][]} spans  Where in that order those are that are in the picture and do not fade.
 *
 * @typedef {object} Plan
 * @property {View} view
 * @property {Drawn[]} drawn
 * @property {Stretch[]} stretches  In the order they are drawn.
 * @property {Map<TileNode, number[]>} weights  How many points each of a tile's quarters stands for.
 * @property {number[]} shares  Of each group's points, those that are drawn.
 * @property {GroupLook[]} looks
 * @property {boolean} sized
 * @property {boolean} density  Count the density as well.
 * @property {number} tone  How much the picture is one of density rather than of single points.
 * @property {number} deepen  How much the colour of dense places is another one; little where shades mean something.
 * @property {number} usual  The density that is usual, in points a CSS pixel.
 * @property {number} total  Points to draw.
 * @property {boolean} whole  Nothing is left out.
 */

/**
 * @param {object} scene
 * @param {View} scene.view
 * @param {TileNode[]} scene.nodes  Loaded tiles in view, each after its parent.
 * @param {(node: TileNode) => Paint} scene.paintOf  With its parts up to date.
 * @param {GroupLook[]} scene.looks
 * @param {boolean} scene.sized
 * @param {boolean} scene.density
 * @param {number} scene.usual
 * @param {number} scene.tone
 * @param {number} scene.deepen
 * @param {number} most  Points.
 * @returns {Plan}
 */
export function planOf({ view, nodes, paintOf, looks, sized, density, usual, tone, deepen }, most) {
  const there = new Set(nodes);
  const paints = nodes.map(paintOf);
  const sizes = [0, 0, 0, 0];
  for (const paint of paints) {
    const starts = startsOf(paint);
    for (let group = 0; group < 4; group++) sizes[group] += starts[group + 1] - starts[group];
  }
  const shares = sharesOf(sizes, most);
  /** @type {Stretch[]} */
  const stretches = [];
  for (const group of [FADED, USUAL, HOT, CHOSEN]) {
    if (!looks[group].alpha && !density) continue;
    for (const paint of paints) {
      const starts = startsOf(paint);
      const end = starts[group] + Math.ceil((starts[group + 1] - starts[group]) * shares[group]);
      if (end > starts[group]) stretches.push({ node: paint.node, group, begin: starts[group], end });
    }
  }
  return {
    view: { ...view }, stretches, shares, looks, sized, density, usual, tone, deepen,
    drawn: paints.map((paint) => drawnOf(paint, shares)),
    weights: new Map(nodes.map((node) => [node, weightsOf(node, there)])),
    total: stretches.reduce((sum, { begin, end }) => sum + end - begin, 0),
    whole: shares.every((share) => share === 1),
  };
}

/** @param {Paint} paint */
function startsOf({ node, parts }) {
  return parts?.starts ?? [0, 0, node.tile.count, node.tile.count, node.tile.count];
}

/**
 * What stands out has the first claim on the points there is time for.
 *
 * @param {number[]} sizes  Of the groups.
 * @param {number} most
 */
function sharesOf(sizes, most) {
  const shares = [1, 1, 1, 1];
  if (sizes[FADED] + sizes[USUAL] + sizes[HOT] + sizes[CHOSEN] <= most) return shares;
  let left = most;
  const give = (/** @type {number} */ group, /** @type {number} */ part) => {
    if (sizes[group]) shares[group] = Math.min(1, Math.max(0.002, (part * left) / sizes[group]));
    left -= shares[group] * sizes[group];
  };
  give(CHOSEN, 0.5);
  give(HOT, 0.4);
  give(USUAL, sizes[FADED] ? 0.75 : 1);
  give(FADED, 1);
  return shares;
}

/**
 * A tile's points are a sample of all beneath it: where those are not drawn, each stands for some of them too.
 *
 * @param {TileNode} node
 * @param {Set<TileNode>} there
 */
function weightsOf(node, there) {
  return node.children.map((child, quarter) => {
    if (!child || there.has(child)) return 1;
    return 1 + (child.below + child.tile.count) / Math.max(1, node.quarters[quarter]);
  });
}

/**
 * @param {Paint} paint
 * @param {number[]} shares
 * @returns {Drawn}
 */
function drawnOf(paint, shares) {
  const { node, parts } = paint;
  const starts = startsOf(paint);
  /** @type {[number, number][]} */
  const spans = [];
  for (const group of [USUAL, HOT, CHOSEN]) {
    const size = starts[group + 1] - starts[group];
    if (size) spans.push([starts[group], starts[group] + Math.ceil(size * shares[group])]);
  }
  return { node, groups: parts?.groups ?? null, index: parts?.index ?? null, spans };
}

/**
 * The map position of the nearest point that is drawn and does not fade. The few tiles there are looked through, which
 * takes well below 2 ms.
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
