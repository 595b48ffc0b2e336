/** What the colours mean. */

import { el, fill, whole } from "../dom.js";
import { valueText, titleOf } from "./parts/columns.js";
import { fieldFilter, withField } from "./parts/conditions.js";

/**
 * @typedef {import("../types.js").App} App
 * @typedef {import("../types.js").ColumnInfo} ColumnInfo
 * @typedef {{code: number, name: string, color: string, count: number}} Entry
 * @typedef {{of: (entry: Entry) => number, nulls: number}} Counts
 */

const MOST = 12;
const STEP = 24;
const LATER_MS = 120;

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function createLegend(app) {
  const { store, renderer, signal } = app;
  const box = el("div", { class: "legend" });
  let wanted = MOST;
  /** @type {unknown[]} */
  let drawn = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let later;
  const recount = counting(app, () => show());
  const draw = () => {
    clearTimeout(later);
    later = undefined;
    const { column, dictionary, colors } = renderer.coloring();
    const { heat, filters, living } = store.state;
    const now = [column, dictionary, colors.join(), heat, filters, living];
    if (now.every((part, i) => part === drawn[i]) && drawn.length) return;
    if (column !== drawn[0]) wanted = MOST;
    drawn = now;
    show();
  };
  const show = () => {
    const more = () => {
      wanted += STEP;
      show();
    };
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.code : undefined;
    const inside = box.contains(document.activeElement);
    fill(box, content(app, wanted, more, recount(renderer.coloring().column)));
    if (!inside || focused === undefined) return;
    /** @type {HTMLElement | null} */ (box.querySelector(`[data-code="${CSS.escape(focused)}"]`))?.focus();
  };
  // Colours come with the column's dictionary, some time after the column was chosen, and the next frames show them.
  const stop = renderer.onFrame(() => {
    later ??= setTimeout(draw, LATER_MS);
  });
  signal.addEventListener("abort", () => {
    clearTimeout(later);
    stop();
  });
  store.follow(["colorBy", "filters", "heat", "theme", "living"], draw, { now: true, signal });
  return box;
}

/**
 * How many rows a column's codes have now, where some were deleted since the map was made.
 *
 * @param {App} app
 * @param {() => void} came
 * @returns {(column: ColumnInfo | null) => Counts | null}  Null until they are known, and where the dictionary's do.
 */
function counting({ store, source, actions, signal }, came) {
  /** @type {{column: ColumnInfo | null, living: unknown, counts: Counts | null}} */
  let last = { column: null, living: null, counts: null };
  /** @param {typeof last} mine */
  const ask = async (mine) => {
    const name = /** @type {ColumnInfo} */ (mine.column).name;
    const told = await actions.attempt(source.counts([name], {}, signal), "The legend's counts cannot be read");
    const found = told?.counts[name];
    if (signal.aborted || last !== mine || !found || !("codes" in found)) return;
    const byCode = new Map(found.codes.map((code, i) => [code, found.counts[i]]));
    // Of a column of very many values only the most frequent are told.
    const of = (/** @type {Entry} */ { code, count }) => byCode.get(code) ?? (found.other ? count : 0);
    mine.counts = { of, nulls: found.nulls };
    came();
  };
  return (column) => {
    const { living } = store.state;
    if (last.column !== column || last.living !== living) {
      last = { column, living, counts: null };
      if (living && column?.kind === "category") void ask(last);
    }
    return last.counts;
  };
}

/**
 * @param {App} app
 * @param {number} wanted
 * @param {() => void} more
 * @param {Counts | null} counts
 */
function content(app, wanted, more, counts) {
  const { heat } = app.store.state;
  const { column, colors, stops } = app.renderer.coloring();
  const ends = heat && [`far: ${heat.low.toFixed(3)}`, `near: ${heat.high.toFixed(3)}`];
  if (ends) return ramp(colors, "Nearness to the search", ends);
  if (!column) return null;
  const entries = app.renderer.legend().map((one) => ({ ...one, count: counts?.of(one) ?? one.count }));
  const counted = counts ? { ...column, nulls: counts.nulls } : column;
  if (entries.length) return categories(app, counted, entries, wanted, more);
  if (column.kind === "category" || column.kind === "bool") return null;
  return numberRamp(app, column, colors, stops);
}

/**
 * @param {App} app
 * @param {ColumnInfo} column
 * @param {string[]} colors
 * @param {number[]} [stops]  Values at even steps of the ramp.
 */
function numberRamp(app, column, colors, stops = []) {
  const { minimum, maximum } = column;
  if (minimum === null || maximum === null) return el("p", { class: "muted" }, "No row has a value.");
  const low = stops[0] ?? minimum;
  const high = stops[stops.length - 1] ?? maximum;
  const middle = stops.length > 2 ? valueText(column, stops[stops.length >> 1]) : "";
  // The few values beyond the ends have the ends' colours.
  const first = `${low > minimum ? "≤ " : ""}${valueText(column, low)}`;
  const last = `${high < maximum ? "≥ " : ""}${valueText(column, high)}`;
  return [...ramp(colors, titleOf(column.name), [first, middle, last]), column.nulls > 0 && noValue(app, column)];
}

/** @param {App} app @param {ColumnInfo} column */
function noValue({ renderer }, { nulls }) {
  const chip = el("span", { class: "chip", "aria-hidden": "true" });
  chip.style.background = renderer.coloring().neutral ?? "gray";
  return el(
    "div",
    { class: "legend-none" },
    chip,
    el("span", { class: "legend-name muted" }, "No value"),
    el("span", { class: "legend-count number muted" }, whole(nulls)),
  );
}

/**
 * @param {string[]} colors
 * @param {string} label
 * @param {string[]} marks  What stands below, from low to high.
 */
function ramp(colors, label, marks) {
  const told = `${label}, from ${marks[0]} to ${marks[marks.length - 1]}`;
  const bar = el("div", { class: "ramp", role: "img", "aria-label": told });
  const shown = colors.length > 1 ? colors : [colors[0] ?? "gray", colors[0] ?? "gray"];
  bar.style.background = `linear-gradient(to right, ${shown.join(", ")})`;
  return [
    bar,
    el(
      "div",
      { class: "ramp-ends number", "aria-hidden": "true" },
      marks.map((mark) => el("span", {}, mark)),
    ),
  ];
}

/**
 * @param {App} app
 * @param {ColumnInfo} column
 * @param {Entry[]} entries
 * @param {number} wanted
 * @param {() => void} more
 */
function categories(app, column, entries, wanted, more) {
  const filter = fieldFilter(app.store.state.filters, column.name);
  const rest = Math.max(entries.length, column.distinct ?? 0) - wanted;
  const lines = entries.slice(0, wanted).map((entry) => line(app, column, entry, filter?.codes ?? null));
  const further = entries.length > wanted && wanted < MOST + 8 * STEP;
  return [
    el("ul", { class: "legend-list", "aria-label": `Filter by ${titleOf(column.name)}` }, lines),
    column.nulls > 0 && noValue(app, column),
    rest > 0 &&
      (further
        ? el("button", { class: "legend-more", type: "button", "on:click": more }, `and ${whole(rest)} more`)
        : el("p", { class: "legend-more muted" }, `and ${whole(rest)} more`)),
  ];
}

/**
 * @param {App} app
 * @param {ColumnInfo} column
 * @param {Entry} entry
 * @param {number[] | null} chosen
 */
function line(app, column, { code, name, color, count }, chosen) {
  const chip = el("span", { class: "chip", "aria-hidden": "true" });
  chip.style.background = color;
  const pressed = chosen?.includes(code) ?? false;
  const shown = name === "" ? "(empty)" : name;
  const run = () => void app.actions.filter(toggled(app, column, code));
  return el(
    "li",
    {},
    el(
      "button",
      {
        class: chosen && !pressed ? "legend-line off" : "legend-line",
        type: "button",
        "data-code": code,
        "aria-pressed": String(pressed),
        title: pressed ? "Click to show the others again" : `Show only ${shown}`,
        "on:click": run,
      },
      chip,
      el("span", { class: "legend-name", dir: "auto" }, shown),
      el("span", { class: "legend-count number muted" }, whole(count)),
    ),
  );
}

/**
 * The filters with a value of a column chosen, or not any more.
 *
 * @param {App} app
 * @param {ColumnInfo} column
 * @param {number} code
 */
function toggled(app, column, code) {
  const { filters } = app.store.state;
  const before = fieldFilter(filters, column.name);
  const codes = new Set(before?.codes ?? []);
  if (!codes.delete(code)) codes.add(code);
  const nulls = before?.nulls ?? false;
  if (!codes.size && !nulls) return withField(filters, column.name, null);
  return withField(filters, column.name, { column: column.name, codes: [...codes].sort((a, b) => a - b), nulls });
}
