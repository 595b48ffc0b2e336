/** The filters that are on, each with a way to take it off. */

import { el, fill, whole } from "../../dom.js";
import { Bits } from "../../bits.js";
import { numberText, rowsText } from "./columns.js";
import { fieldText, without } from "./conditions.js";

/** @typedef {import("../../types.js").App} App */
/** @typedef {import("../../types.js").ColumnInfo} ColumnInfo */
/** @typedef {import("../../types.js").Conditions} Conditions */
/** @typedef {{text: string, left: Conditions}} Chip */

/**
 * @typedef {object} Names  What the chips need to know by name.
 * @property {Map<string, ColumnInfo>} columns
 * @property {Map<string, string[]>} values  Of the dictionaries that are loaded, by column.
 * @property {Map<number, string>} topics
 */

/**
 * @param {App} app
 * @param {HTMLElement} parent
 * @param {Names} names
 */
export function fillChips(app, parent, names) {
  const chips = chipsOf(app.store.state.filters, names, app.manifest.count);
  parent.hidden = !chips.length;
  const made = chips.map(({ text, left }) =>
    el(
      "li",
      { class: "filter-chip" },
      el("span", { class: "filter-text", dir: "auto", title: text }, text),
      el(
        "button",
        { type: "button", "aria-label": `Remove the filter ${text}`, "on:click": () => app.actions.filter(left) },
        "×",
      ),
    ),
  );
  fill(parent, made);
}

/**
 * @param {Conditions} filters
 * @param {Names} names
 * @param {number} count
 * @returns {Chip[]}
 */
function chipsOf(filters, names, count) {
  const simple = (/** @type {keyof Conditions} */ key, /** @type {string} */ text) =>
    filters[key] === undefined || filters[key] === false ? [] : [{ text, left: without(filters, key) }];
  const topic = (/** @type {number | string} */ id) =>
    (typeof id === "number" ? names.topics.get(id) : id) ?? `topic ${id}`;
  return [
    ...simple("invert", "Turned round: what does not pass the rest"),
    ...simple("where", `Where ${filters.where}`),
    ...topicChips(filters, topic),
    ...(filters.tags ?? []).map((tag) => ({ text: `Tag: ${tag}`, left: without(filters, "tags", tag) })),
    ...(filters.fields ?? []).map((field) => ({
      text: fieldText(field, names.columns.get(field.column), names.values.get(field.column) ?? null),
      left: without(filters, "fields", field),
    })),
    ...simple("ids", `${whole(filters.ids?.length ?? 0)} rows by id`),
    ...simple("bits", `Chosen rows: ${bitsText(filters.bits, count)}`),
    ...simple("polygon", "Inside a drawn area"),
    ...simple("box", "Inside a box"),
    ...simple("heat", heatText(filters.heat)),
    ...simple("duplicates", "Duplicates that could go"),
  ];
}

/**
 * @param {Conditions} filters
 * @param {(id: number | string) => string} nameOf
 */
function topicChips(filters, nameOf) {
  return (filters.topics ?? []).map((id) => ({ text: `Topic: ${nameOf(id)}`, left: without(filters, "topics", id) }));
}

/**
 * @param {string | undefined} bits
 * @param {number} count
 */
function bitsText(bits, count) {
  if (bits === undefined) return "";
  try {
    return rowsText(Bits.fromBase64(count, bits).count());
  } catch {
    // A link to another map; the server says what is wrong with it.
    return "not of this map";
  }
}

/** @param {Conditions["heat"]} heat */
function heatText(heat) {
  if (!heat) return "";
  const what = heat.query ? `“${heat.query}”` : heat.image ? "a picture" : "a row";
  return `Near ${what}: score of ${numberText(heat.at_least)} or more`;
}
