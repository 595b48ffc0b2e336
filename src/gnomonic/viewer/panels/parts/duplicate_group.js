/** The rows of one group of duplicates side by side, with what differs marked. */

import { Bits } from "../../bits.js";
import { el, fill } from "../../dom.js";
import { titleOf as rowTitle } from "../row_fields.js";
import { rowsText } from "./columns.js";
import { wordDiff } from "./word_diff.js";

/** @typedef {import("../../types.js").App} App */
/** @typedef {import("../../types.js").Row} Row */

/** Rows of a group that are shown; texts are cut to this many characters. */
export const MOST_SHOWN = 6;
export const LONGEST = 600;

/**
 * @param {App} app
 * @param {{positions: number[], keep: number}} group
 * @param {Map<number, Row>} rows
 * @param {(url: string) => void} onUrl  Told of addresses of pictures, to be given back.
 * @returns {HTMLElement}
 */
export function duplicateGroup(app, { positions, keep }, rows, onUrl) {
  const order = shownOf({ positions, keep });
  const kept = rows.get(keep);
  const made = order.map((position) => card(app, rows.get(position), position === keep ? null : kept, onUrl));
  const more = positions.length - order.length;
  const all = el(
    "button",
    { type: "button", class: "button quiet", "on:click": () => selectGroup(app, positions) },
    "Select these",
  );
  return el(
    "section",
    { class: "duplicate-group", "aria-label": `Group of ${rowsText(positions.length)}` },
    el("div", { class: "section-head" }, el("span", { class: "muted small number" }, rowsText(positions.length)), all),
    el("div", { class: "duplicate-cards" }, ...made),
    more > 0 ? el("p", { class: "muted small" }, `and ${rowsText(more)} more`) : null,
  );
}

/**
 * The rows that are shown, the one that is kept first.
 *
 * @param {{positions: number[], keep: number}} group
 */
export function shownOf({ positions, keep }) {
  return [keep, ...positions.filter((position) => position !== keep)].slice(0, MOST_SHOWN);
}

/**
 * @param {App} app
 * @param {Row | undefined} row
 * @param {Row | null | undefined} kept  Null for the row that is kept itself.
 * @param {(url: string) => void} onUrl
 */
function card(app, row, kept, onUrl) {
  if (!row) return el("article", { class: "duplicate-card" }, el("p", { class: "muted small" }, "This row is gone."));
  const { view, actions } = app;
  const text = textOf(app, row);
  const title = el(
    "button",
    {
      type: "button",
      class: "duplicate-title",
      dir: "auto",
      "on:click": () => actions.focus(row.position, { move: true }),
    },
    rowTitle(view, row),
  );
  const badge =
    kept === null ? el("span", { class: "badge good" }, "kept") : el("span", { class: "badge" }, "could go");
  const body = el("p", { class: "duplicate-text small", dir: "auto" });
  if (kept)
    fill(
      body,
      wordDiff(text, textOf(app, kept)).map((part) => (part.same ? part.text : el("mark", {}, part.text))),
    );
  else body.textContent = text;
  if (kept && text === textOf(app, kept))
    fill(body, el("span", { class: "muted" }, text ? "The same text." : "No text."));
  return el(
    "article",
    { class: kept === null ? "duplicate-card kept" : "duplicate-card" },
    badge,
    view.can.images ? picture(app, row.position, onUrl) : null,
    title,
    body,
  );
}

/**
 * @param {App} app
 * @param {Row} row
 */
function textOf({ view }, row) {
  const value = view.text_field === null ? null : row.values[view.text_field];
  return value === null || value === undefined ? "" : String(value).slice(0, LONGEST);
}

/**
 * @param {App} app
 * @param {number} position
 * @param {(url: string) => void} onUrl
 */
function picture(app, position, onUrl) {
  const image = el("img", { class: "duplicate-picture", alt: "", loading: "lazy" });
  app.source.image(position).then(
    (blob) => {
      if (!blob) return image.remove();
      image.src = URL.createObjectURL(blob);
      onUrl(image.src);
    },
    () => image.remove(),
  );
  return image;
}

/**
 * @param {App} app
 * @param {number[]} positions
 */
function selectGroup({ actions, manifest }, positions) {
  actions.select(Bits.of(manifest.count, positions), "a group of duplicates");
}
