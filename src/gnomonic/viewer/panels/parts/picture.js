/** A picture of the view: points, names, a title and what the colours mean. */

import { drawLabels, mapColors } from "../../overlay/labels.js";
import { isRightToLeft } from "../../overlay/label_text.js";
import { titleOf, valueText } from "./columns.js";

/** @typedef {import("../../types.js").App} App */

const MARGIN = 16;
const LINE = 18;
const RAMP = 160;
const MOST_ENTRIES = 20;
const LONGEST = 36;

/**
 * @param {App} app
 * @param {{scale: number, names: boolean, title: string, legend: boolean}} options  `title`: empty for none.
 * @returns {Promise<Blob>}
 */
export async function pictureOf(app, { scale, names, title, legend }) {
  const points = await app.renderer.snapshot({ scale });
  const canvas = document.createElement("canvas");
  canvas.width = points.width;
  canvas.height = points.height;
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser has no canvas to draw the picture on.");
  const look = mapColors(app);
  context.fillStyle = look.ground;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(points, 0, 0);
  // The browser may have given a smaller picture than was asked for.
  const real = points.width / Math.max(1, app.renderer.element.clientWidth);
  if (names) drawLabels(context, app, real);
  context.scale(real, real);
  const family = getComputedStyle(app.root).fontFamily || "sans-serif";
  if (title) drawTitle(context, look, family, title);
  if (legend) drawLegend(context, look, family, app, canvas.height / real);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => {
      if (blob) resolve(blob);
      else reject(new Error("The picture is too large for this browser; choose a smaller size."));
    }, "image/png");
  });
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{ground: string, ink: string}} look
 * @param {string} family
 * @param {string} title
 */
function drawTitle(context, look, family, title) {
  context.font = `650 20px ${family}`;
  context.textBaseline = "top";
  context.textAlign = "left";
  context.direction = isRightToLeft(title) ? "rtl" : "ltr";
  outlined(context, look, title, MARGIN, MARGIN, 5);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{ground: string, ink: string}} look
 * @param {string} text
 * @param {number} x
 * @param {number} y
 * @param {number} width
 */
function outlined(context, look, text, x, y, width) {
  context.lineJoin = "round";
  context.lineWidth = width;
  context.strokeStyle = look.ground;
  context.fillStyle = look.ink;
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

/**
 * In the lower left corner: names of a category, or the ends of a range.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {{ground: string, ink: string}} look
 * @param {string} family
 * @param {App} app
 * @param {number} height
 */
function drawLegend(context, look, family, app, height) {
  const entries = app.renderer.legend().slice(0, MOST_ENTRIES);
  const range = entries.length ? null : rangeOf(app);
  const title = range ? range.title : titleOf(app.renderer.coloring().column?.name ?? "");
  if (!entries.length && !range) return;
  context.font = `500 13px ${family}`;
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.direction = "ltr";
  let y = height - MARGIN - LINE * ((range ? 2 : entries.length) + (title ? 1 : 0)) + LINE / 2;
  if (title) {
    outlined(context, look, title, MARGIN, y, 4);
    y += LINE;
  }
  for (const { name, color } of entries) {
    context.fillStyle = color;
    context.beginPath();
    context.arc(MARGIN + 5, y, 5, 0, 2 * Math.PI);
    context.fill();
    outlined(context, look, name.length > LONGEST ? `${name.slice(0, LONGEST)}…` : name, MARGIN + 18, y, 4);
    y += LINE;
  }
  if (!range) return;
  const gradient = context.createLinearGradient(MARGIN, 0, MARGIN + RAMP, 0);
  for (const [at, color] of range.colors.entries()) gradient.addColorStop(at / (range.colors.length - 1), color);
  context.fillStyle = gradient;
  context.fillRect(MARGIN, y - 6, RAMP, 12);
  outlined(context, look, range.low, MARGIN, y + LINE, 4);
  context.textAlign = "right";
  outlined(context, look, range.high, MARGIN + RAMP, y + LINE, 4);
}

/**
 * What a ramp of colours goes from and to; null where colours are no ramp.
 *
 * @param {App} app
 */
function rangeOf({ renderer, store }) {
  const { column, colors, stops = [] } = renderer.coloring();
  const { heat } = store.state;
  if (colors.length < 2) return null;
  if (heat) return { title: "Nearness to the search", colors, low: heat.low.toFixed(3), high: heat.high.toFixed(3) };
  const low = stops[0] ?? column?.minimum;
  const high = stops.at(-1) ?? column?.maximum;
  if (!column || column.kind === "category" || column.kind === "bool" || low == null || high == null) return null;
  return { title: titleOf(column.name), colors, low: valueText(column, low), high: valueText(column, high) };
}
