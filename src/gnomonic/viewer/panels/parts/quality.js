/** How far the map can be trusted, in numbers and in words that do not flatter. */

import { el, percent, whole } from "../../dom.js";
import { button } from "./states.js";

/** @typedef {import("../../types.js").App} App */

/**
 * @typedef {object} Measure
 * @property {string} key  Of quality.json.
 * @property {string} title
 * @property {(share: string, app: App) => string} text
 * @property {number} chance  What a map of rows put anywhere would have.
 * @property {[number, string][]} grades  From how much on what is said, the highest first.
 */

/** @type {Measure[]} */
const MEASURES = [
  {
    key: "neighbor_recall",
    title: "Neighbours found",
    text: (share) => `The build found ${share} of the rows' true nearest neighbours. All of the map is made from them.`,
    chance: 0,
    grades: [
      [0.95, "very good"],
      [0.85, "good"],
      [0, "low: neighbours are missing"],
    ],
  },
  {
    key: "neighborhood_preservation",
    title: "Neighbourhoods kept",
    text: (share) =>
      `Of the 10 rows nearest to a point on the map, ${share} are among its 10 nearest by vector. ` +
      "No plane keeps them all: " +
      "a fifth to two fifths is usual. For the true neighbours, click a point.",
    chance: 0,
    grades: [
      [0.35, "high for a map"],
      [0.15, "usual"],
      [0, "low: trust regions, not single points"],
    ],
  },
  {
    key: "trustworthiness",
    title: "Nearness can be believed",
    text: (share) =>
      `${share}: near 100 % where rows that lie together are alike, about 50 % where they were put anywhere.`,
    chance: 0.5,
    grades: [
      [0.9, "good"],
      [0.8, "usual"],
      [0, "low: unlike rows lie together"],
    ],
  },
  {
    key: "triplet_accuracy",
    title: "Far distances",
    text: (share) =>
      `Of two random rows, the map tells which is nearer to a third one in ${share} of cases; a coin would in 50 %. ` +
      "So how far apart regions lie says little.",
    chance: 0.5,
    grades: [
      [0.7, "high for a map"],
      [0.55, "usual"],
      [0, "low: close to chance"],
    ],
  },
  {
    key: "noise_share",
    title: "Rows in no topic",
    text: (share) => `${share} of the rows lie between the dense regions and belong to no topic.`,
    chance: 0,
    grades: [],
  },
];

/** @param {App} app */
export function qualityPart(app) {
  const { quality } = app.view.map;
  const lines = MEASURES.flatMap((measure) => {
    const value = quality[measure.key];
    return typeof value === "number" ? [line(app, measure, value, quality[`${measure.key}_error`] ?? null)] : [];
  });
  const sampled = quality.sampled_rows;
  return el(
    "section",
    { "aria-label": "How far it can be trusted" },
    el("h3", {}, "How far it can be trusted"),
    lines.length
      ? el("ul", { class: "quality" }, ...lines)
      : el("p", { class: "muted" }, "There are too few rows to say, or it was not measured."),
    typeof sampled === "number" && lines.length
      ? el("p", { class: "muted small" }, `Measured on ${whole(sampled)} rows compared with all others.`)
      : null,
    lines.length ? trustButton(app) : null,
  );
}

/**
 * @param {App} app
 * @param {Measure} measure
 * @param {number} value
 * @param {number | null} error
 */
function line(app, { title, text, chance, grades }, value, error) {
  const bar = el("span", { class: "quality-bar", "aria-hidden": "true" });
  bar.style.width = `${(100 * Math.max(0, Math.min(1, value))).toFixed(1)}%`;
  const mark = chance ? el("span", { class: "quality-chance", title: "Chance", "aria-hidden": "true" }) : null;
  if (mark) mark.style.left = `${100 * chance}%`;
  const grade = grades.find(([least]) => value >= least)?.[1];
  // The sign stays with its number.
  const share = percent(value).replace(" ", "\u00a0");
  return el(
    "li",
    {},
    el(
      "div",
      { class: "quality-head" },
      el("strong", {}, title),
      el(
        "span",
        { class: "number" },
        percent(value),
        error ? el("span", { class: "muted" }, ` ± ${percent(error)}`) : null,
      ),
    ),
    el("div", { class: "quality-track" }, bar, mark),
    el(
      "p",
      { class: "muted small" },
      grade ? el("em", {}, `${grade[0].toUpperCase()}${grade.slice(1)}. `) : null,
      text(share, app),
    ),
  );
}

/** @param {App} app */
function trustButton({ store }) {
  return button("Colour the map by trust", () => store.set({ colorBy: "_trust" }), {
    title: "Shows for each row what share of its true neighbours lie near it",
  });
}
