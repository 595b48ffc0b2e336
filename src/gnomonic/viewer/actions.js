/** What more than one part of the page does to it. */

import { Bits } from "./bits.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Actions} Actions */
/** @typedef {import("./types.js").Conditions} Conditions */
/** @typedef {"new" | "add" | "remove" | "within"} Combine */

const MOST_UNHEARD = 20;

/**
 * @param {App} app
 * @returns {Actions}
 */
export function createActions(app) {
  const { store, root, signal } = app;
  /** @type {Parameters<Actions["say"]>[]} */
  const unheard = [];

  /** @type {Actions["say"]} */
  const say = (text, kind = "info", action) => {
    const event = new CustomEvent("gnomonic:say", { cancelable: true, detail: { text, kind, action } });
    // What goes wrong before there is a place for messages is told as soon as there is one.
    if (root.dispatchEvent(event) && unheard.length < MOST_UNHEARD) unheard.push([text, kind, action]);
  };
  const sayAgain = () => unheard.splice(0).forEach((one) => say(...one));
  root.addEventListener("gnomonic:listening", sayAgain, { signal });

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

  /** @type {Actions["focus"]} */
  const focus = async (position, { move = false } = {}) => {
    const again = position === store.state.focus && store.state.focusNeighbors.length > 0;
    // A list that is made anew under the pointer is not told that the pointer left it.
    store.set(again ? { hover: null } : { focus: position, focusNeighbors: [], hover: null });
    if (position === null) return;
    if (move) void attempt(moveTo(app, position), "The row cannot be shown on the map");
    if (again) return;
    const neighbors = await attempt(app.source.neighbors(position, 15), "The neighbours cannot be read");
    if (store.state.focus === position) store.set({ focusNeighbors: neighbors ?? [] });
  };

  /** @type {Actions["conditionsOf"]} */
  const conditionsOf = (bits) => (bits ? { bits: bits.toBase64() } : { ...store.state.filters });

  return { say, attempt, focus, conditionsOf, filter: filtering(app, attempt), ...selecting(app, attempt, say) };
}

/**
 * @param {App} app
 * @param {Actions["attempt"]} attempt
 * @returns {Actions["filter"]}
 */
function filtering({ store, source }, attempt) {
  let asking = new AbortController();
  /** What `passing` is of. @type {Conditions} */
  let inForce = store.state.filters;
  return async (filters) => {
    asking.abort();
    const mine = new AbortController();
    asking = mine;
    if (isEmpty(filters)) {
      inForce = filters;
      store.set({ filters, passing: null, busy: false });
      return;
    }
    store.set({ filters, busy: true });
    const passing = await attempt(source.filter(filters, mine.signal), "Filtering failed");
    if (mine !== asking) return;
    // Filters that are not in force must not look as if they were.
    if (!passing) return store.set({ filters: inForce, busy: false });
    inForce = filters;
    store.set({ passing, busy: false });
  };
}

/**
 * @param {App} app
 * @param {Actions["attempt"]} attempt
 * @param {Actions["say"]} say
 * @returns {Pick<Actions, "select" | "selectWhere">}
 */
function selecting({ store, source }, attempt, say) {
  let asking = new AbortController();
  /** @type {Promise<void>} */
  let last = Promise.resolve();
  /** Give up what is still being looked up: it would come later, and replace what is newer. */
  const giveUp = () => {
    asking.abort();
    asking = new AbortController();
  };
  const put = (/** @type {Bits | null} */ selection, /** @type {string} */ name) => {
    store.set({ selection: selection && selection.count() ? selection : null, selectionName: name });
  };
  /** @type {(conditions: Conditions, name: string, combine: Combine, before: Promise<void>) => Promise<void>} */
  const take = async (conditions, name, combine, before) => {
    const { signal } = asking;
    const found = await attempt(source.filter(conditions, signal), "Selecting failed");
    await before;
    if (!found || signal.aborted) return;
    const { selection, selectionName, passing } = store.state;
    // A row that the filters hide is not selected by what is drawn over it.
    const joined = combined(selection, passing ? found.and(passing) : found, combine);
    put(joined, combine === "new" || !selection ? name : `${selectionName}, ${name}`);
    if (!joined.count()) say(`No rows: ${name}`);
  };
  return {
    select(selection, name) {
      giveUp();
      put(selection, name);
    },
    selectWhere(conditions, name, combine = "new") {
      if (combine === "new") giveUp();
      // Answers take effect in the order of the questions.
      last = take(conditions, name, combine, last);
      return last;
    },
  };
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
 * @param {Combine} how
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
