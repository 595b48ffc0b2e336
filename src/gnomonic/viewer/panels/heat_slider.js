/** How near all rows are to what was looked for, and from where on they count. */

import { el, fill, whole } from "../dom.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Heat} Heat */

const LEVELS = 256;
const BARS = 64;

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function createHeatSlider(app) {
  const { store, signal } = app;
  const bars = Array.from({ length: BARS }, () => el("i", {}));
  const slider = el("input", {
    type: "range",
    class: "heat-range",
    min: "0",
    max: String(LEVELS - 1),
    step: "1",
    "aria-label": "Least score",
  });
  const told = el("p", { class: "heat-told number", role: "status" });
  const choose = () => selectAbove(app);
  const select = el("button", { class: "button", type: "button", "on:click": choose }, "Select rows above");
  const clear = el(
    "button",
    {
      class: "button",
      type: "button",
      "on:click": () => store.set({ heat: null, heatQuery: null, heatThreshold: null }),
    },
    "Clear heat",
  );
  const box = el(
    "div",
    { class: "heat", role: "group", "aria-label": "Heat" },
    el("div", { class: "heat-bars", "aria-hidden": "true" }, bars),
    slider,
    told,
    el("div", { class: "row" }, select, clear),
  );
  slider.addEventListener("input", () => {
    const { heat } = store.state;
    const level = Number(slider.value);
    if (heat) store.set({ heatThreshold: level ? scoreOf(heat, level) : null });
  });
  /** @type {number[]} */
  let counts = [];
  store.follow(
    ["heat", "passing", "living", "heatThreshold"],
    ({ heat, heatThreshold, passing, living }, changed) => {
      box.hidden = !heat;
      if (!heat) return;
      if (changed.has("heat") || changed.has("passing") || changed.has("living")) {
        counts = countsOf(heat, passing ?? living);
        drawBars(bars, counts);
      }
      const level = heatThreshold === null ? 0 : levelOf(heat, heatThreshold);
      slider.value = String(level);
      show(heat, counts, level, { bars, slider, told, select });
    },
    { now: true, signal },
  );
  return box;
}

/**
 * The score at which a row gets a level; half a step below it, as levels are rounded.
 *
 * @param {Heat} heat
 * @param {number} level
 */
export function scoreOf({ low, high }, level) {
  return Number((low + ((level - 0.5) / (LEVELS - 1)) * (high - low)).toPrecision(7));
}

/** The first level that reaches a score. @param {Heat} heat @param {number} score */
export function levelOf({ low, high }, score) {
  if (high <= low) return score > low ? LEVELS - 1 : 0;
  const level = Math.round(((score - low) / (high - low)) * (LEVELS - 1) + 0.5);
  return Math.min(LEVELS - 1, Math.max(0, level));
}

/**
 * How many rows have each level.
 *
 * @param {Heat} heat
 * @param {import("../types.js").Bits | null} passing
 */
export function countsOf({ values }, passing) {
  const counts = new Array(LEVELS).fill(0);
  if (!passing) for (let i = 0; i < values.length; i++) counts[values[i]]++;
  else for (let i = 0; i < values.length; i++) if (passing.has(i)) counts[values[i]]++;
  return counts;
}

/** @param {HTMLElement[]} bars @param {number[]} counts */
function drawBars(bars, counts) {
  const step = LEVELS / BARS;
  const sums = bars.map((_, i) => counts.slice(i * step, (i + 1) * step).reduce((a, b) => a + b, 0));
  const most = Math.max(1, ...sums);
  // The few best rows are what matters, so their bars must be seen beside those of the many others.
  sums.forEach((sum, i) => {
    bars[i].style.height = sum ? `${8 + 92 * (Math.log1p(sum) / Math.log1p(most))}%` : "0";
  });
}

/**
 * @param {Heat} heat
 * @param {number[]} counts
 * @param {number} level
 * @param {{bars: HTMLElement[], slider: HTMLInputElement, told: HTMLElement, select: HTMLButtonElement}} parts
 */
function show(heat, counts, level, { bars, slider, told, select }) {
  const above = counts.slice(level).reduce((a, b) => a + b, 0);
  const all = counts.reduce((a, b) => a + b, 0);
  const score = level ? scoreOf(heat, level).toFixed(3) : heat.low.toFixed(3);
  bars.forEach((bar, i) => bar.classList.toggle("below", (i + 1) * (LEVELS / BARS) <= level));
  slider.setAttribute("aria-valuetext", `${score}, ${whole(above)} rows`);
  select.disabled = level === 0;
  select.title = level ? "" : "Move the slider first";
  if (level) fill(told, el("b", {}, whole(above)), ` of ${whole(all)} rows score ${score} or more`);
  else fill(told, `Scores from ${heat.low.toFixed(3)} to ${heat.high.toFixed(3)}. Move the slider to keep the best.`);
}

/** @param {App} app */
function selectAbove(app) {
  const { heatQuery, heatThreshold, hitsName } = app.store.state;
  if (!heatQuery || heatThreshold === null) return;
  const what = heatQuery.query ? `“${heatQuery.query}”` : hitsName || "the query";
  const name = `Near ${what}, ${heatThreshold.toFixed(3)} or more`;
  void app.actions.selectWhere({ heat: { ...heatQuery, at_least: heatThreshold } }, name);
}
