/** Conditions and queries as a link tells them: anybody may have written it, so that only what is sound is taken. */

/** @typedef {import("./types.js").Conditions} Conditions */
/** @typedef {import("./types.js").FieldFilter} FieldFilter */
/** @typedef {import("./types.js").Query} Query */

const MOST_ITEMS = 10_000;

/** @param {unknown} value @returns {value is Record<string, any>} */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param {unknown} value @returns {value is string} */
const isText = (value) => typeof value === "string" && value !== "";
/** @param {unknown} value @returns {value is number} */
const isNumber = (value) => Number.isFinite(value);
/** @param {unknown} value @returns {value is number} */
const isPlace = (value) => Number.isSafeInteger(value) && Number(value) >= 0;
/** @param {unknown} value @returns {value is number | string} */
const isKey = (value) => typeof value === "string" || isNumber(value);

/**
 * A list of what passes a test; undefined where that is nothing.
 *
 * @template T
 * @param {unknown} value
 * @param {(item: unknown) => item is T} test
 * @returns {T[] | undefined}
 */
function listOf(value, test) {
  const sound = Array.isArray(value) ? value.slice(0, MOST_ITEMS).filter(test) : [];
  return sound.length ? sound : undefined;
}

/**
 * The sound ones of some conditions.
 *
 * @param {unknown} told
 * @returns {Conditions}
 */
export function soundConditions(told) {
  if (!isObject(told)) return {};
  const { where, bits, invert, heat, duplicates: alike } = told;
  const fields = Array.isArray(told.fields) ? told.fields.slice(0, 200).flatMap(fieldOf) : [];
  const polygon = listOf(told.polygon, isPoint);
  const box = listOf(told.box, isNumber);
  const query = isObject(heat) && isNumber(heat.at_least) ? soundQuery(heat) : null;
  const found = {
    where: isText(where) ? where : undefined,
    topics: listOf(told.topics, isKey),
    tags: listOf(told.tags, isText),
    ids: listOf(told.ids, isKey),
    bits: isText(bits) ? bits : undefined,
    fields: fields.length ? fields : undefined,
    polygon: polygon && polygon.length > 2 ? polygon : undefined,
    box: box?.length === 4 ? /** @type {Conditions["box"]} */ (box) : undefined,
    heat: query && isObject(heat) ? { ...query, at_least: heat.at_least } : undefined,
    duplicates:
      isObject(alike) && isNumber(alike.cutoff) && isText(alike.keep)
        ? { cutoff: alike.cutoff, keep: alike.keep, by: isText(alike.by) ? alike.by : null }
        : undefined,
    invert: invert === true ? true : undefined,
  };
  return there(found);
}

/** @param {unknown} value @returns {value is [number, number]} */
function isPoint(value) {
  return Array.isArray(value) && value.length === 2 && value.every(isNumber);
}

/** @param {unknown} told @returns {FieldFilter[]}  One or none. */
function fieldOf(told) {
  if (!isObject(told) || !isText(told.column)) return [];
  const { column, min, max } = told;
  const nulls = told.nulls === true;
  if (Array.isArray(told.codes)) return [{ column, codes: listOf(told.codes, isPlace) ?? [], nulls }];
  return [{ column, min: isNumber(min) ? min : null, max: isNumber(max) ? max : null, nulls }];
}

/**
 * What to look for; null where that is nothing.
 *
 * @param {unknown} told
 * @returns {Query | null}
 */
export function soundQuery(told) {
  if (!isObject(told)) return null;
  if (isText(told.query)) return { query: told.query };
  return isPlace(told.position) ? { position: told.position } : null;
}

/**
 * Conditions that mean the same on every map of a dataset: positions, codes, topics and places do not.
 *
 * @param {Conditions} conditions
 * @returns {Conditions}
 */
export function ofAnyMap({ where, tags, ids, fields = [], duplicates, invert }) {
  const ranges = fields.filter(({ codes }) => codes === undefined);
  const found = there({ where, tags, ids, duplicates, fields: ranges.length ? ranges : undefined });
  return invert && Object.keys(found).length ? { ...found, invert } : found;
}

/**
 * @param {Record<string, unknown>} conditions
 * @returns {Conditions}
 */
function there(conditions) {
  return Object.fromEntries(Object.entries(conditions).filter(([, value]) => value !== undefined));
}
