/** What a row is called, and how its values are written. */

import { el, shown } from "../dom.js";
import { topicLevel } from "./parts/columns.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").ColumnInfo} ColumnInfo */
/** @typedef {import("../types.js").MapView} MapView */
/** @typedef {import("../types.js").Row} Row */

const LONGEST_TITLE = 160;
const SHORT_JSON = 200;
/**
 * One line that a reader knows a row by: its title, else an id that people made, else how its text begins.
 *
 * @param {MapView} view
 * @param {Row} row
 */
export function titleOf(view, row) {
  const title = textOf(row, view.title_field);
  if (title) return oneLine(title);
  const id = String(row.id);
  const text = textOf(row, view.text_field);
  return oneLine(text && !isWord(id) ? text : id);
}

/** @param {Row} row @param {string | null} field */
function textOf(row, field) {
  const value = field === null ? null : row.values[field];
  return value === null || value === undefined ? "" : shown(value).trim();
}

/** What says nothing to people: digests and UUIDs, long keys, and counted ids such as row-17. */
const COUNTED = [/^[0-9a-f-]{8,}$/i, /^[\w-]{25,}$/, /^[\p{L}_-]{0,12}[-_:#/ ]?\d+$/u];

/** Whether an id is a name. @param {string} id */
function isWord(id) {
  return id.length <= LONGEST_TITLE && /\p{L}/u.test(id) && !COUNTED.some((pattern) => pattern.test(id));
}

/**
 * The beginning of the row's text; null where the title says it already.
 *
 * @param {MapView} view
 * @param {Row} row
 */
export function snippetOf(view, row) {
  if (view.text_field === view.title_field) return null;
  const text = textOf(row, view.text_field);
  return text && oneLine(text) !== titleOf(view, row) ? text : null;
}

/** The fields that title and snippet are made of. @param {MapView} view */
export function titleFields(view) {
  return [...new Set([view.title_field, view.text_field].filter((name) => name !== null))];
}

/** @param {string} text */
function oneLine(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > LONGEST_TITLE ? `${[...line.slice(0, LONGEST_TITLE)].slice(0, -1).join("")}…` : line;
}

/**
 * The address in a text that is nothing but a web address; null for everything else, such as javascript: and data:.
 *
 * @param {unknown} value
 * @returns {string | null}
 */
export function webAddress(value) {
  if (typeof value !== "string" || value.length > 2000 || !/^https?:\/\/[^\s]+$/i.test(value)) return null;
  try {
    const url = new URL(value);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/**
 * A value as an element: a link where it is one, else text.
 *
 * @param {unknown} value
 * @returns {HTMLElement}
 */
export function valueElement(value) {
  const address = webAddress(value);
  if (address !== null) {
    return el("a", { href: address, rel: "noopener noreferrer nofollow", target: "_blank" }, String(value));
  }
  if (value === null || value === undefined) return el("span", { class: "muted" }, "no value");
  if (typeof value === "object") {
    const line = JSON.stringify(value);
    const text = line.length > SHORT_JSON ? JSON.stringify(value, null, 1) : line;
    return el("pre", { class: "value-json", dir: "auto" }, text);
  }
  return el("span", { class: "value-text", dir: "auto" }, shown(value));
}

/** The columns of topics, broad ones first. @param {ColumnInfo[]} columns */
export function topicColumns(columns) {
  return columns.filter(({ name }) => topicLevel(name)).sort((a, b) => topicLevel(a.name) - topicLevel(b.name));
}
