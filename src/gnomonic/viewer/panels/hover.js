/** The card beside the pointer, and what a click on a point does. */

import { debounced, el, fill, shown } from "../dom.js";
import { IMAGE, TOPIC, cardFieldsOf } from "./card_fields.js";
import { rowCacheOf } from "./row_cache.js";
import { snippetOf, titleOf } from "./row_fields.js";
import { topicsOf } from "./topic_of.js";

/**
 * @typedef {import("../types.js").App} App
 * @typedef {import("../types.js").Row} Row
 * @typedef {{x: number, y: number}} Place
 */

const QUIET_MS = 80;
const STILL_PX = 5;
const GAP_PX = 14;
const LONGEST = 180;

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  const card = el("div", { class: "card floating", hidden: true, role: "tooltip" });
  const rows = rowCacheOf(app);
  const fields = cardFieldsOf(app);
  const wantFields = () => rows.want(fields.chosen.filter((name) => name !== TOPIC && name !== IMAGE));
  fields.follow(wantFields);
  wantFields();
  const pictures = pictureKeeper(app);
  /** @type {{position: number, place: Place} | null} */
  let over = null;
  const show = debounced(async () => {
    if (!over) return;
    const { position } = over;
    const content = await contentOf(app, position, pictures).catch(() => null);
    if (over?.position !== position || app.signal.aborted) return;
    if (!content) return void (card.hidden = true);
    fill(card, content);
    card.hidden = false;
    put(card, over.place);
  }, QUIET_MS);
  const hide = () => {
    over = null;
    card.hidden = true;
  };
  followPointer(app, (position, place) => {
    if (position === null) return hide();
    if (over?.position === position) {
      over.place = place;
      if (!card.hidden) put(card, place);
      return;
    }
    card.hidden = true;
    over = { position, place };
    show();
  });
  app.store.follow(["tool", "camera"], hide, { signal: app.signal });
  // The point below the pointer may not be among those that are shown any more.
  const leave = () => {
    hide();
    app.store.set({ hover: null });
  };
  app.store.follow(["passing", "living"], leave, { signal: app.signal });
  followClicks(app);
  return card;
}

/**
 * Tell which point the pointer is over, at most once a frame.
 *
 * @param {App} app
 * @param {(position: number | null, place: Place) => void} run
 */
function followPointer(app, run) {
  const { renderer, store, signal } = app;
  let frame = 0;
  /** @type {Place} */
  let place = { x: 0, y: 0 };
  const leave = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    if (store.state.hover !== null) store.set({ hover: null });
    run(null, place);
  };
  const look = () => {
    frame = 0;
    const position = renderer.pick(place.x, place.y);
    if (store.state.hover !== position) store.set({ hover: position });
    renderer.element.classList.toggle("over-point", position !== null);
    run(position, place);
  };
  const move = (/** @type {PointerEvent} */ event) => {
    if (event.pointerType === "touch") return;
    if (event.buttons || store.state.tool !== "pan") return leave();
    place = placeIn(renderer.element, event);
    frame ||= requestAnimationFrame(look);
  };
  renderer.element.addEventListener("pointermove", move, { signal });
  renderer.element.addEventListener("pointerleave", leave, { signal });
  renderer.element.addEventListener("pointerdown", leave, { signal });
  signal.addEventListener("abort", leave);
}

/** A click opens a point's details; one beside all points closes them. @param {App} app */
function followClicks(app) {
  const { renderer, store, actions, signal } = app;
  /** @type {Place | null} */
  let down = null;
  const pressed = (/** @type {PointerEvent} */ event) => {
    down = event.isPrimary && event.button === 0 ? { x: event.clientX, y: event.clientY } : null;
  };
  const clicked = (/** @type {MouseEvent} */ event) => {
    // What ended a drag is no click, and a label under the pointer has its own.
    if (!down || event.defaultPrevented || store.state.tool !== "pan") return;
    if (Math.hypot(event.clientX - down.x, event.clientY - down.y) > STILL_PX) return;
    const { x, y } = placeIn(renderer.element, event);
    const touch = event instanceof PointerEvent && event.pointerType === "touch";
    const position = renderer.pick(x, y, touch ? 16 : undefined);
    if (position !== store.state.focus) void actions.focus(position);
  };
  renderer.element.addEventListener("pointerdown", pressed, { signal });
  renderer.element.addEventListener("click", clicked, { signal });
}

/** @param {HTMLElement} element @param {MouseEvent} event @returns {Place} */
function placeIn(element, event) {
  const box = element.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

/**
 * Put the card beside the pointer, where there is room for all of it.
 *
 * @param {HTMLElement} card
 * @param {Place} place
 */
function put(card, { x, y }) {
  const parent = card.offsetParent ?? card.parentElement;
  if (!parent) return;
  const { offsetWidth: width, offsetHeight: height } = card;
  const right = x + GAP_PX + width <= parent.clientWidth;
  const below = y + GAP_PX + height <= parent.clientHeight;
  const left = right ? x + GAP_PX : x - GAP_PX - width;
  const top = below ? y + GAP_PX : y - GAP_PX - height;
  card.style.left = `${clamped(left, parent.clientWidth - width)}px`;
  card.style.top = `${clamped(top, parent.clientHeight - height)}px`;
}

/** @param {number} value @param {number} most */
function clamped(value, most) {
  return Math.max(4, Math.min(value, most - 4));
}

/**
 * @param {App} app
 * @param {number} position
 * @param {(position: number) => Promise<string | null>} pictures
 * @returns {Promise<(Node | false | null)[] | null>}
 */
async function contentOf(app, position, pictures) {
  const { chosen } = cardFieldsOf(app);
  const [row, topics, picture] = await Promise.all([
    rowOf(app, position),
    chosen.includes(TOPIC) ? topicsOf(app, position).catch(() => []) : [],
    chosen.includes(IMAGE) && app.view.can.images ? pictures(position).catch(() => null) : null,
  ]);
  if (!row) return null;
  const { view } = app;
  const snippet = view.text_field !== null && chosen.includes(view.text_field) ? snippetOf(view, row) : null;
  const others = chosen.filter((name) => name in row.values && name !== view.text_field && name !== view.title_field);
  return [
    picture !== null && el("img", { class: "card-image", src: picture, alt: "" }),
    el("p", { class: "card-title", dir: "auto" }, titleOf(view, row)),
    snippet !== null && el("p", { class: "card-text", dir: "auto" }, short(snippet)),
    others.length > 0 && el("dl", { class: "card-values" }, others.flatMap((name) => pair(name, row))),
    topics.length > 0 && el("p", { class: "card-topic", dir: "auto" }, topics[topics.length - 1]),
  ];
}

/** @param {App} app @param {number} position */
async function rowOf(app, position) {
  const rows = rowCacheOf(app);
  const row = rows.peek(position);
  return row === undefined ? (await rows.rows([position]))[0] : row;
}

/** @param {string} name @param {Row} row */
function pair(name, row) {
  return [el("dt", { dir: "auto" }, name), el("dd", { dir: "auto" }, short(shown(row.values[name])))];
}

/** @param {string} text */
function short(text) {
  return text.length > LONGEST ? `${text.slice(0, LONGEST).trimEnd()}…` : text;
}

/**
 * The last pictures that were shown, by address.
 *
 * @param {App} app
 * @returns {(position: number) => Promise<string | null>}
 */
function pictureKeeper({ source, signal }) {
  /** @type {Map<number, string | null>} */
  const kept = new Map();
  const drop = (/** @type {number} */ position) => {
    const address = kept.get(position);
    if (address) URL.revokeObjectURL(address);
    kept.delete(position);
  };
  signal.addEventListener("abort", () => [...kept.keys()].forEach(drop));
  return async (position) => {
    const before = kept.get(position);
    if (before !== undefined) return before;
    const blob = await source.image(position);
    const address = blob && URL.createObjectURL(blob);
    kept.set(position, address);
    if (kept.size > 40) drop([...kept.keys()][0]);
    return address;
  };
}
