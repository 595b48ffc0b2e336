/** Filters put together, taken apart, and told in words. */

import { Bits } from "../../bits.js";
import { whole } from "../../dom.js";
import { numberText, titleOf, valueText } from "./columns.js";

/** @typedef {import("../../types.js").App} App */
/** @typedef {import("../../types.js").ColumnInfo} ColumnInfo */
/** @typedef {import("../../types.js").Conditions} Conditions */
/** @typedef {import("../../types.js").FieldFilter} FieldFilter */
/** @typedef {import("../../types.js").Topic} Topic */

/**
 * The filter of a column, if it has one.
 *
 * @param {Conditions} filters
 * @param {string} column
 * @returns {FieldFilter | null}
 */
export function fieldFilter(filters, column) {
  return filters.fields?.find((one) => one.column === column) ?? null;
}

/**
 * The filters with another one of a column.
 *
 * @param {Conditions} filters
 * @param {string} column
 * @param {FieldFilter | null} wanted  Null for none.
 * @returns {Conditions}
 */
export function withField(filters, column, wanted) {
  const { fields = [], ...rest } = filters;
  const others = fields.filter((one) => one.column !== column);
  const joined = wanted ? [...others, wanted] : others;
  return joined.length ? { ...rest, fields: joined } : rest;
}

/**
 * The filters without one of them.
 *
 * @param {Conditions} filters
 * @param {keyof Conditions} key
 * @param {unknown} [item]  Of those that are lists: which one.
 * @returns {Conditions}
 */
export function without(filters, key, item) {
  const { [key]: value, ...rest } = filters;
  if (item === undefined || !Array.isArray(value)) return rest;
  const left = value.filter((/** @type {unknown} */ one) => one !== item);
  return left.length ? { ...rest, [key]: left } : rest;
}

/**
 * The filters with one topic's rows left out, by the column that holds topics of its depth.
 *
 * @param {App} app
 * @param {Topic} topic
 * @returns {Promise<Conditions>}
 */
export async function excludeTopic(app, topic) {
  const { filters } = app.store.state;
  const name = `_topic_depth_${topic.depth}`;
  const column = (await app.source.columns()).find((one) => one.name === name);
  const names = column ? (await app.source.dictionary(column)).names : [];
  const code = names.indexOf(topic.name);
  if (!column || code < 0 || (column.distinct ?? names.length) > names.length) {
    // Without the column: the rows themselves, as a set.
    const rows = (await app.source.filter({ topics: [topic.id] })).inverted();
    const kept = filters.bits ? Bits.fromBase64(app.manifest.count, filters.bits) : null;
    return { ...filters, bits: (kept ? kept.and(rows) : rows).toBase64() };
  }
  const before = fieldFilter(filters, name);
  const codes = (before?.codes ?? names.map((_, at) => at)).filter((one) => one !== code);
  return withField(filters, name, { column: name, codes, nulls: before?.nulls ?? true });
}

/**
 * What a filter lets pass, in a few words.
 *
 * @param {FieldFilter} filter
 * @param {ColumnInfo | undefined} column
 * @param {string[] | null} names  Of the codes, where they are known.
 */
export function fieldText(filter, column, names) {
  const title = titleOf(filter.column);
  if (filter.codes) return `${title}: ${codesText(filter.codes, filter.nulls === true, column, names)}`;
  const text = (/** @type {number} */ value) => (column ? valueText(column, value) : numberText(value));
  const { min = null, max = null } = filter;
  const also = filter.nulls ? " or no value" : "";
  if (min !== null && max !== null)
    return `${title}: ${min === max ? text(min) : `${text(min)} to ${text(max)}`}${also}`;
  if (min !== null) return `${title}: from ${text(min)}${also}`;
  if (max !== null) return `${title}: up to ${text(max)}${also}`;
  return `${title}: ${filter.nulls ? "any" : "has a value"}`;
}

/**
 * @param {number[]} codes
 * @param {boolean} nulls
 * @param {ColumnInfo | undefined} column
 * @param {string[] | null} names
 */
function codesText(codes, nulls, column, names) {
  const bool = column?.kind === "bool";
  const nameOf = (/** @type {number} */ code) =>
    bool ? (code ? "true" : "false") : (names?.[code] ?? `value ${code}`);
  const all = bool ? 2 : (names?.length ?? 0);
  if (names && codes.length > 3 && codes.length >= all - 3) {
    const picked = new Set(codes);
    const missing = names.filter((_, code) => !picked.has(code));
    return missing.length ? `not ${missing.map(shortened).join(", ")}` : nulls ? "any" : "has a value";
  }
  const told = codes.slice(0, 2).map((code) => shortened(nameOf(code)));
  if (codes.length > 2) told.push(`${whole(codes.length - 2)} more`);
  if (nulls) told.push("no value");
  return told.join(", ") || "nothing";
}

/** @param {string} name */
function shortened(name) {
  return name.length > 32 ? `${name.slice(0, 31)}…` : name || "(empty)";
}
