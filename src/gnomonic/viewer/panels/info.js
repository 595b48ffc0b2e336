/** What this map is, how it was made, how far it can be trusted, and which keys work. */

import { el, whole } from "../dom.js";
import { qualityPart } from "./parts/quality.js";
import { rowsText } from "./parts/columns.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../dom.js").Child} Child */

/** @type {[string[], string][]} */
const KEYS = [
  [["/"], "Search"],
  [["V", "H"], "Move the map"],
  [["L"], "Lasso"],
  [["B"], "Box"],
  [["Shift"], "with lasso, box or topic: add to the selection"],
  [["Alt"], "with lasso, box or topic: take from the selection"],
  [["Esc"], "Stop what is being done, close what is open"],
  [["Ctrl", "Z"], "Undo the last change of tags"],
  [["←", "→", "↑", "↓"], "Move, when the map has the focus"],
  [["+", "−"], "Zoom in and out"],
  [["0"], "Show everything"],
];

const STAGES = {
  embeddings: "Embed the rows",
  neighbors: "Find neighbours",
  projection: "Lay out the plane",
  topics: "Find and name topics",
  duplicates: "Find duplicates",
  quality: "Measure quality",
  tiles: "Write tiles",
};

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  const { dataset, map } = app.view;
  return el(
    "div",
    { class: "info" },
    el("h2", { dir: "auto" }, dataset.identifier),
    dataset.description ? el("p", { dir: "auto" }, dataset.description) : null,
    facts(app),
    qualityPart(app),
    el(
      "section",
      { "aria-label": "How it was made" },
      el("h3", {}, "How it was made"),
      stages(map.stages),
      settings(map.options, map.seed),
    ),
    keys(),
  );
}

/** @param {App} app */
function facts({ view }) {
  const { dataset, map } = view;
  const created = new Date(map.created);
  const date = Number.isNaN(created.getTime())
    ? map.created
    : created.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  const gone = map.rows - map.rows_now;
  const later = dataset.rows - map.rows_now;
  /** @type {[string, Child][]} */
  const told = [
    ["Map", map.name && map.name !== dataset.slug ? `${map.name} (${map.id})` : map.id],
    ["Rows", rowsText(map.rows_now)],
    ["Made", date],
    ["Of", map.indexed_field ? `${map.modality} in the field ${map.indexed_field}` : map.modality],
    ["Model", map.model ?? "vectors of your own"],
    [
      "Vectors",
      `${whole(map.dim)} dimensions, compared by ${map.metric === "cosine" ? "angle (cosine)" : "euclidean distance"}`,
    ],
    ["Ids", dataset.id_field],
  ];
  if (gone > 0) told.push(["Deleted since", rowsText(gone)]);
  if (map.grown_rows > 0) told.push(["Added since", `${rowsText(map.grown_rows)}, placed by their neighbours`]);
  if (later > 0) told.push(["Not on it yet", `${rowsText(later)}; build the map again, or let it grow`]);
  const parts = told.flatMap(([name, value]) => [el("dt", {}, name), el("dd", { dir: "auto" }, value)]);
  return el("dl", { class: "facts" }, ...parts);
}

/** @param {import("../types.js").MapView["map"]["stages"]} told */
function stages(told) {
  if (!told.length) return null;
  const total = told.reduce((sum, { seconds }) => sum + seconds, 0);
  const lines = told.map(({ name, seconds, peak_rss_mb: memory }) => {
    const bar = el("span", { class: "stage-bar", "aria-hidden": "true" });
    bar.style.width = `${total ? (100 * seconds) / total : 0}%`;
    const title = STAGES[/** @type {keyof typeof STAGES} */ (name)] ?? name;
    return el(
      "li",
      { title: memory ? `Peak memory ${whole(Math.round(memory))} MB` : null },
      el("span", {}, title),
      el("span", { class: "number muted" }, secondsText(seconds)),
      el("span", { class: "stage-track" }, bar),
    );
  });
  return [
    el("p", { class: "muted small" }, `Built in ${secondsText(total)}.`),
    el("ul", { class: "stages" }, ...lines),
  ];
}

/** @param {number} seconds */
function secondsText(seconds) {
  if (seconds < 0.95) return `${Math.max(1, Math.round(1000 * seconds))} ms`;
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/**
 * @param {Record<string, any>} options
 * @param {number} seed
 */
function settings(options, seed) {
  /** @type {[string, string][]} */
  const told = [["seed", String(seed)]];
  for (const [stage, values] of Object.entries(options)) {
    if (typeof values !== "object" || values === null) {
      told.push([stage, JSON.stringify(values)]);
      continue;
    }
    for (const [name, value] of Object.entries(values)) {
      if (value !== null) told.push([`${stage}.${name}`, typeof value === "string" ? value : JSON.stringify(value)]);
    }
  }
  const rows = told.map(([name, value]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", { dir: "auto" }, value)),
  );
  return el(
    "details",
    { class: "settings" },
    el("summary", {}, `Settings of the build (${whole(told.length)})`),
    el("table", {}, el("tbody", {}, ...rows)),
  );
}

function keys() {
  const lines = KEYS.flatMap(([names, what]) => [
    el("dt", {}, ...names.map((name) => el("kbd", {}, name))),
    el("dd", {}, what),
  ]);
  return el("section", { "aria-label": "Keys" }, el("h3", {}, "Keys"), el("dl", { class: "keys" }, ...lines));
}
