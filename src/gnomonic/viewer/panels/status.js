/** What is shown of the map, in numbers; and the messages. */

import { el, fill, whole } from "../dom.js";
import { leftOut, linkOf } from "../link.js";
import { copyText } from "./copying.js";
import { finderOf } from "./finding.js";
import { icon, iconButton } from "./icons.js";
import { onKeys } from "./parts/keys.js";

export { createMessages } from "./messages.js";

/** @typedef {import("../types.js").App} App */

const BUSY_MS = 150;

/**
 * The bar over the map; tools and zoom have a bar of their own beside it.
 *
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  onKeys(app, (event) => {
    if (event.key !== "h" || event.ctrlKey || event.metaKey || event.altKey) return;
    app.store.set({ tool: "pan" });
  });
  const isPage = document.querySelector("meta[name=gnomonic-source]") !== null;
  return el(
    "div",
    { class: "status" },
    busyBar(app),
    el(
      "div",
      { class: "status-bar floating", role: "group", "aria-label": "What is shown" },
      counts(app),
      isPage && linkButton(app),
    ),
  );
}

/** @param {App} app */
function counts(app) {
  const { store, actions, view, signal } = app;
  const shown = el("span", { class: "status-rows number", role: "status" });
  const filters = chip("Clear the filters", () => void actions.filter({}));
  const selection = chip("Clear the selection", () => actions.select(null, ""));
  const heat = chip("Clear the heat", () => store.set({ heat: null, heatQuery: null, heatThreshold: null }));
  store.follow(
    ["passing", "filters"],
    ({ passing }) => {
      const all = view.map.rows_now;
      const count = passing?.count() ?? all;
      const text = passing ? `${whole(count)} of ${rowsText(all)}` : rowsText(all);
      fill(shown, text);
      filters.element.hidden = !passing;
      filters.tell(passing ? "filtered" : "");
    },
    { now: true, signal },
  );
  store.follow(
    ["selection", "selectionName"],
    ({ selection: chosen, selectionName }) => {
      selection.element.hidden = !chosen;
      selection.tell(chosen ? `${whole(chosen.count())} selected` : "");
      selection.element.title = selectionName;
    },
    { now: true, signal },
  );
  store.follow(
    ["heat"],
    ({ heat: there }) => {
      heat.element.hidden = !there;
      heat.tell(there ? "Heat" : "");
    },
    { now: true, signal },
  );
  return [shown, filters.element, selection.element, heat.element];
}

/** @param {number} count */
function rowsText(count) {
  return count === 1 ? "1 row" : `${whole(count)} rows`;
}

/**
 * Something that is set, and a way to take it back.
 *
 * @param {string} label
 * @param {() => void} clear
 */
function chip(label, clear) {
  const text = el("span", { class: "number", role: "status" });
  const button = el(
    "button",
    { class: "status-clear", type: "button", "aria-label": label, title: label, "on:click": clear },
    icon("close"),
  );
  const element = el("span", { class: "status-chip", hidden: true }, text, button);
  return { element, tell: (/** @type {string} */ told) => fill(text, told) };
}

/** @param {App} app */
function linkButton(app) {
  const copy = async () => {
    const hash = linkOf(app);
    const address = `${location.origin}${location.pathname}${location.search}#${hash}`;
    if (!(await copyText(app.root, address))) {
      app.actions.say("The browser does not let the page copy; the address bar has the link.", "error");
      return;
    }
    app.actions.say(`The link to this view was copied.${missing(app, hash)}`, "success");
  };
  return iconButton("link", "Copy a link to this view", () => void copy(), { class: "button icon quiet" });
}

/** What the link does not bring back, in words. @param {App} app @param {string} hash */
function missing(app, hash) {
  const { selection, filters, query } = leftOut(app, hash);
  return [
    selection && " The selection is too large for a link and is not in it; a tag keeps it.",
    filters && " The filters are too large for a link and are not in it.",
    query && ` The ${app.store.state.heatQuery?.image ? "picture that was searched with" : "search"} is not in it.`,
  ]
    .filter(Boolean)
    .join("");
}

/** A line that moves while the server works. @param {App} app */
function busyBar(app) {
  const bar = el("div", { class: "busy", role: "progressbar", "aria-label": "Working", hidden: true });
  const finder = finderOf(app);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const follow = () => {
    clearTimeout(timer);
    const busy = app.store.state.busy || finder.finding.status === "searching";
    // What is over at once would only flicker.
    if (busy) timer = setTimeout(() => void (bar.hidden = false), BUSY_MS);
    else bar.hidden = true;
  };
  app.store.follow(["busy"], follow, { signal: app.signal });
  finder.follow(follow);
  app.signal.addEventListener("abort", () => clearTimeout(timer));
  return bar;
}
