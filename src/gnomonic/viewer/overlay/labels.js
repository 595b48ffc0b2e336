/** Names of topics over the points: chosen by zoom and room, moved with the map, clicked to select. */

import { el } from "../dom.js";
import { afterPoints } from "../panels/parts/opening.js";
import { THEMES, cssOf } from "../render/palette.js";
import { createLabelTexts } from "./label_text.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Label} Label */
/** @typedef {import("./label_text.js").LabelText} LabelText */
/** @typedef {{label: Label, text: LabelText, node: HTMLButtonElement, leaving: number}} Shown */
/** @typedef {{x0: number, y0: number, x1: number, y1: number}} Box */

const MOST_NODES = 80;
const CHOOSE_MS = 120;
const FADE_MS = 180;
const GAP_X = 8;
const GAP_Y = 3;
/** Pixels that a pointer may move during a click. */
const CLICK_SLACK = 5;

/** @type {WeakMap<App, LabelLayer>} */
const layers = new WeakMap();

/**
 * The names' layer, which lies over the renderer.
 *
 * @param {App} app
 * @returns {HTMLElement}
 */
export function createLabels(app) {
  const layer = new LabelLayer(app);
  layers.set(app, layer);
  layer.start();
  return layer.element;
}

/**
 * Draw the names that are on the screen into a picture of it.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {App} app
 * @param {number} scale  Pixels of the picture a CSS pixel.
 */
export function drawLabels(context, app, scale) {
  layers.get(app)?.draw(context, scale);
}

/**
 * What names are drawn with: the map has a ground of its own, which the panels around it need not share.
 *
 * @param {App} app
 * @returns {{ground: string, ink: string}}
 */
export function mapColors({ root }) {
  const theme = THEMES[root.dataset.theme === "dark" ? "dark" : "light"];
  return { ground: cssOf(theme.background), ink: theme.ink };
}

class LabelLayer {
  /** @type {Label[]} */
  #labels = [];
  /** @type {Map<number, Shown>} */
  #shown = new Map();
  /** @type {HTMLButtonElement[]} */
  #spare = [];
  #chosenAt = 0;
  /** Whether the names could not be had. */
  #missing = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #later;

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.element = el("div", { class: "labels", role: "group", "aria-label": "Names of topics" });
    this.texts = createLabelTexts(getComputedStyle(app.root).fontFamily || "sans-serif");
  }

  start() {
    const { app } = this;
    const { store, renderer, signal } = app;
    signal.addEventListener(
      "abort",
      renderer.onFrame(() => this.#follow()),
    );
    signal.addEventListener("abort", () => clearTimeout(this.#later));
    store.follow(["showLabels"], () => this.#choose(), { signal });
    const watch = new MutationObserver(() => this.#recolor());
    watch.observe(app.root, { attributeFilter: ["data-theme"] });
    signal.addEventListener("abort", () => watch.disconnect());
    this.#recolor();
    store.follow(["tool"], (state) => this.element.classList.toggle("through", state.tool !== "pan"), { signal });
    this.element.addEventListener("click", (event) => this.#select(event), { signal });
    handOver(this.element, renderer.element, signal);
    // Names come after the points; a map without them is still a map.
    const read = async () => {
      const labels = await app.actions.attempt(app.source.labels(), "Names of topics cannot be read");
      this.#missing = labels === null;
      this.#labels = labels ?? [];
      this.#choose();
    };
    afterPoints(app).then(read);
    store.follow(["offline"], ({ offline }) => void (!offline && this.#missing && read()), { signal });
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} scale
   */
  draw(context, scale) {
    if (!this.app.store.state.showLabels) return;
    const { ground, ink } = mapColors(this.app);
    const place = placing(this.app);
    context.save();
    context.scale(scale, scale);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 4;
    context.strokeStyle = ground;
    context.fillStyle = ink;
    for (const { label, text, leaving } of this.#shown.values()) {
      if (leaving) continue;
      const [x, y] = place(label.x, label.y);
      context.font = text.font;
      context.direction = text.rtl ? "rtl" : "ltr";
      for (const [at, line] of text.lines.entries()) {
        const middle = y + (at - (text.lines.length - 1) / 2) * (text.height / text.lines.length);
        context.strokeText(line, x, middle);
        context.fillText(line, x, middle);
      }
    }
    context.restore();
  }

  #recolor() {
    const { ground, ink } = mapColors(this.app);
    this.element.style.setProperty("--halo", ground);
    this.element.style.setProperty("--ink", ink);
  }

  /** Moves what is shown with the map at once; which names are shown is decided a few times a second. */
  #follow() {
    const place = placing(this.app);
    for (const shown of this.#shown.values()) move(shown, place);
    clearTimeout(this.#later);
    const wait = this.#chosenAt + CHOOSE_MS - performance.now();
    if (wait <= 0) this.#choose();
    else this.#later = setTimeout(() => this.#choose(), wait);
  }

  #choose() {
    this.#chosenAt = performance.now();
    const { app } = this;
    const place = placing(app);
    const chosen = app.store.state.showLabels ? roomFor(this.#labels, app, place, this.texts) : new Map();
    for (const [topic, shown] of this.#shown) if (!chosen.has(topic)) this.#leave(topic, shown);
    for (const [topic, { label, text }] of chosen) {
      const there = this.#shown.get(topic);
      if (there) {
        clearTimeout(there.leaving);
        there.leaving = 0;
        there.node.classList.remove("leaving");
      } else if (this.#shown.size < MOST_NODES) {
        this.#enter(label, text, place);
      }
    }
  }

  /**
   * @param {Label} label
   * @param {LabelText} text
   * @param {(x: number, y: number) => [number, number]} place
   */
  #enter(label, text, place) {
    const node = this.#spare.pop() ?? el("button", { type: "button", tabindex: "-1" });
    node.className = `label depth-${Math.min(label.depth, 3)} entering`;
    node.dir = text.rtl ? "rtl" : "ltr";
    node.textContent = text.lines.join("\n");
    node.title = text.lines.join(" ") === label.name ? "" : label.name;
    node.dataset.topic = String(label.topic);
    node.setAttribute("aria-label", `Select the topic ${label.name}, ${label.count} rows`);
    const shown = { label, text, node, leaving: 0 };
    move(shown, place);
    this.#shown.set(label.topic, shown);
    this.element.append(node);
    requestAnimationFrame(() => node.classList.remove("entering"));
  }

  /**
   * @param {number} topic
   * @param {Shown} shown
   */
  #leave(topic, shown) {
    if (shown.leaving) return;
    shown.node.classList.add("leaving");
    shown.leaving = window.setTimeout(() => {
      shown.node.remove();
      this.#shown.delete(topic);
      this.#spare.push(shown.node);
    }, FADE_MS);
  }

  /** @param {MouseEvent} event */
  #select(event) {
    const node = event.target instanceof Element ? event.target.closest("button") : null;
    const shown = node && this.#shown.get(Number(node.dataset.topic));
    if (!shown) return;
    event.stopPropagation();
    const combine = event.shiftKey ? "add" : event.altKey ? "remove" : "new";
    this.app.actions.selectWhere({ topics: [shown.label.topic] }, shown.label.name, combine);
  }
}

/**
 * From the plane to the screen, as a sum and a product: asking the renderer for each of thousands would take longer.
 *
 * @param {App} app
 * @returns {(x: number, y: number) => [number, number]}
 */
function placing({ renderer, manifest }) {
  const { x, y, size } = manifest.extent;
  const [left, bottom] = renderer.toScreen(x, y);
  const [right, top] = renderer.toScreen(x + size, y + size);
  return (px, py) => [left + ((px - x) / size) * (right - left), bottom + ((py - y) / size) * (top - bottom)];
}

/**
 * @param {Shown} shown
 * @param {(x: number, y: number) => [number, number]} place
 */
function move({ label, text, node }, place) {
  const [x, y] = place(label.x, label.y);
  node.style.transform = `translate(${(x - text.width / 2).toFixed(1)}px, ${(y - text.height / 2).toFixed(1)}px)`;
}

/**
 * The names that are shown: in order of their priority, those in view that lie over no earlier one.
 *
 * @param {Label[]} labels
 * @param {App} app
 * @param {(x: number, y: number) => [number, number]} place
 * @param {(name: string, depth: number) => LabelText} texts
 * @returns {Map<number, {label: Label, text: LabelText}>}
 */
function roomFor(labels, app, place, texts) {
  const width = app.renderer.element.clientWidth;
  const height = app.renderer.element.clientHeight;
  // Further out than the whole map the coarsest are still of use; the check below sorts out the rest.
  const zoom = Math.max(0, app.renderer.zoom());
  /** @type {Box[]} */
  const taken = [];
  const chosen = new Map();
  for (const label of labels) {
    if (label.zoom > zoom) continue;
    const [x, y] = place(label.x, label.y);
    if (x < 0 || y < 0 || x > width || y > height) continue;
    const text = texts(label.name, label.depth);
    const half = text.width / 2 + GAP_X / 2;
    const tall = text.height / 2 + GAP_Y / 2;
    const box = { x0: x - half, y0: y - tall, x1: x + half, y1: y + tall };
    if (taken.some((other) => box.x0 < other.x1 && other.x0 < box.x1 && box.y0 < other.y1 && other.y0 < box.y1))
      continue;
    taken.push(box);
    chosen.set(label.topic, { label, text });
    if (chosen.size >= MOST_NODES) break;
  }
  return chosen;
}

/**
 * What is not a click on a name is the map's: wheels at once, and a press as soon as it turns into a drag.
 *
 * @param {HTMLElement} layer
 * @param {HTMLElement} map
 * @param {AbortSignal} signal
 */
function handOver(layer, map, signal) {
  /** @type {PointerEvent | null} */
  let pressed = null;
  layer.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      map.dispatchEvent(new WheelEvent("wheel", event));
    },
    { passive: false, signal },
  );
  layer.addEventListener("pointerdown", (event) => (pressed = event.button === 0 ? event : null), { signal });
  layer.addEventListener(
    "pointermove",
    (event) => {
      if (!pressed || pressed.pointerId !== event.pointerId) return;
      if (Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) < CLICK_SLACK) return;
      map.dispatchEvent(new PointerEvent("pointerdown", pressed));
      map.setPointerCapture(pressed.pointerId);
      pressed = null;
    },
    { signal },
  );
  for (const end of /** @type {const} */ (["pointerup", "pointercancel"])) {
    layer.addEventListener(end, () => (pressed = null), { signal });
  }
}
