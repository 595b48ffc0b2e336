/** The drawer with all there is to know of one row. */

import { el, fill } from "../dom.js";
import { copyText } from "./copying.js";
import { fieldList, neighborList, picturePart, topicPart, trustPart } from "./detail_parts.js";
import { finderOf } from "./finding.js";
import { icon, iconButton } from "./icons.js";
import { onKeys } from "./parts/keys.js";
import { titleOf } from "./row_fields.js";

/**
 * @typedef {import("../types.js").App} App
 * @typedef {import("../types.js").Row} Row
 */

const LONGEST = 1500;
const MOST_HISTORY = 100;
const MARGIN_PX = 40;

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  const { store, signal } = app;
  const body = el("div", { class: "detail-body" });
  const trail = createTrail(app);
  const close = () => void app.actions.focus(null);
  const head = el(
    "div",
    { class: "detail-head" },
    trail.back,
    trail.forward,
    el("span", { class: "detail-what muted" }, "Row"),
    iconButton("close", "Close the details", close, { class: "button icon quiet" }),
  );
  const drawer = el("aside", { class: "detail", "aria-label": "Details of a row", hidden: true }, head, body);
  onKeys(app, (event) => {
    if (event.key !== "Escape" || store.state.focus === null) return;
    event.preventDefault();
    close();
  });
  let asking = new AbortController();
  const show = async (/** @type {number | null} */ position) => {
    asking.abort();
    asking = new AbortController();
    openDrawer(app, drawer, position !== null);
    if (position === null) return fill(body);
    trail.visit(position);
    const mine = asking;
    body.setAttribute("aria-busy", "true");
    if (!body.hasChildNodes()) fill(body, el("p", { class: "muted" }, "Reading the row…"));
    // Once the map has its new size.
    const look = () => !mine.signal.aborted && keepInSight(app, drawer, position);
    requestAnimationFrame(() => requestAnimationFrame(look));
    // Made before the row comes, to hear of the neighbours however soon they do.
    const neighbors = neighborList(app, mine.signal);
    await showRow(app, body, neighbors, position, mine.signal);
    if (!mine.signal.aborted) body.setAttribute("aria-busy", "false");
  };
  store.follow(["focus"], ({ focus }) => void show(focus), { now: true, signal });
  signal.addEventListener("abort", () => asking.abort());
  return drawer;
}

/**
 * @param {App} app
 * @param {HTMLElement} body
 * @param {HTMLElement} neighbors
 * @param {number} position
 * @param {AbortSignal} signal  Aborted when another row is shown.
 */
async function showRow(app, body, neighbors, position, signal) {
  let row;
  try {
    [row] = await app.source.rows([position], { columns: null, longest: LONGEST, signal });
  } catch (error) {
    if (signal.aborted) return;
    const again = () => void showRow(app, body, neighbors, position, signal);
    const message = error instanceof Error ? error.message : String(error);
    fill(
      body,
      el("p", { class: "detail-failed", role: "alert" }, `The row cannot be read: ${message}`),
      el("button", { class: "button", type: "button", "on:click": again }, "Try again"),
    );
    return;
  }
  if (signal.aborted) return;
  if (!row) return fill(body, el("p", {}, "This row was deleted after the map was made."));
  fill(
    body,
    el("h2", { class: "detail-title", dir: "auto" }, titleOf(app.view, row)),
    topicPart(app, position, signal),
    buttons(app, row),
    app.view.can.images && picturePart(app, position, signal),
    fieldList(app, row, signal),
    trustPart(row.trust),
    neighbors,
  );
  body.scrollTop = 0;
}

/** @param {App} app @param {Row} row */
function buttons(app, row) {
  const { actions, root, view } = app;
  const copy = async () => {
    if (await copyText(root, String(row.id))) actions.say("The id was copied.", "success");
    else actions.say(`The browser does not let the page copy. The id is ${row.id}`, "error");
  };
  const like = () => {
    const name = `Like “${titleOf(view, row)}”`;
    void finderOf(app).run("like", { position: row.position }, name);
  };
  const place = () => void actions.focus(row.position, { move: true });
  return el(
    "div",
    { class: "row detail-buttons" },
    el("button", { class: "button", type: "button", "on:click": like }, icon("spark"), "More like this"),
    el("button", { class: "button", type: "button", "on:click": place }, icon("fit"), "Show on map"),
    el("button", { class: "button", type: "button", "on:click": () => void copy() }, "Copy id"),
  );
}

/** Where the reader has been: back and forward. @param {App} app */
function createTrail(app) {
  /** @type {number[]} */
  let visited = [];
  let at = -1;
  const go = (/** @type {number} */ to) => {
    at = to;
    void app.actions.focus(visited[at], { move: true });
  };
  const quiet = { class: "button icon quiet" };
  const back = iconButton("back", "Previous row", () => go(at - 1), quiet);
  const forward = iconButton("forward", "Next row", () => go(at + 1), quiet);
  const visit = (/** @type {number} */ position) => {
    if (visited[at] !== position) {
      visited = [...visited.slice(0, at + 1), position].slice(-MOST_HISTORY);
      at = visited.length - 1;
    }
    back.disabled = at <= 0;
    forward.disabled = at >= visited.length - 1;
  };
  return { back, forward, visit };
}

/**
 * Show or hide the drawer, with every point staying where it is on the screen.
 *
 * @param {App} app
 * @param {HTMLElement} drawer
 * @param {boolean} wanted
 */
function openDrawer({ renderer, root }, drawer, wanted) {
  if (drawer.hidden !== wanted) return;
  const { element } = renderer;
  const [width, height] = [element.clientWidth, element.clientHeight];
  const left = renderer.toPlane(0, height / 2);
  const right = renderer.toPlane(width, height / 2);
  drawer.hidden = !wanted;
  // A view that a link restores was seen beside the drawer, or without it.
  const narrower = (width - element.clientWidth) / 2;
  if (!narrower || !width || root.dataset.ready !== "all") return;
  const [x, y] = [(left[0] + right[0]) / 2, left[1]];
  const scale = width / (right[0] - left[0]);
  if (Number.isFinite(scale)) renderer.moveTo({ x: x - narrower / scale, y, scale }, { animate: false });
}

/**
 * Move the map where the drawer would lie over the point, or has pushed it out.
 *
 * @param {App} app
 * @param {HTMLElement} drawer
 * @param {number} position
 */
function keepInSight({ renderer }, drawer, position) {
  const place = renderer.placeOf(position);
  if (!place) return;
  const { element } = renderer;
  const map = element.getBoundingClientRect();
  const over = drawer.getBoundingClientRect();
  const [x, y] = renderer.toScreen(...place);
  const [left, top] = renderer.toPlane(0, 0);
  const scale = renderer.toScreen(left + 1, top)[0];
  const beside = over.left > map.left + MARGIN_PX;
  const hidden = beside ? x + map.left - (over.left - MARGIN_PX) : y + map.top - (over.top - MARGIN_PX);
  if (hidden <= 0 || hidden > map.width + map.height || !Number.isFinite(scale) || scale <= 0) return;
  const [middleX, middleY] = renderer.toPlane(map.width / 2, map.height / 2);
  const step = hidden / scale;
  const target = beside ? { x: middleX + step, y: middleY } : { x: middleX, y: middleY - step };
  renderer.moveTo(target, { animate: true });
}
