/** Everything of the page with words and buttons; it comes once there are points to look at. */

import { el, fill } from "./dom.js";
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

/** @typedef {import("./types.js").App} App */

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
 * Put everything with buttons around the points.
 *
 * @param {App} app
 * @param {{side: HTMLElement, stage: HTMLElement}} places
 */
export function createInterface(app, { side, stage }) {
  app.root.append(detail.create(app), status.createMessages(app));
  stage.append(
    createLabels(app),
    createSelectTools(app),
    hover.create(app),
    color.create(app),
    status.create(app),
  );
  fill(side, search.create(app), results.create(app), tabs(app));
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
