/** What more than one part of the page does to it. */

import { Bits } from "./bits.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Actions} Actions */
/** @typedef {import("./types.js").Conditions} Conditions */

/**
 * @param {App} app
 * @returns {Actions}
 */
export function createActions(app) {
  const { store, root } = app;
  let filtering = new AbortController();

  /** @type {Actions["say"]} */
  const say = (text, kind = "info", action) => {
    root.dispatchEvent(new CustomEvent("gnomonic:say", { detail: { text, kind, action } }));
  };

  /** @type {Actions["attempt"]} */
  const attempt = async (work, what) => {
    try {
      return await work;
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return null;
      say(`${what}: ${error instanceof Error ? error.message : error}`, "error");
      return null;
    }
  };

  /** @type {Actions["select"]} */
  const select = (selection, name) => {
    store.set({ selection: selection && selection.count() ? selection : null, selectionName: name });
  };

  /** @type {Actions["selectWhere"]} */
  const selectWhere = async (conditions, name, combine = "new") => {
    const found = await attempt(app.source.filter(conditions), "Selecting failed");
    if (!found) return;
    const before = store.state.selection;
    // A row that the filters hide is not selected by what is drawn over it.
    const visible = store.state.passing ? found.and(store.state.passing) : found;
    const joined = combined(before, visible, combine);
    select(joined, combine === "new" || !before ? name : `${store.state.selectionName}, ${name}`);
    if (!joined.count()) say(`No rows: ${name}`);
  };

  /** @type {Actions["filter"]} */
  const filter = async (filters) => {
    filtering.abort();
    filtering = new AbortController();
    store.set({ filters });
    if (isEmpty(filters)) {
      store.set({ passing: null, busy: false });
      return;
    }
    store.set({ busy: true });
    const mine = filtering;
    const passing = await attempt(app.source.filter(filters, mine.signal), "Filtering failed");
    if (mine !== filtering) return;
    store.set(passing ? { passing, busy: false } : { busy: false });
  };

  /** @type {Actions["focus"]} */
  const focus = async (position, { move = false } = {}) => {
    store.set({ focus: position, focusNeighbors: [] });
    if (position === null) return;
    const reading = attempt(app.source.neighbors(position, 15), "The neighbours cannot be read");
    if (move) void attempt(moveTo(app, position), "The row cannot be shown on the map");
    const neighbors = await reading;
    if (store.state.focus === position) store.set({ focusNeighbors: neighbors ?? [] });
  };

  /** @type {Actions["conditionsOf"]} */
  const conditionsOf = (bits) => (bits ? { bits: bits.toBase64() } : { ...store.state.filters });

  return { say, attempt, select, selectWhere, filter, focus, conditionsOf };
}

/**
 * Bring the row that is in focus to the middle.
 *
 * @param {App} app
 * @param {number} position
 */
async function moveTo(app, position) {
  const places = await app.renderer.locate([position]);
  if (app.store.state.focus !== position || !places.length) return;
  const [x, y] = places[0];
  const extent = app.manifest.extent.size;
  const scale = Math.max(app.store.state.camera?.scale ?? 0, 8000 / extent);
  app.renderer.moveTo({ x, y, scale }, { animate: true });
}

/**
 * @param {Bits | null} before
 * @param {Bits} found
 * @param {"new" | "add" | "remove" | "within"} how
 */
function combined(before, found, how) {
  if (how === "new" || (!before && how === "add")) return found;
  if (!before) return new Bits(found.length);
  return how === "add" ? before.or(found) : how === "remove" ? before.without(found) : before.and(found);
}

/** @param {Conditions} filters */
function isEmpty(filters) {
  return Object.values(filters).every((value) => value === undefined || (Array.isArray(value) && !value.length));
}
