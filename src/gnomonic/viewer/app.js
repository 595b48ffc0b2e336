/** Puts the parts of a map's page together. */

import { createActions } from "./actions.js";
import { Bits } from "./bits.js";
import { el, fill } from "./dom.js";
import { keepInLink, placeOfLink, stateOfLink } from "./link.js";
import { createRenderer } from "./render/renderer.js";
import { Store, firstState } from "./store.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Manifest} Manifest */
/** @typedef {import("./types.js").MapView} MapView */
/** @typedef {import("./types.js").Source} Source */

const FIRST_POINTS_MS = 1000;

/**
 * Show a map in an element.
 *
 * @param {HTMLElement} root
 * @param {(app: {root: HTMLElement, onReach: (reached: boolean) => void}) => Promise<Source>} open  Opens the source.
 * @param {{link?: boolean, signal?: AbortSignal, first?: Promise<[Manifest, MapView]>}} [options]  `link`: keep the
 *   view in the page's address. `first`: what the map is, where it was asked for already.
 * @returns {Promise<App>}
 */
export async function mount(root, open, { link = false, signal, first } = {}) {
  const ending = new AbortController();
  signal?.addEventListener("abort", () => ending.abort());
  const store = new Store(firstState());
  root.classList.add("gnomonic");
  followTheme(root, store, ending.signal);
  const onReach = (/** @type {boolean} */ reached) => {
    if (store.state.offline === reached) store.set({ offline: !reached });
  };
  const source = await open({ root, onReach });
  // Points first: what the panels want is asked for once the first of them are on the screen.
  const [manifest, view] = await (first ?? Promise.all([source.manifest(), source.view()]));
  const parts = { root, store, source, manifest, view, signal: ending.signal };
  const app = /** @type {App} */ (/** @type {unknown} */ (parts));
  const actions = createActions(app);
  const renderer = createRenderer({
    source,
    manifest,
    store,
    signal: ending.signal,
    say: actions.say,
    images: view.can.images,
  });
  Object.assign(app, { actions, renderer });
  renderer.element.setAttribute(
    "aria-label",
    `Map of ${view.map.rows_now} rows. Arrow keys move, plus and minus zoom, 0 shows everything.`,
  );
  const side = el("aside", { class: "side", "aria-label": "Panels" });
  const stage = el("main", { class: "stage" }, renderer.element);
  fill(root, side, stage);
  if (!link || !placeOfLink(app)) renderer.fitAll();
  // For pages that hold the map, and for those who measure it.
  root.dispatchEvent(new CustomEvent("gnomonic:mounted", { bubbles: true, detail: app }));
  void readLiving(app);
  await firstPoints(app);
  root.dataset.ready = "points";
  const { createInterface } = await import("./interface.js");
  if (ending.signal.aborted) return app;
  createInterface(app, { side, stage });
  if (link) await actions.attempt(stateOfLink(app), "The link cannot be restored");
  if (link) keepInLink(app);
  root.dataset.ready = "all";
  return app;
}

/**
 * Wait until points are on the screen, or for a second: the rest of the page must not hold them up, nor wait for ever.
 *
 * @param {App} app
 * @returns {Promise<void>}
 */
function firstPoints({ renderer, view, signal }) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      stop();
      resolve();
    };
    const timer = setTimeout(done, view.map.rows_now ? FIRST_POINTS_MS : 0);
    const stop = renderer.onFrame(() => {
      if (renderer.stats().drawn > 0) done();
    });
    signal.addEventListener("abort", done);
  });
}

/**
 * Rows that were deleted since the map was made have points in the tiles still, which must not be drawn.
 *
 * @param {App} app
 */
async function readLiving(app) {
  const { store, source, actions, view, manifest, signal } = app;
  if (view.map.rows_now >= manifest.count) return;
  if (!view.map.rows_now) return store.set({ living: new Bits(manifest.count) });
  const living = await actions.attempt(source.filter({}, signal), "Deleted rows cannot be told from others");
  if (signal.aborted) return;
  if (living) return store.set({ living });
  const stop = store.follow(["offline"], ({ offline }) => {
    if (offline) return;
    stop();
    void readLiving(app);
  }, { signal });
}

/**
 * @param {HTMLElement} root
 * @param {Store} store
 * @param {AbortSignal} signal
 */
function followTheme(root, store, signal) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const { theme } = store.state;
    root.dataset.theme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
  };
  dark.addEventListener("change", apply, { signal });
  store.follow(["theme"], apply, { now: true, signal });
}
