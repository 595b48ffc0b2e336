/** The tools on the map: moving it, and selecting rows by lasso and box. */

import { el } from "../dom.js";
import { onKeys } from "../panels/parts/keys.js";
import { icon, svg } from "../svg.js";
import { simplified } from "./outline.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").State} State */
/** @typedef {[number, number]} Point */

const MOST_CORNERS = 2000;
/** Pixels between corners of a lasso as it is drawn, and how far it may move when it is simplified. */
const STEP = 2;
const SLACK = 0.75;
/** Pixels below which a drag was a slip. */
const SMALLEST = 4;

const TOOLS = /** @type {const} */ ([
  ["pan", "Move the map", "V", "M8 1.5v13M1.5 8h13M6 3.5l2-2 2 2M6 12.5l2 2 2-2M3.5 6l-2 2 2 2M12.5 6l2 2-2 2"],
  [
    "lasso",
    "Lasso: draw around points",
    "L",
    "M5 11C2 10 1.5 7.5 2.5 5.5 4 2.5 9 1.5 12 3s3.5 5 .5 7-6 1.5-7.5 1c-1.5 0-2 1.5-1 2.5s1 1.5 .5 2",
  ],
  ["box", "Box: drag over points", "B", "M2 5V2h3M11 2h3v3M14 11v3h-3M5 14H2v-3M6.5 2h3M6.5 14h3M2 6.5v3M14 6.5v3"],
]);

/**
 * The bar of tools, and what is drawn while one of them is at work.
 *
 * @param {App} app
 * @returns {HTMLElement}
 */
export function createSelectTools(app) {
  const { store, signal } = app;
  const line = svg("path", { class: "outline" });
  const drawing = svg("svg", { class: "drawing", "aria-hidden": "true" }, line);
  const hint = el("p", { class: "tool-hint floating", role: "status", hidden: true });
  const element = el("div", { class: "select-tools" }, toolBar(app), hint);
  element.prepend(drawing);
  const tool = new DrawingTool(app, line);
  tool.start();
  store.follow(
    ["tool"],
    ({ tool: chosen }) => {
      app.renderer.element.classList.toggle("crosshair", chosen !== "pan");
      hint.hidden = chosen === "pan";
      hint.textContent =
        chosen === "lasso"
          ? "Draw around points. Shift adds to the selection, Alt removes, Escape cancels."
          : "Drag a box over points. Shift adds to the selection, Alt removes, Escape cancels.";
    },
    { now: true, signal },
  );
  onKeys(app, (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const chosen = TOOLS.find(([, , key]) => key === event.key.toUpperCase());
    if (chosen) store.set({ tool: chosen[0] });
  });
  return element;
}

/** @param {App} app */
function toolBar({ store, renderer, signal }) {
  const zoom = (/** @type {number} */ times) => {
    const scale = store.state.camera?.scale;
    if (scale) renderer.moveTo({ scale: scale * times }, { animate: true });
  };
  const button = (/** @type {string} */ name, /** @type {string} */ path, /** @type {() => void} */ run, more = "") =>
    el(
      "button",
      { type: "button", class: `button icon ${more}`.trim(), title: name, "aria-label": name, "on:click": run },
      icon(path),
    );
  const tools = TOOLS.map(([name, title, key, path]) => {
    const made = button(`${title} (${key})`, path, () => store.set({ tool: store.state.tool === name ? "pan" : name }));
    made.dataset.tool = name;
    return made;
  });
  store.follow(
    ["tool"],
    (state) => {
      for (const made of tools) made.setAttribute("aria-pressed", String(state.tool === made.dataset.tool));
    },
    { now: true, signal },
  );
  return el(
    "div",
    { class: "tool-bar floating", role: "toolbar", "aria-label": "Tools", "aria-orientation": "vertical" },
    ...tools,
    el("hr", { "aria-hidden": "true" }),
    button("Zoom in (+)", "M8 3v10M3 8h10", () => zoom(2), "zooms"),
    button("Zoom out (−)", "M3 8h10", () => zoom(0.5), "zooms"),
    button("Show everything (0)", "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10", () => renderer.fitAll()),
  );
}

/** Draws while a button is down; corners are kept in the plane, so the map may move below. */
class DrawingTool {
  /** @type {number | null} */
  #pointer = null;
  /** @type {Point[]} */
  #corners = [];
  /** @type {Point} */
  #last = [0, 0];

  /**
   * @param {App} app
   * @param {SVGPathElement} line
   */
  constructor(app, line) {
    this.app = app;
    this.line = line;
    this.map = app.renderer.element;
  }

  start() {
    const { app, map } = this;
    const { signal } = app;
    // Before the renderer hears of it: what starts here is not a move of the map.
    const early = { capture: true, signal };
    map.addEventListener("pointerdown", (event) => this.#begin(event), early);
    map.addEventListener("pointermove", (event) => this.#extend(event), early);
    map.addEventListener("pointerup", (event) => this.#end(event), early);
    map.addEventListener("pointercancel", () => this.#cancel(), early);
    map.addEventListener("click", (event) => this.#swallow(event), early);
    signal.addEventListener(
      "abort",
      app.renderer.onFrame(() => this.#draw()),
    );
    onKeys(app, (event) => {
      if (event.key !== "Escape" || app.store.state.tool === "pan") return;
      event.preventDefault();
      if (this.#pointer === null) app.store.set({ tool: "pan" });
      this.#cancel();
    });
    app.store.follow(["tool"], () => this.#cancel(), { signal });
  }

  #drew = false;

  /** @param {PointerEvent} event */
  #begin(event) {
    this.#drew = false;
    if (this.app.store.state.tool === "pan" || event.button !== 0) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    // A second finger means the map; the first one's line is given up.
    if (this.#pointer !== null) {
      this.#cancel();
      return;
    }
    this.#pointer = event.pointerId;
    this.#drew = true;
    this.map.focus({ preventScroll: true });
    try {
      this.map.setPointerCapture(event.pointerId);
    } catch {
      // A pointer that is gone already draws nothing further.
    }
    this.#last = this.#placeOf(event);
    this.#corners = [this.app.renderer.toPlane(...this.#last)];
  }

  /** @param {PointerEvent} event */
  #extend(event) {
    if (event.pointerId !== this.#pointer) return;
    event.stopImmediatePropagation();
    const { tool } = this.app.store.state;
    const moved = event.getCoalescedEvents?.() ?? [];
    for (const one of tool === "lasso" && moved.length ? moved : [event]) {
      const place = this.#placeOf(one);
      if (tool === "lasso" && Math.hypot(place[0] - this.#last[0], place[1] - this.#last[1]) < STEP) continue;
      this.#last = place;
      const corner = this.app.renderer.toPlane(...place);
      if (tool === "box") this.#corners = [this.#corners[0], corner];
      else this.#corners.push(corner);
    }
    this.line.classList.toggle("removes", event.altKey);
    this.#draw();
  }

  /** @param {PointerEvent} event */
  #end(event) {
    if (event.pointerId !== this.#pointer) return;
    event.stopImmediatePropagation();
    const { app } = this;
    const { tool } = app.store.state;
    const corners = this.#corners;
    const screen = corners.map(([x, y]) => app.renderer.toScreen(x, y));
    this.#cancel();
    if (spanOf(screen) < SMALLEST) return;
    const combine = event.altKey ? "remove" : event.shiftKey ? "add" : "new";
    app.store.set({ tool: "pan" });
    if (tool === "box") {
      app.actions.selectWhere({ box: boxOf(corners) }, "box", combine);
      return;
    }
    // Simplified in pixels, which is what the hand drew in.
    const polygon = simplified(screen, MOST_CORNERS, SLACK).map(([x, y]) => app.renderer.toPlane(x, y));
    if (polygon.length > 2) app.actions.selectWhere({ polygon }, "lasso", combine);
  }

  #cancel() {
    if (this.#pointer !== null && this.map.hasPointerCapture(this.#pointer)) {
      this.map.releasePointerCapture(this.#pointer);
    }
    this.#pointer = null;
    this.#corners = [];
    this.#draw();
  }

  /** The click that follows a drawn line means nothing more. @param {Event} event */
  #swallow(event) {
    if (!this.#drew) return;
    this.#drew = false;
    event.stopImmediatePropagation();
  }

  #draw() {
    const corners = this.#corners.map(([x, y]) => this.app.renderer.toScreen(x, y));
    if (this.app.store.state.tool === "box" && corners.length === 2) {
      const [[ax, ay], [bx, by]] = corners;
      this.line.setAttribute("d", `M${ax} ${ay}H${bx}V${by}H${ax}Z`);
      return;
    }
    const told = corners.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`);
    this.line.setAttribute("d", told.length > 1 ? `M${told.join("L")}Z` : "");
  }

  /**
   * @param {PointerEvent} event
   * @returns {Point}
   */
  #placeOf(event) {
    const { left, top } = this.map.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }
}

/** The longer side of what points cover. @param {Point[]} points */
function spanOf(points) {
  const [x0, y0, x1, y1] = boxOf(points);
  return Math.max(x1 - x0, y1 - y0);
}

/**
 * @param {Point[]} points
 * @returns {[number, number, number, number]}
 */
function boxOf(points) {
  const box = /** @type {[number, number, number, number]} */ ([Infinity, Infinity, -Infinity, -Infinity]);
  for (const [x, y] of points) {
    box[0] = Math.min(box[0], x);
    box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x);
    box[3] = Math.max(box[3], y);
  }
  return box;
}
