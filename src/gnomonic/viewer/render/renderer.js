/** The map on screen: points of tiles drawn with WebGL2, moved by hand, marked where the page speaks of them. */

import { debounced, el } from "../dom.js";
import { Camera } from "./camera.js";
import { channelOf, coloringOf, legendOf } from "./coloring.js";
import { Frames } from "./frames.js";
import { listen } from "./gestures.js";
import { NoWebGL, contextOf } from "./gl.js";
import { cssOf, THEMES } from "./palette.js";
import { nearest } from "./passes.js";
import { Scene } from "./scene.js";
import { pointLook } from "./spread.js";
import { TileStream, TileTree, pointOf } from "./tiles.js";

export { NoWebGL };

/** @typedef {import("../data/columns.js").Columns} Columns */
/** @typedef {import("../types.js").Camera} Place */
/** @typedef {import("../types.js").Manifest} Manifest */
/** @typedef {import("../types.js").Renderer} Renderer */
/** @typedef {import("../types.js").Source} Source */
/** @typedef {import("../store.js").Store} Store */
/**
 * @typedef {object} RendererOptions
 * @property {Source} source
 * @property {Manifest} manifest
 * @property {Store} store
 * @property {AbortSignal} signal
 * @property {(text: string, kind?: "info" | "error") => void} say
 * @property {boolean} [images]  The map has thumbnails.
 * @property {Columns} columns
 */

const MOST_PLACES = 5000;
/** CSS pixels between points, mostly, from which there are thumbnails. */
const APART = 16;

/**
 * Make the map.
 *
 * @param {RendererOptions} options
 * @returns {Renderer}
 */
export function createRenderer(options) {
  return new MapRenderer(options);
}

/** A canvas that fills what it is in. */
function layer() {
  const canvas = el("canvas", { "aria-hidden": "true" });
  Object.assign(canvas.style, { position: "absolute", inset: "0", width: "100%", height: "100%" });
  return canvas;
}

/** @implements {Renderer} */
class MapRenderer {
  /** @type {Set<() => void>} */
  #frameListeners = new Set();
  /** @type {Set<() => void>} */
  #colorListeners = new Set();
  /** @type {Place | null} The camera that the store has from here. */
  #told = null;
  /** @type {Map<number, [number, number]>} Places of points whose tiles may be gone again. */
  #places = new Map();
  /** @type {Set<number>} */
  #looking = new Set();
  #ended = new AbortController();
  /** @type {typeof import("./lines.js").drawMarks | null} */
  #drawMarks = null;
  /** @type {{key: string, told: ReturnType<typeof coloringOf>}} */
  #coloring = { key: "", told: coloringOf(channelOf(), "light") };
  #dark = matchMedia("(prefers-color-scheme: dark)");

  /** @param {RendererOptions} options */
  constructor({ source, manifest, store, signal, say, images = false, columns }) {
    this.store = store;
    this.signal = this.#ended.signal;
    signal.addEventListener("abort", () => this.destroy(), { signal: this.signal });
    this.canvas = layer();
    // An empty one would be black.
    this.canvas.style.visibility = "hidden";
    this.above = layer();
    this.above.style.pointerEvents = "none";
    this.context = this.above.getContext("2d");
    this.element = el("div", { class: "map", tabindex: 0, role: "application", "aria-label": "Map" });
    this.element.append(this.canvas, this.above);
    Object.assign(this.element.style, { touchAction: "none", overflow: "hidden" });
    const gl = contextOf(this.canvas);
    this.tree = new TileTree(manifest);
    this.camera = new Camera(manifest.extent, this.tree.deepest, () => this.#moved());
    this.scene = new Scene({
      tree: this.tree, columns, signal: this.signal, say,
      changed: () => this.frames?.news(),
      recolored: () => this.#recolored(),
    });
    this.stream = new TileStream({
      source, signal: this.signal, say,
      asked: (node) => this.scene.ask(node),
      came: () => this.frames?.news(),
      dropped: (node) => this.#dropped(node),
    });
    /** @type {import("./thumbnails.js").Thumbnails | null} */
    this.thumbnails = null;
    // Asked for before anything else: it is the whole map in small.
    if (this.tree.root?.tile.count) void this.stream.need(this.tree.root);
    this.frames = new Frames({
      canvas: this.canvas, gl, camera: this.camera, scene: this.scene, tree: this.tree, stream: this.stream,
      state: () => this.store.state, theme: () => this.theme, after: () => this.#drawAbove(),
    });
    this.#follow();
    this.#loadRest(source, images).catch(() => {
      if (!this.signal.aborted) say("Part of the page could not be loaded; marks on the map are missing.", "error");
    });
  }

  /**
   * What lies above the points may come after them.
   *
   * @param {Source} source
   * @param {boolean} images
   */
  async #loadRest(source, images) {
    await this.begun;
    const [{ drawMarks }, made] = await Promise.all([
      import("./lines.js"),
      images ? import("./thumbnails.js") : null,
    ]);
    if (this.signal.aborted) return;
    this.#drawMarks = drawMarks;
    if (made) this.thumbnails = new made.Thumbnails(source, this.signal, () => this.frames.marks());
    this.frames.marks();
  }

  /** Listen to the page, the store and the GPU. */
  #follow() {
    const { store, signal, camera, canvas, frames, scene, element } = this;
    listen(element, camera, { tool: () => store.state.tool, signal });
    const observer = new ResizeObserver(() => this.#resize());
    observer.observe(element);
    signal.addEventListener("abort", () => observer.disconnect());
    addEventListener("resize", () => this.#resize(), { signal });
    this.#dark.addEventListener("change", () => this.#recolored(), { signal });
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      frames.lost();
    }, { signal });
    canvas.addEventListener("webglcontextrestored", () => frames.restored(), { signal });
    const { state } = store;
    if (state.camera) camera.moveTo(state.camera, { animate: false });
    store.follow(["camera"], ({ camera: place }) => {
      if (place && place !== this.#told) camera.moveTo(place, { animate: false });
      this.#told = place;
    }, { signal });
    store.follow(["theme"], () => this.#recolored(), { signal });
    store.follow(["colorBy", "heat"], (now) => void scene.colorBy(now), { signal });
    store.follow(["sizeBy"], (now) => void scene.sizeBy(now), { signal });
    store.follow(["passing", "living", "selection", "heat", "heatThreshold"], (now) => {
      scene.regroup(now);
      frames.urgent();
    }, { signal });
    store.follow(["pointSize", "density", "contours"], () => frames.urgent(), { signal });
    store.follow(["hover", "focus", "focusNeighbors", "hits", "showThumbs"], () => frames.marks(), { signal });
    store.follow(["offline"], (now) => now.offline || this.#forgive(), { signal });
    scene.regroup(state);
    void scene.colorBy(state);
    if (state.sizeBy !== null) void scene.sizeBy(state);
  }

  /** The server answers again: what it did not give is asked for once more. */
  #forgive() {
    this.stream.forgive(this.tree.nodes);
    this.scene.forgive(this.store.state);
    this.thumbnails?.forgive();
    this.#looking.clear();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.element;
    this.camera.resize(clientWidth, clientHeight, Math.min(devicePixelRatio || 1, 3));
  }

  #tellStore = debounced(() => {
    if (this.signal.aborted || !this.camera.sized) return;
    const { x, y, scale } = this.camera.view;
    this.#told = { x, y, scale };
    this.store.set({ camera: this.#told });
  }, 100);

  #moved() {
    this.frames?.moved();
    if (this.camera.movedAt > 0) this.#tellStore();
  }

  #recolored() {
    this.frames?.urgent();
    for (const listener of [...this.#colorListeners]) listener();
  }

  /** @param {import("./tiles.js").TileNode} node */
  #dropped(node) {
    const paint = this.scene.paints.get(node);
    if (paint) this.frames.stage?.drop(paint);
    this.scene.forget(node);
  }

  /** Everything above the points: thumbnails and marks; then whoever else draws there. */
  #drawAbove() {
    const { above, context, camera, store } = this;
    const { state } = store;
    const { width, height, ratio, scale } = camera.view;
    const look = pointLook(this.scene.usual().all, scale);
    const thumbnails = state.showThumbs && look.spacing >= APART ? this.thumbnails : null;
    const marked = state.hover !== null || state.focus !== null || state.hits.length > 0;
    // A canvas that shows nothing still costs its part of every frame.
    above.style.display = thumbnails || marked ? "" : "none";
    if (context && (thumbnails || marked)) {
      const size = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
      if (above.width !== size[0] || above.height !== size[1]) [above.width, above.height] = size;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      const plan = this.frames.stage?.shown;
      if (thumbnails && plan) {
        const frame = this.theme === "dark" ? "rgba(255,255,255,0.35)" : "rgba(0,0,0,0.3)";
        const fading = thumbnails.draw(context, { camera, plan, spacing: look.spacing, frame });
        if (fading) setTimeout(() => this.frames.marks(), 16);
      }
      this.#drawMarks?.(context, {
        camera, state, theme: this.theme, radius: look.radius * state.pointSize,
        placeOf: (position) => this.#find(position),
      });
    }
    for (const listener of [...this.#frameListeners]) listener();
  }

  /** Where a point is, sooner or later. @param {number} position */
  #find(position) {
    const place = this.placeOf(position) ?? this.#places.get(position) ?? null;
    if (!place && !this.#looking.has(position)) {
      this.#looking.add(position);
      this.locate([position]).then(() => this.frames.marks(), () => undefined);
    }
    return place;
  }

  get begun() {
    return this.frames.begun;
  }

  get theme() {
    const { theme } = this.store.state;
    return theme === "auto" ? (this.#dark.matches ? "dark" : "light") : theme;
  }

  /** @param {number} position @returns {[number, number] | null} */
  placeOf(position) {
    const node = this.tree.nodeOf(position);
    return node?.xy ? pointOf(node, position - node.tile.offset) : null;
  }

  /** @param {number} x @param {number} y */
  toScreen(x, y) {
    return this.camera.toScreen(x, y);
  }

  /** @param {number} x @param {number} y */
  toPlane(x, y) {
    return this.camera.toPlane(x, y);
  }

  /** @param {number} x @param {number} y @param {number} [radius] */
  pick(x, y, radius = 8) {
    const [u, v] = this.camera.toPlane(x, y);
    return nearest(this.frames.stage?.shown?.drawn ?? [], u, v, radius / this.camera.view.scale);
  }

  /** @param {Partial<Place>} target @param {{animate?: boolean}} [options] */
  moveTo(target, options) {
    this.camera.moveTo(target, options);
  }

  /** @param {[number, number, number, number]} bounds @param {{animate?: boolean}} [options] */
  fit(bounds, options) {
    this.camera.fit(bounds, options);
  }

  fitAll() {
    this.camera.fitAll();
  }

  /** @param {() => void} listener */
  onFrame(listener) {
    this.#frameListeners.add(listener);
    return () => void this.#frameListeners.delete(listener);
  }

  /** @param {() => void} listener */
  onColoring(listener) {
    this.#colorListeners.add(listener);
    return () => void this.#colorListeners.delete(listener);
  }

  requestFrame() {
    this.frames.marks();
  }

  /** @param {number[]} positions @returns {Promise<[number, number][]>} */
  async locate(positions) {
    /** @type {[number, number][]} */
    const places = [];
    const nodes = new Set(positions.map((position) => this.tree.nodeOf(position)));
    await Promise.all([...nodes].map((node) => node && this.stream.need(node)));
    for (const position of positions) {
      const place = this.placeOf(position);
      if (!place) throw new Error(`The place of row ${position} could not be loaded.`);
      if (this.#places.size >= MOST_PLACES) this.#places.clear();
      this.#places.set(position, place);
      places.push(place);
    }
    return places;
  }

  /** @param {{scale?: number}} [options] */
  async snapshot({ scale = this.camera.view.ratio } = {}) {
    const { takeSnapshot } = await import("./snapshot.js");
    return takeSnapshot(this.frames, scale);
  }

  zoomText() {
    const times = this.camera.view.scale / this.camera.wholeScale;
    return `${times >= 99.5 ? Math.round(times).toLocaleString("en-US") : times.toPrecision(2)}×`;
  }

  zoom() {
    return Math.log2((this.tree.extent.size * this.camera.view.scale) / 1000);
  }

  legend() {
    return legendOf(this.scene.color, this.theme);
  }

  coloring() {
    const key = `${this.scene.color.version} ${this.theme}`;
    // Legends ask at every frame.
    if (this.#coloring.key !== key) this.#coloring = { key, told: coloringOf(this.scene.color, this.theme) };
    return this.#coloring.told;
  }

  background() {
    return cssOf(THEMES[this.theme].background);
  }

  stats() {
    const { budget, stage } = this.frames;
    return {
      frameMs: budget.frameMs, budget: budget.points, drawn: stage?.shown?.total ?? 0, loaded: this.stream.loaded,
      total: this.tree.count, tiles: this.stream.ready.size, bytes: this.stream.bytes,
      settled: stage?.shown?.whole === true && !stage.plan && !this.stream.loading,
    };
  }

  destroy() {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    this.frames.stop();
    this.element.remove();
  }
}
