/** A line drawn by hand, with fewer corners. */

/** @typedef {[number, number]} Point */

/**
 * Leaves out the corners that change the line least, until there are few enough.
 *
 * @param {Point[]} points
 * @param {number} most  Corners that may be left.
 * @param {number} slack  How far the line may move, in the units of the points; more only where it has to.
 * @returns {Point[]}
 */
export function simplified(points, most, slack) {
  let kept = points;
  for (let allowed = slack; ; allowed *= 2) {
    kept = withinSlack(points, allowed);
    if (kept.length <= most) return kept;
    if (!(allowed > 0) || !Number.isFinite(allowed)) break;
  }
  const step = Math.ceil(points.length / most);
  return points.filter((_, at) => at % step === 0);
}

/**
 * Douglas and Peucker's way of 1973, with a stack of its own: a long line would overflow the calls'.
 *
 * @param {Point[]} points
 * @param {number} slack
 */
function withinSlack(points, slack) {
  if (points.length < 3) return points;
  const keep = new Uint8Array(points.length);
  keep[0] = keep[points.length - 1] = 1;
  const open = [[0, points.length - 1]];
  for (let next = open.pop(); next; next = open.pop()) {
    const [first, last] = next;
    let farthest = 0;
    let distance = slack;
    for (let at = first + 1; at < last; at++) {
      const off = distanceTo(points[at], points[first], points[last]);
      if (off > distance) [farthest, distance] = [at, off];
    }
    if (!farthest) continue;
    keep[farthest] = 1;
    open.push([first, farthest], [farthest, last]);
  }
  return points.filter((_, at) => keep[at]);
}

/**
 * From a point to the stretch between two others.
 *
 * @param {Point} point
 * @param {Point} a
 * @param {Point} b
 */
function distanceTo([x, y], [ax, ay], [bx, by]) {
  const dx = bx - ax;
  const dy = by - ay;
  const length = dx * dx + dy * dy;
  const along = length ? Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / length)) : 0;
  return Math.hypot(x - ax - along * dx, y - ay - along * dy);
}
