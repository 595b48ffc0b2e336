/** What the drawer of a row is made of. */

import { el, fill, percent, shown } from "../dom.js";
import { longText } from "./long_text.js";
import { dateText } from "./parts/columns.js";
import { rowCacheOf } from "./row_cache.js";
import { titleOf, valueElement } from "./row_fields.js";
import { topicsOf } from "./topic_of.js";

/**
 * @typedef {import("../types.js").App} App
 * @typedef {import("../types.js").Neighbor} Neighbor
 * @typedef {import("../types.js").Row} Row
 */

const WHOLE = 1_000_000;
const IN_PLACE = 8000;
/** Values of more characters have a line of their own. */
const SHORT = 60;
const DAY_MS = 86_400_000;

/**
 * The topics that the row is in, from broad to fine.
 *
 * @param {App} app
 * @param {number} position
 * @param {AbortSignal} signal
 */
export function topicPart(app, position, signal) {
  const line = el("p", { class: "detail-topics muted", dir: "auto" });
  topicsOf(app, position).then(
    (names) => {
      const told = names.filter((name, i) => name !== names[i - 1]);
      if (!signal.aborted) fill(line, told.length ? told.join(" › ") : "In no topic");
    },
    () => line.remove(),
  );
  return line;
}

/**
 * @param {App} app
 * @param {number} position
 * @param {AbortSignal} signal
 */
export function picturePart(app, position, signal) {
  const frame = el("div", { class: "detail-picture" });
  app.source.image(position).then(
    (blob) => {
      if (signal.aborted || !blob) return frame.remove();
      const address = URL.createObjectURL(blob);
      const drop = () => URL.revokeObjectURL(address);
      signal.addEventListener("abort", drop);
      const picture = el("img", { src: address, alt: "Image of this row" });
      picture.addEventListener("error", () => {
        drop();
        fill(frame, el("p", { class: "muted" }, "The image cannot be shown."));
      });
      fill(frame, picture);
    },
    () => fill(frame, el("p", { class: "muted" }, "The image cannot be read.")),
  );
  return frame;
}

/**
 * @param {App} app
 * @param {Row} row
 * @param {AbortSignal} signal
 */
export function fieldList(app, row, signal) {
  const { fields, dataset, text_field: textField } = app.view;
  const known = fields.map((field) => field.name).filter((name) => name in row.values);
  const others = Object.keys(row.values).filter((name) => !known.includes(name));
  // The text is what most people open a row for.
  const names = [...new Set([...known.filter((name) => name === textField), ...known, ...others])];
  const kinds = new Map(fields.map(({ name, kind }) => [name, kind]));
  const pair = (/** @type {string} */ name) => {
    const value = plainValue(row.values[name], kinds.get(name));
    const isCut = row.cut.includes(name);
    const wide = isCut || (value !== null && shown(value).length > SHORT) ? "wide" : "";
    const content = isCut ? cutValue(app, row, name, signal) : valueElement(value);
    return [el("dt", { dir: "auto", class: wide }, name), el("dd", { class: wide }, content)];
  };
  return el(
    "dl",
    { class: "detail-fields" },
    !names.includes(dataset.id_field) && [
      el("dt", { dir: "auto" }, dataset.id_field || "id"),
      el("dd", {}, valueElement(row.id)),
    ],
    names.flatMap(pair),
  );
}

/** @param {unknown} value @param {string | undefined} kind */
function plainValue(value, kind) {
  if (kind !== "date" || (typeof value !== "number" && typeof value !== "string")) return value;
  const ms = new Date(value).getTime();
  return Number.isNaN(ms) ? value : dateText(ms, ms % DAY_MS !== 0);
}

/**
 * A value that was cut short, and a way to all of it.
 *
 * @param {App} app
 * @param {Row} row
 * @param {string} name
 * @param {AbortSignal} signal
 */
function cutValue(app, row, name, signal) {
  const box = el("div", { class: "cut-value" });
  const button = el("button", { class: "button small", type: "button" }, "Show all");
  button.addEventListener("click", async () => {
    button.disabled = true;
    fill(button, "Reading…");
    const asked = app.source.rows([row.position], { columns: [name], longest: WHOLE, signal });
    const rows = await app.actions.attempt(asked, `“${name}” cannot be read`);
    if (signal.aborted) return;
    const all = rows?.[0];
    if (all) return fill(box, wholeValue(all, name));
    button.disabled = false;
    fill(button, "Show all");
  });
  const text = shown(row.values[name]).trimEnd();
  fill(box, el("span", { class: "value-text", dir: "auto" }, `${text.replace(/…$/, "")}…`), button);
  return box;
}

/** @param {Row} row @param {string} name */
function wholeValue(row, name) {
  const value = row.values[name];
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 1);
  const content = text.length > IN_PLACE ? longText(text) : el("div", { class: "long-text", dir: "auto" }, text);
  content.setAttribute("role", "region");
  content.setAttribute("aria-label", name);
  const rest = row.cut.includes(name) && "These are the first million characters; an export has all of them.";
  return [content, rest && el("p", { class: "muted" }, rest)];
}

/** @param {number | null} trust  0 to 1. */
export function trustPart(trust) {
  if (trust === null || trust === undefined || !Number.isFinite(trust)) return null;
  const told =
    trust >= 0.7
      ? "The row lies among rows that it really resembles."
      : trust >= 0.35
        ? "Some of the rows that it resembles most lie elsewhere on the map."
        : "Its place says little: most of the rows that it resembles lie elsewhere.";
  const meter = el("meter", { class: "trust-meter", min: "0", max: "1", "aria-label": "Trust in the place" });
  meter.value = trust;
  return el(
    "section",
    { class: "detail-trust" },
    el("h3", {}, "Trust in the place ", el("span", { class: "number" }, percent(trust))),
    meter,
    el("p", { class: "muted" }, `${told} This is the share of its true nearest neighbours that lie near it here.`),
  );
}

/**
 * The row's true nearest neighbours, as they become known.
 *
 * @param {App} app
 * @param {AbortSignal} signal
 */
export function neighborList(app, signal) {
  const list = el("ol", { class: "neighbor-list" }, el("li", { class: "muted" }, "Looking for them…"));
  const note = "By the vectors themselves, not by their places on the map. Lines on the map lead to them.";
  app.store.follow(
    ["focusNeighbors"],
    ({ focusNeighbors }) => {
      const items = focusNeighbors.map((near) => neighborItem(app, near));
      fill(list, items.length ? items : el("li", { class: "muted" }, "None are known."));
      void nameNeighbors(app, focusNeighbors, list, signal);
    },
    { signal },
  );
  return el(
    "section",
    { class: "detail-neighbors" },
    el("h3", {}, "Nearest rows"),
    el("p", { class: "muted" }, note),
    list,
  );
}

/** @param {App} app @param {Neighbor} near */
function neighborItem({ actions, store }, { position, id, distance }) {
  const go = () => void actions.focus(position, { move: true });
  const over = (/** @type {boolean} */ on) => () => store.set({ hover: on ? position : null });
  const pointed = { "on:pointerenter": over(true), "on:pointerleave": over(false) };
  return el(
    "li",
    {},
    el(
      "button",
      { class: "neighbor", type: "button", "on:click": go, ...pointed },
      el("span", { class: "neighbor-name", dir: "auto" }, String(id)),
      el("span", { class: "neighbor-distance number muted", title: "Distance" }, distance.toFixed(3)),
    ),
  );
}

/**
 * @param {App} app
 * @param {Neighbor[]} neighbors
 * @param {HTMLElement} list
 * @param {AbortSignal} signal
 */
async function nameNeighbors(app, neighbors, list, signal) {
  const positions = neighbors.map((near) => near.position);
  // Ids stand there already, so that nothing is lost where names cannot be had.
  const rows = await rowCacheOf(app).rows(positions, signal).catch(() => []);
  if (signal.aborted) return;
  rows.forEach((row, i) => {
    const name = list.children[i]?.querySelector(".neighbor-name");
    if (row && name) fill(name, titleOf(app.view, row));
  });
}
