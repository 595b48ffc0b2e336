/** The view in the page's address: what it shows, and nothing that is secret. */

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").State} State */

/** @type {(keyof State)[]} */
const KEPT = [
  "camera", "theme", "colorBy", "sizeBy", "pointSize", "density", "contours", "showLabels", "showThumbs", "filters",
  "selection", "selectionName", "heatQuery", "heatThreshold", "focus", "panel",
];
const MOST_CHARACTERS = 6000;
const QUIET_MS = 300;

/**
 * Restore what the address says; what cannot be read is passed over.
 *
 * @param {App} app
 */
export async function stateOfLink(app) {
  const { store, actions, renderer } = app;
  const told = read();
  const camera = told.camera;
  if (Array.isArray(camera) && camera.length === 3 && camera.every(Number.isFinite)) {
    renderer.moveTo({ x: camera[0], y: camera[1], scale: camera[2] });
  } else {
    renderer.fitAll();
  }
  store.set(plain(told));
  const work = [];
  if (isObject(told.filters)) work.push(actions.filter(told.filters));
  if (Number.isInteger(told.focus)) work.push(actions.focus(told.focus));
  if (isObject(told.heatQuery)) work.push(restoreHeat(app, told.heatQuery, told.heatThreshold));
  if (isObject(told.selection)) {
    work.push(actions.selectWhere(told.selection, String(told.selectionName ?? "restored from the link")));
  }
  await Promise.all(work);
}

/**
 * @param {App} app
 * @param {import("./types.js").Query} query
 * @param {unknown} threshold
 */
async function restoreHeat(app, query, threshold) {
  const heat = await app.actions.attempt(app.source.heat(query), "The heat cannot be restored");
  if (heat) {
    app.store.set({ heat, heatQuery: query, heatThreshold: typeof threshold === "number" ? threshold : null });
  }
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
  app.store.follow(
    KEPT,
    () => {
      clearTimeout(timer);
      timer = setTimeout(write, QUIET_MS);
    },
    { signal: app.signal },
  );
  app.signal.addEventListener("abort", () => clearTimeout(timer));
}

/** The part of an address after "#" that restores the view. @param {App} app */
export function linkOf(app) {
  const { state } = app.store;
  const { camera, selection } = state;
  /** @type {Record<string, unknown>} */
  const told = {
    camera: camera && [camera.x, camera.y, camera.scale].map((value) => Number(value.toPrecision(7))),
    theme: state.theme === "auto" ? null : state.theme,
    colorBy: state.colorBy,
    sizeBy: state.sizeBy,
    pointSize: state.pointSize === 1 ? null : state.pointSize,
    density: state.density || null,
    contours: state.contours || null,
    showLabels: state.showLabels ? null : false,
    showThumbs: state.showThumbs ? null : false,
    filters: Object.keys(state.filters).length ? state.filters : null,
    focus: state.focus,
    panel: state.panel,
    // A picture is too long for an address.
    heatQuery: state.heatQuery && !state.heatQuery.image ? state.heatQuery : null,
    heatThreshold: state.heatThreshold,
    selection: selection && { bits: selection.toBase64() },
    selectionName: selection && state.selectionName,
  };
  const written = encoded(told);
  if (written.length <= MOST_CHARACTERS) return written;
  return encoded({ ...told, selection: null, selectionName: null });
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
  if (told.pointSize > 0 && told.pointSize <= 8) kept.pointSize = told.pointSize;
  if (typeof told.panel === "string") kept.panel = told.panel;
  for (const key of /** @type {const} */ (["density", "contours", "showLabels", "showThumbs"])) {
    if (typeof told[key] === "boolean") kept[key] = told[key];
  }
  return kept;
}

/** @param {unknown} value */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
