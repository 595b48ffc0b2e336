/** The view in the page's address: what it shows, and nothing that is secret. */

import { isObject, ofAnyMap, soundConditions, soundQuery } from "./link_conditions.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").State} State */

/** @type {(keyof State)[]} */
const KEPT = [
  "camera", "theme", "colorBy", "sizeBy", "pointSize", "density", "contours", "showLabels", "showThumbs", "filters",
  "selection", "selectionName", "heatQuery", "heatThreshold", "focus", "panel",
];
const MOST_CHARACTERS = 6000;
const QUIET_MS = 300;
const LONGEST_NAME = 300;
const PANELS = ["topics", "filters", "selection", "tags", "duplicates", "export", "info"];

/**
 * Go to the place that the address says; tells whether it names one.
 *
 * @param {App} app
 */
export function placeOfLink({ renderer, view }) {
  const told = read();
  const { camera } = told;
  const sound = Array.isArray(camera) && camera.length === 3 && camera.every(Number.isFinite);
  if (!sound || !isOf(told, view)) return false;
  renderer.moveTo({ x: camera[0], y: camera[1], scale: camera[2] });
  return true;
}

/**
 * Positions, codes and places of another map would point at other rows of this one.
 *
 * @param {Record<string, any>} told
 * @param {import("./types.js").MapView} view
 */
function isOf(told, view) {
  return told.map === undefined || told.map === view.map.id;
}

/**
 * Restore what the address says; what cannot be read is passed over.
 *
 * @param {App} app
 */
export async function stateOfLink(app) {
  const { store, actions, view, manifest } = app;
  const told = read();
  const same = isOf(told, view);
  const { focus } = told;
  store.set(plain(told));
  const work = [];
  const filters = same ? soundConditions(told.filters) : ofAnyMap(soundConditions(told.filters));
  if (Object.keys(filters).length) work.push(actions.filter(filters));
  if (same && Number.isInteger(focus) && focus >= 0 && focus < manifest.count) work.push(actions.focus(focus));
  const query = soundQuery(told.heatQuery);
  if (query && (same || query.query !== undefined)) work.push(restoreHeat(app, query, told.heatThreshold));
  const selection = soundConditions(told.selection);
  const name = typeof told.selectionName === "string" ? told.selectionName.slice(0, LONGEST_NAME) : "";
  if (same && Object.keys(selection).length) {
    work.push(actions.selectWhere(selection, name || "restored from the link"));
  }
  if (!same) actions.say("The link is to another map of this dataset; its place and its chosen rows are left out.");
  await Promise.all(work);
}

/**
 * @param {App} app
 * @param {import("./types.js").Query} query
 * @param {unknown} threshold
 */
async function restoreHeat({ store, source, actions }, query, threshold) {
  const { heat: before, hitsName } = store.state;
  const heat = await actions.attempt(source.heat(query), "The heat cannot be restored");
  // Somebody may have searched in the meantime.
  if (!heat || store.state.heat !== before || store.state.hitsName !== hitsName) return;
  const heatThreshold = typeof threshold === "number" && Number.isFinite(threshold) ? threshold : null;
  store.set({ heat, heatQuery: query, heatThreshold });
}

/**
 * Write the view to the address as it changes.
 *
 * @param {App} app
 */
export function keepInLink(app) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const write = () => history.replaceState(null, "", `#${linkOf(app)}`);
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(write, QUIET_MS);
  };
  app.store.follow(KEPT, later, { now: true, signal: app.signal });
  app.signal.addEventListener("abort", () => clearTimeout(timer));
  // Another link was put into the address bar of this very page.
  const reload = () => {
    clearTimeout(timer);
    location.reload();
  };
  addEventListener("hashchange", reload, { signal: app.signal });
}

/** The part of an address after "#" that restores the view. @param {App} app */
export function linkOf(app) {
  const { state } = app.store;
  const { camera, selection, filters } = state;
  // Longer ones are left out in any case.
  const bits = selection && selection.bytes.length < MOST_CHARACTERS ? { bits: selection.toBase64() } : null;
  /** @type {Record<string, unknown>} */
  const told = {
    map: app.view.map.id,
    camera: camera && [camera.x, camera.y, camera.scale].map((value) => Number(value.toPrecision(7))),
    theme: state.theme === "auto" ? null : state.theme,
    colorBy: state.colorBy,
    sizeBy: state.sizeBy,
    pointSize: state.pointSize === 1 ? null : state.pointSize,
    density: state.density || null,
    contours: state.contours || null,
    showLabels: state.showLabels ? null : false,
    showThumbs: state.showThumbs ? null : false,
    filters: Object.keys(filters).length ? filters : null,
    focus: state.focus,
    panel: state.panel,
    // A picture is too long for an address.
    heatQuery: state.heatQuery && !state.heatQuery.image ? state.heatQuery : null,
    heatThreshold: state.heatThreshold,
    selection: bits,
    selectionName: bits && state.selectionName.slice(0, LONGEST_NAME),
  };
  for (const less of [{}, { selection: null, selectionName: null }, { filters: null }, { heatQuery: null }]) {
    Object.assign(told, less);
    if (encoded(told).length <= MOST_CHARACTERS) break;
  }
  return encoded(told);
}

/** What of the view is too long for a link. @param {App} app @param {string} link */
export function leftOut({ store }, link) {
  const { selection, filters, heatQuery } = store.state;
  const told = JSON.parse(decodeURIComponent(link));
  return {
    selection: selection !== null && !told.selection,
    filters: Object.keys(filters).length > 0 && !told.filters,
    query: heatQuery !== null && !told.heatQuery,
  };
}

/** @param {Record<string, unknown>} told */
function encoded(told) {
  const kept = Object.entries(told).filter(([, value]) => value !== null && value !== undefined);
  return encodeURIComponent(JSON.stringify(Object.fromEntries(kept)));
}

/** @returns {Record<string, any>} */
function read() {
  try {
    const told = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    return isObject(told) ? told : {};
  } catch {
    return {};
  }
}

/** @param {Record<string, any>} told */
function plain(told) {
  /** @type {Partial<State>} */
  const kept = {};
  if (["light", "dark", "auto"].includes(told.theme)) kept.theme = told.theme;
  if (typeof told.colorBy === "string") kept.colorBy = told.colorBy;
  if (typeof told.sizeBy === "string") kept.sizeBy = told.sizeBy;
  const { pointSize } = told;
  if (typeof pointSize === "number" && pointSize >= 0.1 && pointSize <= 8) kept.pointSize = pointSize;
  if (PANELS.includes(told.panel)) kept.panel = told.panel;
  for (const key of /** @type {const} */ (["density", "contours", "showLabels", "showThumbs"])) {
    if (typeof told[key] === "boolean") kept[key] = told[key];
  }
  return kept;
}
