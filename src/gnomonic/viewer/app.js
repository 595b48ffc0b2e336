/** Puts the parts of a map's page together. */

import { createActions } from "./actions.js";
import { Bits } from "./bits.js";
import { el, fill } from "./dom.js";
import { createRenderer } from "./render/renderer.js";
import { Store, firstState } from "./store.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./data/open_map.js").Opened} Opened */

const FIRST_POINTS_MS = 1000;
/** How long a style sheet may keep the panels waiting. */
const STYLES_MS = 2000;

/**
 * Show a map in an element.
 *
 * @param {HTMLElement} root
 * @param {(onReach: (reached: boolean) => void, signal: AbortSignal) => Promise<Opened>} open  Tells from then on
 *   whether the map's source answers, until the signal.
 * @param {{own?: boolean, signal?: AbortSignal}} [options]  `own`: the page is the map's own, so that its address keeps
 *   the view.
 * @returns {Promise<App>}
 */
export async function mount(root, open, { own = false, signal } = {}) {
  const ending = new AbortController();
  signal?.addEventListener("abort", () => ending.abort());
  const store = new Store(firstState());
  root.classList.add("gnomonic");
  followTheme(root, store, ending.signal);
  const onReach = (/** @type {boolean} */ reached) => {
    if (store.state.offline === reached) store.set({ offline: !reached });
  };
  // Points first: what the panels want is asked for once the first of them are on the screen.
  const { source, manifest, view, columns } = await open(onReach, ending.signal);
  const parts = { root, store, source, manifest, view, signal: ending.signal };
  const app = /** @type {App} */ (/** @type {unknown} */ (parts));
  const actions = createActions(app);
  const renderer = createRenderer({
    source,
    manifest,
    columns,
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
  const linked = own && location.hash.length > 1 ? await import("./link.js") : null;
  if (!linked?.placeOfLink(app)) renderer.fitAll();
  // For pages that hold the map, and for those who measure it.
  root.dispatchEvent(new CustomEvent("gnomonic:mounted", { bubbles: true, detail: app }));
  void readLiving(app);
  await firstPoints(app);
  root.dataset.ready = "points";
  const [{ createInterface }, linking] = await Promise.all([
    import("./interface.js"),
    own ? import("./link.js") : null,
    own && laterStyles(),
  ]);
  if (ending.signal.aborted) return app;
  createInterface(app, { side, stage });
  if (linking) await actions.attempt(linking.stateOfLink(app), "The link cannot be restored");
  linking?.keepInLink(app);
  root.dataset.ready = "all";
  return app;
}

/**
 * Wait until points are on the screen, or for a second: the rest of the page must not hold them up, nor wait for ever.
 *
 * @param {App} app
 * @returns {Promise<void>}
 */
function firstPoints({ renderer, signal }) {
  return new Promise((resolve) => {
    setTimeout(resolve, FIRST_POINTS_MS);
    signal.addEventListener("abort", () => resolve());
    void renderer.begun.then(resolve);
  });
}

/** Use the style sheets that the first points can do without, which were fetched after what those need. */
async function laterStyles() {
  /** @type {NodeListOf<HTMLLinkElement>} */
  const later = document.querySelectorAll('link[rel="stylesheet"][media="not all"]');
  await Promise.all([...later].map((sheet) => new Promise((resolve) => {
    // One that could not be had tells nothing any more.
    setTimeout(resolve, sheet.sheet ? 0 : STYLES_MS);
    sheet.addEventListener("load", resolve);
    sheet.media = "all";
  })));
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
