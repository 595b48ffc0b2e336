/** Puts the parts of a map's page together. */

import { createActions } from "./actions.js";
import { el, fill } from "./dom.js";
import { keepInLink, stateOfLink } from "./link.js";
import { createLabels } from "./overlay/labels.js";
import { createSelectTools } from "./overlay/select_tools.js";
import * as color from "./panels/color.js";
import * as detail from "./panels/detail.js";
import * as duplicates from "./panels/duplicates.js";
import * as exporting from "./panels/exporting.js";
import * as filters from "./panels/filters.js";
import * as hover from "./panels/hover.js";
import * as info from "./panels/info.js";
import * as results from "./panels/results.js";
import * as search from "./panels/search.js";
import * as selection from "./panels/selection.js";
import * as status from "./panels/status.js";
import * as tags from "./panels/tags.js";
import * as topics from "./panels/topics.js";
import { createRenderer } from "./render/renderer.js";
import { Store, firstState } from "./store.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Source} Source */

const PANELS = /** @type {const} */ ([
  ["topics", "Topics", topics],
  ["filters", "Filters", filters],
  ["selection", "Selection", selection],
  ["tags", "Tags", tags],
  ["duplicates", "Duplicates", duplicates],
  ["export", "Export", exporting],
  ["info", "About", info],
]);

/**
 * Show a map in an element.
 *
 * @param {HTMLElement} root
 * @param {(app: {root: HTMLElement, onReach: (reached: boolean) => void}) => Promise<Source>} open  Opens the source.
 * @param {{link?: boolean, signal?: AbortSignal}} [options]  `link`: keep the view in the page's address.
 * @returns {Promise<App>}
 */
export async function mount(root, open, { link = false, signal } = {}) {
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
  const [manifest, view] = await Promise.all([source.manifest(), source.view()]);
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
  fill(root, layout(app));
  root.dataset.ready = "points";
  // For pages that hold the map, and for those who measure it.
  root.dispatchEvent(new CustomEvent("gnomonic:mounted", { bubbles: true, detail: app }));
  if (link) await stateOfLink(app);
  else renderer.fitAll();
  if (link) keepInLink(app);
  root.dataset.ready = "all";
  return app;
}

/** @param {App} app */
function layout(app) {
  const stage = el(
    "main",
    { class: "stage" },
    app.renderer.element,
    createLabels(app),
    createSelectTools(app),
    hover.create(app),
    color.create(app),
    status.create(app),
  );
  const parts = [search.create(app), results.create(app), tabs(app)];
  const side = el("aside", { class: "side", "aria-label": "Panels" }, parts);
  return [side, stage, detail.create(app), status.createMessages(app)];
}

/** The side panels, one at a time. @param {App} app */
function tabs(app) {
  const { store, signal } = app;
  const made = PANELS.map(([name, title, part]) => {
    const panel = el(
      "section",
      { class: "panel", id: `panel-${name}`, role: "tabpanel", "aria-labelledby": `tab-${name}`, tabindex: "-1" },
      part.create(app),
    );
    const open = () => store.set({ panel: store.state.panel === name ? null : name });
    const tab = el("button", { class: "tab", id: `tab-${name}`, role: "tab", "aria-controls": `panel-${name}` }, title);
    tab.addEventListener("click", open);
    return { name, tab, panel };
  });
  const list = el("div", { class: "tabs", role: "tablist", "aria-label": "Panels" }, ...made.map((one) => one.tab));
  list.addEventListener("keydown", (event) => moveAmong(event, made.map((one) => one.tab)));
  store.follow(
    ["panel"],
    (state) => {
      for (const { name, tab, panel } of made) {
        tab.setAttribute("aria-selected", String(state.panel === name));
        panel.hidden = state.panel !== name;
      }
    },
    { now: true, signal },
  );
  return el("div", { class: "tabbed" }, list, ...made.map((one) => one.panel));
}

/**
 * Arrow keys move among tabs.
 *
 * @param {KeyboardEvent} event
 * @param {HTMLElement[]} stops
 */
function moveAmong(event, stops) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const at = stops.findIndex((stop) => stop === event.target);
  if (step === undefined || at < 0) return;
  event.preventDefault();
  stops[(at + step + stops.length) % stops.length].focus();
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
