/** Rings around points that are spoken of, and lines to a point's neighbours, on a canvas above the points. */

import { THEMES } from "./palette.js";

/** @typedef {import("../types.js").State} State */
/** @typedef {import("./camera.js").Camera} Camera */
/** @typedef {import("./palette.js").Theme} Theme */

const NUMBERED = 20;
const RINGS_MOST = 500;

/**
 * @param {CanvasRenderingContext2D} context  In CSS pixels.
 * @param {object} options
 * @param {Camera} options.camera
 * @param {State} options.state
 * @param {Theme} options.theme
 * @param {number} options.radius  Of a point as it is drawn.
 * @param {(position: number) => [number, number] | null} options.placeOf  On the plane; null while it is not known.
 */
export function drawMarks(context, { camera, state, theme, radius, placeOf }) {
  const colors = THEMES[theme];
  const at = (/** @type {number} */ position) => {
    const place = placeOf(position);
    return place ? camera.toScreen(...place) : null;
  };
  drawEdges(context, state, colors, at);
  const hits = state.hits.slice(0, RINGS_MOST);
  // The best one last, so that it lies on top.
  for (let i = hits.length - 1; i >= 0; i--) {
    const place = at(hits[i].position);
    if (place && near(camera, place)) drawHit(context, place, i, radius, colors);
  }
  if (state.focus !== null) {
    const place = at(state.focus);
    if (place) ring(context, place, Math.max(7, radius + 4), colors.accent, 2.5, colors.halo);
  }
  if (state.hover !== null && state.hover !== state.focus) {
    const place = at(state.hover);
    if (place) ring(context, place, Math.max(6, radius + 3), colors.ink, 1.75, colors.halo);
  }
}

/**
 * @param {Camera} camera
 * @param {[number, number]} place
 */
function near({ view }, [x, y]) {
  return x > -20 && y > -20 && x < view.width + 20 && y < view.height + 20;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {State} state
 * @param {typeof THEMES["light"]} colors
 * @param {(position: number) => [number, number] | null} at
 */
function drawEdges(context, { focus, focusNeighbors }, colors, at) {
  const from = focus === null ? null : at(focus);
  if (!from) return;
  const ends = focusNeighbors.map(({ position }) => at(position)).filter((place) => place !== null);
  for (const [width, color, alpha] of /** @type {[number, string, number][]} */ ([
    [3.5, colors.halo, 0.7], [1.25, colors.accent, 0.85],
  ])) {
    context.globalAlpha = alpha;
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    for (const end of ends) {
      context.moveTo(...from);
      context.lineTo(...end);
    }
    context.stroke();
  }
  context.globalAlpha = 1;
  for (const end of ends) {
    context.fillStyle = colors.accent;
    context.beginPath();
    context.arc(end[0], end[1], 2.75, 0, 2 * Math.PI);
    context.fill();
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number]} place
 * @param {number} rank
 * @param {number} radius
 * @param {typeof THEMES["light"]} colors
 */
function drawHit(context, place, rank, radius, colors) {
  const size = Math.max(5, radius + 2.5);
  ring(context, place, size, colors.accent, rank < NUMBERED ? 2 : 1.25, colors.halo);
  if (rank >= NUMBERED) return;
  const [x, y] = [place[0] + size + 3, place[1] - size];
  context.font = "600 11px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 3;
  context.strokeStyle = colors.halo;
  context.strokeText(String(rank + 1), x, y);
  context.fillStyle = colors.accent;
  context.fillText(String(rank + 1), x, y);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number]} place
 * @param {number} radius
 * @param {string} color
 * @param {number} width
 * @param {string} halo
 */
function ring(context, [x, y], radius, color, width, halo) {
  for (const [line, style] of /** @type {[number, string][]} */ ([[width + 2.5, halo], [width, color]])) {
    context.lineWidth = line;
    context.strokeStyle = style;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}
