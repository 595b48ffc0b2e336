/** By what points are coloured and sized at the moment, and with which colours. */

import { USUAL_COLUMN } from "../data/columns.js";
import { BOOLS, THEMES, categoryColor, cssOf, heatColor, rampColor } from "./palette.js";
import { NONE, categoryCodes, numberCodes, scaleOf } from "./scales.js";

/** @typedef {import("../data/columns.js").Columns} Columns */
/** @typedef {import("../types.js").ColumnInfo} ColumnInfo */
/** @typedef {import("../types.js").Dictionary} Dictionary */
/** @typedef {import("../types.js").Tile} Tile */
/** @typedef {import("../types.js").Values} Values */
/** @typedef {import("./palette.js").Theme} Theme */
/** @typedef {import("./scales.js").Scale} Scale */
/** @typedef {"plain" | "category" | "number" | "bool" | "heat"} Kind */
/**
 * @typedef {object} Channel  What a column gives each point: a code of a colour, or a size.
 * @property {number} version
 * @property {Kind} kind
 * @property {ColumnInfo | null} column
 * @property {Dictionary | null} dictionary
 * @property {Scale | null} scale
 */

const NUMBERS = new Set(["number", "integer", "date"]);
const LEGEND_MOST = 1000;
const STOPS = 64;

let versions = 0;

/** @param {Partial<Channel>} [some] @returns {Channel} */
export function channelOf(some = {}) {
  return { version: ++versions, kind: "plain", column: null, dictionary: null, scale: null, ...some };
}

/**
 * @param {Columns} columns
 * @param {string | null} name  Null for the usual one.
 * @param {Tile | null} root
 * @returns {Promise<Channel>}
 */
export async function colorChannel(columns, name, root) {
  const column = await columns.info(name ?? USUAL_COLUMN);
  if (!column?.dtype) return channelOf();
  if (column.kind === "category") {
    return channelOf({ kind: "category", column, dictionary: await columns.dictionary(column) });
  }
  if (column.kind === "bool") return channelOf({ kind: "bool", column });
  return numberChannel(columns, column, root);
}

/**
 * @param {Columns} columns
 * @param {string | null} name
 * @param {Tile | null} root
 * @returns {Promise<Channel>}
 */
export async function sizeChannel(columns, name, root) {
  const column = name === null ? null : await columns.info(name);
  return column?.dtype && NUMBERS.has(column.kind) ? numberChannel(columns, column, root) : channelOf();
}

/**
 * @param {Columns} columns
 * @param {ColumnInfo} column
 * @param {Tile | null} root
 */
async function numberChannel(columns, column, root) {
  // Without a sample the scale is an even one; that is no reason to show nothing.
  const sample = root?.count ? await columns.tile(column, root).catch(() => null) : null;
  return channelOf({ kind: "number", column, scale: scaleOf(column, sample) });
}

/**
 * A tile's values as the codes of a channel.
 *
 * @param {Channel} channel
 * @param {Values} values
 * @returns {Uint8Array | Uint16Array}
 */
export function codesOf({ kind, column, scale }, values) {
  if (scale) return numberCodes(values, scale);
  if (kind === "bool") return /** @type {Uint8Array} */ (values);
  return categoryCodes(values, column?.null_code ?? null);
}

/**
 * The table of colours by code; the last entry is for points without one.
 *
 * @param {Channel} channel
 * @param {Theme} theme
 */
export function tableOf({ kind, column }, theme) {
  const table = new Uint8Array(4 * 65536);
  const set = (/** @type {number} */ code, /** @type {import("./palette.js").Rgb} */ rgb, alpha = 255) =>
    table.set([...rgb, alpha], 4 * code);
  const { neutral, plain } = THEMES[theme];
  if (kind === "category") {
    const codes = column?.dtype === "u8" ? 255 : 65535;
    for (let code = 0; code < codes; code++) set(code, categoryColor(code, theme));
  } else if (kind === "bool") BOOLS.forEach((rgb, code) => set(code, rgb));
  else if (kind === "number") for (let code = 0; code < NONE; code++) set(code, rampColor(code / (NONE - 1), theme));
  else if (kind === "heat") {
    for (let code = 0; code < 256; code++) set(code, heatColor(code / 255, theme), 90 + Math.round(165 * (code / 255)));
  }
  if (kind !== "heat" && column?.dtype !== "u16" && column?.dtype !== "u32") set(NONE, neutral, 150);
  set(65535, kind === "plain" ? plain : neutral, kind === "plain" ? 255 : 150);
  return table;
}

/**
 * What a category's codes look like, the most frequent first.
 *
 * @param {Channel} channel
 * @param {Theme} theme
 * @returns {{code: number, name: string, color: string, count: number}[]}
 */
export function legendOf({ kind, column, dictionary }, theme) {
  if (kind === "bool") {
    return BOOLS.map((rgb, code) => (
      { code, name: code ? "true" : "false", color: cssOf(rgb), count: column?.histogram[code] ?? 0 }
    ));
  }
  return (dictionary?.names ?? []).slice(0, LEGEND_MOST).map((name, code) => (
    { code, name, color: cssOf(categoryColor(code, theme)), count: dictionary?.counts[code] ?? 0 }
  ));
}

/**
 * How the points are coloured, for a legend: of numbers 64 colours from low to high, and the values at five even
 * steps among them.
 *
 * @param {Channel} channel
 * @param {Theme} theme
 */
export function coloringOf(channel, theme) {
  const { kind, column, dictionary, scale } = channel;
  /** @type {string[]} */
  let colors = [];
  if (kind === "category" || kind === "bool") colors = legendOf(channel, theme).map((entry) => entry.color);
  else if (kind === "plain") colors = [cssOf(THEMES[theme].plain)];
  else {
    const ramp = kind === "heat" ? heatColor : rampColor;
    colors = Array.from({ length: STOPS }, (_, i) => cssOf(ramp(i / (STOPS - 1), theme)));
  }
  const stops = scale ? [0, 0.25, 0.5, 0.75, 1].map((part) => scale.value(part)) : [];
  return { kind, column, dictionary, colors, stops, neutral: cssOf(THEMES[theme].neutral) };
}
