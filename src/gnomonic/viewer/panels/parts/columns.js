/** Columns and their values in words. */

import { whole } from "../../dom.js";

/** @typedef {import("../../types.js").ColumnInfo} ColumnInfo */

const DAY_MS = 86_400_000;
const TOPIC_LEVEL = /^_topic_depth_(\d+)$/;

/** What a column is called on the page. @param {string} name */
export function titleOf(name) {
  const level = TOPIC_LEVEL.exec(name);
  if (level) return `Topic, level ${level[1]}`;
  if (name === "_duplicate_class") return "Duplicates";
  return name === "_trust" ? "Trust" : name;
}

/** What a column means, where its name does not say. @param {string} name */
export function hintOf(name) {
  if (name === "_trust") return "Share of a row's true neighbours that lie near it on the map.";
  if (name === "_duplicate_class") return "As the map was built; another cut-off is chosen in the panel of duplicates.";
  return "";
}

/** Whether a column was made by the build. @param {string} name */
export function isMade(name) {
  return TOPIC_LEVEL.test(name) || name === "_duplicate_class" || name === "_trust";
}

/** The level of topics that a column holds; 0 for another column. @param {string} name */
export function topicLevel(name) {
  return Number(TOPIC_LEVEL.exec(name)?.[1] ?? 0);
}

/** Whether rows can be filtered by a column's files. @param {ColumnInfo} column */
export function isFilterable(column) {
  if (column.dtype === null || column.kind === "text" || column.kind === "other") return false;
  return column.kind === "category" || column.kind === "bool" || column.minimum !== null || column.nulls > 0;
}

/**
 * A number, date or code of a column as people read it.
 *
 * @param {ColumnInfo} column
 * @param {number} value
 */
export function valueText(column, value) {
  if (column.kind === "date") return dateText(value, isShort(column));
  if (column.kind === "bool") return value ? "true" : "false";
  return numberText(value);
}

/** @param {number} value */
export function numberText(value) {
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return size < 10_000 ? String(value) : whole(value);
  if (size && (size < 1e-3 || size >= 1e9)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

/** Whether a column of dates is about hours rather than days. @param {ColumnInfo} column */
export function isShort(column) {
  return (column.maximum ?? 0) - (column.minimum ?? 0) < 3 * DAY_MS;
}

/**
 * As inputs of dates have it, in UTC.
 *
 * @param {number} ms
 * @param {boolean} [time]
 */
export function dateText(ms, time = false) {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return "–";
  return date
    .toISOString()
    .slice(0, time ? 16 : 10)
    .replace("T", time ? " " : "T");
}

/** A number of rows, in words. @param {number} count */
export function rowsText(count) {
  return count === 1 ? "1 row" : `${whole(count)} rows`;
}
