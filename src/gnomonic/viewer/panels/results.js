/** What a search found, best first. */

import { Bits } from "../bits.js";
import { el, fill, shown } from "../dom.js";
import { finderOf } from "./finding.js";
import { iconButton } from "./icons.js";
import { rowCacheOf } from "./row_cache.js";
import { snippetOf, titleOf } from "./row_fields.js";

/**
 * @typedef {import("../types.js").App} App
 * @typedef {import("../types.js").Hit} Hit
 */

const ROWS_A_PAGE = 20;

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  const { store, signal } = app;
  const title = el("h2", { class: "results-title" });
  const tools = el("div", { class: "results-tools" });
  const list = el("ol", { class: "results-list" });
  const state = el("div", { class: "results-state", role: "status" });
  const body = el("div", { class: "results-body" }, state, list);
  const section = el(
    "section",
    { class: "results", "aria-label": "Results", hidden: true },
    el("div", { class: "results-head" }, title, tools),
    body,
  );
  list.addEventListener("keydown", (event) => moveInList(event, list));
  const finder = finderOf(app);
  /** @type {IntersectionObserver | null} */
  let watching = null;
  const draw = () => {
    const { hits, hitsName } = store.state;
    const { status } = finder.finding;
    watching?.disconnect();
    section.hidden = status === "idle" && !hits.length;
    fill(title, status === "done" ? counted(hits.length) : "", el("span", { class: "results-name muted" }, hitsName));
    fill(tools, hits.length > 0 && toolsOf(app));
    fill(state, stateOf(app, hits));
    state.hidden = !state.hasChildNodes();
    const items = hits.map((hit, i) => itemOf(app, hit, i));
    fill(list, items);
    list.hidden = !hits.length;
    body.scrollTop = 0;
    watching = loadAsSeen(app, hits, items);
    markFocus();
  };
  const markFocus = () => {
    for (const item of list.children) {
      const here = item instanceof HTMLElement && Number(item.dataset.position) === store.state.focus;
      if (here) item.setAttribute("aria-current", "true");
      else item.removeAttribute("aria-current");
    }
  };
  finder.follow(draw);
  store.follow(["hits"], draw, { signal });
  store.follow(["focus"], markFocus, { signal });
  return section;
}

/** @param {number} count */
function counted(count) {
  return count === 1 ? "1 row " : count ? `${count} rows ` : "";
}

/** @param {App} app */
function toolsOf(app) {
  const { store, manifest, actions } = app;
  const select = () => {
    const { hits, hitsName } = store.state;
    actions.select(
      Bits.of(
        manifest.count,
        hits.map((hit) => hit.position),
      ),
      hitsName,
    );
  };
  return [
    el("button", { class: "button small", type: "button", "on:click": select }, "Select"),
    iconButton("close", "Close the results", () => finderOf(app).clear(), { class: "button icon small" }),
  ];
}

/** @param {App} app @param {Hit[]} hits */
function stateOf(app, hits) {
  const { status, message } = finderOf(app).finding;
  if (status === "searching") return [el("div", { class: "results-wait", "aria-hidden": "true" }), "Searching…"];
  if (status === "failed") return el("p", { class: "results-failed", role: "alert" }, `The search failed: ${message}`);
  if (status !== "done" || hits.length) return null;
  const { passing } = app.store.state;
  return el(
    "p",
    {},
    "Nothing found.",
    passing && finderOf(app).withinFilters ? " Only rows that pass the filters were searched." : "",
  );
}

/**
 * @param {App} app
 * @param {Hit} hit
 * @param {number} i
 */
function itemOf(app, hit, i) {
  const { store, actions } = app;
  const button = el(
    "button",
    {
      class: "hit",
      type: "button",
      tabindex: i ? "-1" : "0",
      "on:click": () => void actions.focus(hit.position, { move: true }),
      "on:focus": () => store.set({ hover: hit.position }),
      "on:blur": () => store.set({ hover: null }),
    },
    el("span", { class: "hit-title muted" }, "…"),
  );
  const item = el("li", { "data-position": hit.position }, button);
  item.addEventListener("pointerenter", () => store.set({ hover: hit.position }));
  item.addEventListener("pointerleave", () => store.set({ hover: null }));
  return item;
}

/**
 * Ask for rows by the page, as they come into view.
 *
 * @param {App} app
 * @param {Hit[]} hits
 * @param {HTMLElement[]} items
 */
function loadAsSeen(app, hits, items) {
  /** @type {Set<number>} */
  const asked = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      const page = Math.floor(items.indexOf(/** @type {HTMLElement} */ (target)) / ROWS_A_PAGE);
      if (!isIntersecting || asked.has(page)) continue;
      asked.add(page);
      void loadPage(app, hits, items, page * ROWS_A_PAGE);
    }
  });
  for (const item of items) observer.observe(item);
  app.signal.addEventListener("abort", () => observer.disconnect());
  return observer;
}

/**
 * @param {App} app
 * @param {Hit[]} hits
 * @param {HTMLElement[]} items
 * @param {number} begin
 */
async function loadPage(app, hits, items, begin) {
  const some = hits.slice(begin, begin + ROWS_A_PAGE);
  const rows = await app.actions.attempt(
    rowCacheOf(app).rows(some.map((hit) => hit.position)),
    "Rows of the results cannot be read",
  );
  some.forEach((hit, i) => {
    const button = items[begin + i].firstElementChild;
    if (button) fillItem(app, button, hit, rows && rows[i]);
  });
}

/**
 * @param {App} app
 * @param {Element} button
 * @param {Hit} hit
 * @param {import("../types.js").Row | null} row
 */
function fillItem(app, button, hit, row) {
  if (!row) {
    fill(button, el("span", { class: "hit-title muted" }, "This row is not there any more"));
    return;
  }
  const snippet = snippetOf(app.view, row);
  fill(
    button,
    el("span", { class: "hit-title", dir: "auto" }, titleOf(app.view, row)),
    Number.isFinite(hit.score) && el("span", { class: "hit-score number", title: "Score" }, shown(short(hit.score))),
    snippet !== null && el("span", { class: "hit-text muted", dir: "auto" }, snippet.slice(0, 240)),
  );
}

/** @param {number} score */
function short(score) {
  return Number(score.toPrecision(3));
}

/** Up and down, first and last. @param {KeyboardEvent} event @param {HTMLElement} list */
function moveInList(event, list) {
  const stops = /** @type {HTMLElement[]} */ ([...list.querySelectorAll("button.hit")]);
  const at = stops.findIndex((stop) => stop === event.target);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: stops.length - 1 }[event.key];
  if (at < 0 || to === undefined || !stops[to]) return;
  event.preventDefault();
  stops[at].tabIndex = -1;
  stops[to].tabIndex = 0;
  stops[to].focus();
}
