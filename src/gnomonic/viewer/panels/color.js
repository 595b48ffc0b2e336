/** What the points look like: colour, size, what else is drawn, the theme, and the legend. */

import { el, fill } from "../dom.js";
import { cardFieldsOf } from "./card_fields.js";
import { iconButton } from "./icons.js";
import { createLegend } from "./legend.js";
import { isMade, titleOf } from "./parts/columns.js";
import { afterPoints } from "./parts/opening.js";
import { topicColumns } from "./row_fields.js";

/**
 * @typedef {import("../types.js").App} App
 * @typedef {import("../types.js").ColumnInfo} ColumnInfo
 * @typedef {import("../types.js").State} State
 */

/** Points of one colour; null stands for the usual colours. */
export const PLAIN = "";
const USUAL = "_usual";
const SMALL = "(max-width: 760px)";
const KEPT = "gnomonic-legend";

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  const legend = createLegend(app);
  const display = displaySettings(app);
  const colorBy = columnSelect(app, "Colour by", "colorBy");
  const settings = iconButton("sliders", "Display settings", () => open(settings, display, display.hidden), {
    class: "button icon quiet",
  });
  const fold = iconButton("down", "Show the legend", () => {
    open(fold, legend, legend.hidden);
    keepFolded(legend.hidden);
  });
  fold.classList.add("quiet", "fold");
  open(settings, display, false);
  open(fold, legend, !isFolded());
  return el(
    "section",
    { class: "color floating", "aria-label": "Colours" },
    el("div", { class: "color-head" }, caption("Colour", "muted"), colorBy, settings, fold),
    legend,
    display,
  );
}

/**
 * @param {HTMLElement} button
 * @param {HTMLElement} part
 * @param {boolean} wanted
 */
function open(button, part, wanted) {
  part.hidden = !wanted;
  button.setAttribute("aria-expanded", String(wanted));
}

function isFolded() {
  try {
    const kept = localStorage.getItem(KEPT);
    if (kept) return kept === "folded";
  } catch {
    // Then it is as it is at first.
  }
  return matchMedia(SMALL).matches;
}

/** @param {boolean} folded */
function keepFolded(folded) {
  try {
    localStorage.setItem(KEPT, folded ? "folded" : "open");
  } catch {
    // Nothing is kept by this browser.
  }
}

/**
 * A list of columns to colour or size points by.
 *
 * @param {App} app
 * @param {string} label
 * @param {"colorBy" | "sizeBy"} key
 */
function columnSelect(app, label, key) {
  const { store, source, signal } = app;
  const select = el("select", { "aria-label": label, title: label, class: "column-select" });
  fill(select, option(USUAL, key === "colorBy" ? "Topics" : "All the same"));
  select.addEventListener("change", () => {
    store.set({ [key]: select.value === USUAL ? null : select.value });
  });
  const choose = (/** @type {Readonly<State>} */ state) => {
    const wanted = state[key] ?? USUAL;
    // What the link says and the map lacks is shown as the usual.
    select.value = [...select.options].some((one) => one.value === wanted) ? wanted : USUAL;
  };
  store.follow([key], choose, { now: true, signal });
  void afterPoints(app).then(async () => {
    const columns = await app.actions.attempt(source.columns(), "The columns cannot be read");
    if (!columns || signal.aborted) return;
    fill(select, key === "colorBy" ? colorOptions(columns) : sizeOptions(columns));
    choose(store.state);
  });
  return select;
}

/** @param {ColumnInfo[]} columns */
function colorOptions(columns) {
  const topics = topicColumns(columns);
  const usable = columns.filter((one) => one.dtype !== null && !topics.includes(one));
  const shown = (/** @type {ColumnInfo} */ one) => option(one.name, titleOf(one.name));
  const own = usable.filter((one) => !isMade(one.name));
  const made = usable.filter((one) => isMade(one.name));
  const usual = option(USUAL, topics.length ? titleOf(topics[0].name) : "None");
  return [
    group("Topics", [usual, ...topics.slice(1).map(shown)]),
    group("Fields", own.map(shown)),
    group("From the build", made.map(shown)),
    topics.length > 0 && option(PLAIN, "None"),
  ];
}

/** @param {ColumnInfo[]} columns */
function sizeOptions(columns) {
  const usable = columns.filter((one) => one.dtype !== null && ["number", "integer", "date"].includes(one.kind));
  return [option(USUAL, "All the same"), ...usable.map((one) => option(one.name, titleOf(one.name)))];
}

/** What stands before a control, which says the same of itself. @param {string} text @param {string} [look] */
function caption(text, look) {
  return el("span", { "aria-hidden": "true", class: look }, text);
}

/** @param {string} value @param {string} text */
function option(value, text) {
  return el("option", { value }, text);
}

/** @param {string} label @param {HTMLOptionElement[]} options */
function group(label, options) {
  return options.length > 0 && el("optgroup", { label }, options);
}

/** @param {App} app */
function displaySettings(app) {
  return el(
    "div",
    { class: "display", role: "group", "aria-label": "Display settings" },
    el("div", { class: "display-line" }, caption("Size by"), columnSelect(app, "Size by", "sizeBy")),
    sizeSlider(app),
    el(
      "div",
      { class: "display-checks" },
      toggle(app, "showLabels", "Labels"),
      toggle(app, "density", "Density"),
      toggle(app, "contours", "Contours"),
      app.view.can.images && toggle(app, "showThumbs", "Thumbnails"),
    ),
    themeSelect(app),
    cardFieldsOf(app).element(),
  );
}

/** @param {App} app */
function sizeSlider({ store, signal }) {
  // The scale is logarithmic: half and double are equally far from the usual size.
  const slider = el("input", { type: "range", min: "-2", max: "2", step: "0.1", "aria-label": "Point size" });
  const told = el("span", { class: "number muted" });
  slider.addEventListener("input", () => store.set({ pointSize: Number((2 ** Number(slider.value)).toFixed(3)) }));
  store.follow(
    ["pointSize"],
    ({ pointSize }) => {
      slider.value = String(Math.log2(pointSize));
      const text = `${Number(pointSize.toPrecision(2))}×`;
      slider.setAttribute("aria-valuetext", text);
      fill(told, text);
    },
    { now: true, signal },
  );
  return el("div", { class: "display-line" }, caption("Point size"), slider, told);
}

/**
 * @param {App} app
 * @param {"showLabels" | "density" | "contours" | "showThumbs"} key
 * @param {string} label
 */
function toggle({ store, signal }, key, label) {
  const box = el("input", { type: "checkbox" });
  box.addEventListener("change", () => store.set({ [key]: box.checked }));
  store.follow([key], (state) => void (box.checked = state[key]), { now: true, signal });
  return el("label", { class: "check" }, box, label);
}

/** @param {App} app */
function themeSelect({ store, signal }) {
  const select = el(
    "select",
    { "aria-label": "Theme" },
    option("auto", "As the system"),
    option("light", "Light"),
    option("dark", "Dark"),
  );
  select.addEventListener("change", () => store.set({ theme: /** @type {State["theme"]} */ (select.value) }));
  store.follow(["theme"], ({ theme }) => void (select.value = theme), { now: true, signal });
  return el("div", { class: "display-line" }, caption("Theme"), select);
}
