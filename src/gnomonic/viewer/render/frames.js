/**
 * When to draw what. A view that has changed is drawn at once with the points there is time for; once it rests, all of
 * its points are drawn behind the scene over as many frames as that takes, and shown when they are complete.
 */

import { Budget } from "./budget.js";
import { tableOf } from "./coloring.js";
import { planOf } from "./passes.js";
import { Stage } from "./stage.js";

/** @typedef {import("../types.js").State} State */
/** @typedef {import("./camera.js").Camera} Camera */
/** @typedef {import("./camera.js").View} View */
/** @typedef {import("./palette.js").Theme} Theme */
/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./tiles.js").TileNode} TileNode */

/** How long the view must rest before it is drawn in full. */
const REST_MS = 60;
/** How often new tiles are shown while they come. */
const NEWS_MS = 120;
/** From so many points a frame on there is time for a finer picture. */
const FINE = 350_000;
/** Points of a moving view that the picture before shows already. */
const FEW = 6_000;

export class Frames {
  budget = new Budget();
  /** Someone else uses the GPU for a while. */
  held = false;
  /** @type {Stage | null} */
  stage = null;
  /** @type {TileNode[]} */
  #wanted = [];
  #urgent = true;
  #news = false;
  #rough = false;
  #marks = true;
  #asked = 0;
  #shownAt = 0;
  /** Something is on the screen: the whole map in small, where it can be had. */
  #begun = false;
  /** @type {() => void} */
  #tellBegun = () => undefined;
  /** Fulfilled once something is on the screen. @type {Promise<void>} */
  begun = new Promise((resolve) => (this.#tellBegun = resolve));
  #tableOf = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {object} options
   * @param {HTMLCanvasElement} options.canvas
   * @param {WebGL2RenderingContext} options.gl
   * @param {Camera} options.camera
   * @param {Scene} options.scene
   * @param {import("./tiles.js").TileTree} options.tree
   * @param {import("./tiles.js").TileStream} options.stream
   * @param {() => State} options.state
   * @param {() => Theme} options.theme
   * @param {() => void} options.after  A frame has been drawn; draw what lies above it.
   */
  constructor({ canvas, gl, camera, scene, tree, stream, state, theme, after }) {
    this.canvas = canvas;
    this.gl = gl;
    this.camera = camera;
    this.scene = scene;
    this.tree = tree;
    this.stream = stream;
    this.state = state;
    this.theme = theme;
    this.after = after;
    this.stage = new Stage(gl, scene.paints);
  }

  /** The view has changed. */
  moved() {
    this.#urgent = true;
    this.#ask();
  }

  /** What is shown, or how, has changed. */
  urgent() {
    this.stage?.outdated();
    this.moved();
  }

  /** There is more to show. */
  news() {
    this.#news = true;
    this.#ask();
  }

  /** Only what lies above the points has changed. */
  marks() {
    this.#marks = true;
    this.#ask();
  }

  #ask() {
    if (!this.#asked) this.#asked = requestAnimationFrame((now) => this.#frame(now));
  }

  /** @param {number} now */
  #frame(now) {
    this.#asked = 0;
    const { stage, gl } = this;
    if (!stage || gl.isContextLost() || this.held) return;
    // The frame before is still being drawn; its end asks again.
    if (this.budget.busy) return;
    this.camera.step(now);
    if (!this.camera.sized || !this.camera.view.width) return;
    const began = performance.now();
    const drawn = this.#waits(began) ? 0 : this.#draw(stage, began);
    if (this.#marks) {
      this.#marks = false;
      this.after();
    }
    if (drawn > 0) {
      this.budget.submitted(gl, began, drawn, () => {
        if (!this.#begun) this.#begin();
        const pending = this.#urgent || this.#news || this.#rough || this.#marks || stage.plan !== null;
        if (pending || this.camera.gliding) this.#ask();
      });
    }
  }

  /**
   * Whether there is nothing to show yet: a picture without points would only hold up the one with them.
   *
   * @param {number} now
   */
  #waits(now) {
    const { root } = this.tree;
    if (this.#begun || !root?.tile.count || root.failed) return false;
    this.scene.ask(root);
    if (!root.xy) return true;
    const left = this.scene.patience(root, now);
    clearTimeout(this.#timer);
    if (left > 0) this.#timer = setTimeout(() => this.#ask(), left);
    return left > 0;
  }

  /**
   * Points drawn, 0 where nothing was to be done.
   *
   * @param {Stage} stage
   * @param {number} now
   */
  #draw(stage, now) {
    const most = this.budget.points;
    if (this.#urgent) {
      this.#urgent = this.#news = false;
      this.#follow();
      const { view } = this.camera;
      // What the last picture covers needs no points; the rest of the view gets some.
      const open = Math.min(1, 2.5 * (1 - stage.covered(view)));
      const plan = this.#plan(view, Math.max(FEW, most * open));
      stage.begin(plan, this.theme(), most > FINE);
      const drawn = stage.step(Infinity);
      if (!plan.whole) stage.slide();
      this.#show(stage);
      this.#rough = !stage.shown?.whole;
      return Math.max(1, drawn);
    }
    if (!stage.plan && (this.#news || this.#rough)) {
      const due = this.#rough && !this.#news ? this.camera.movedAt + REST_MS : this.#shownAt + NEWS_MS;
      if (now < due) {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#ask(), due - now);
        return 0;
      }
      this.#news = this.#rough = false;
      stage.begin(this.#plan(this.camera.view, Infinity), this.theme(), most > FINE);
    }
    if (!stage.plan) return 0;
    const drawn = stage.step(most);
    if (stage.done) this.#show(stage);
    return Math.max(1, drawn);
  }

  /** @param {Stage} stage */
  #show(stage) {
    const { canvas, camera, theme } = this;
    const { width, height, ratio } = camera.view;
    const size = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
    // A canvas is emptied by a new size, so that it gets it right before it is drawn.
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    stage.swap();
    stage.present(null, theme(), this.state());
    this.#shownAt = performance.now();
    this.#marks = true;
    canvas.style.visibility = "";
  }

  /** What the rest of the picture needs would only have held up its beginning. */
  #begin() {
    this.#begun = true;
    this.#follow();
    this.#tellBegun();
  }

  /** Load the tiles of the view. */
  #follow() {
    this.#wanted = this.tree.wanted(this.camera.view);
    // The first picture needs the root alone.
    this.stream.want(this.#begun ? this.#wanted : this.#wanted.filter((node) => node === this.tree.root));
  }

  /**
   * @param {View} view
   * @param {number} most
   */
  #plan(view, most) {
    const now = performance.now();
    const { scene, stage } = this;
    /** @type {Set<TileNode>} */
    const there = new Set();
    let waiting = false;
    for (const node of this.#wanted) {
      const above = node.parent;
      // Coarse before fine; but a tile that cannot be had does not hide all that is beneath it.
      if (!node.xy || (above?.tile.count && !above.failed && !there.has(above))) continue;
      scene.ask(node);
      if (scene.patience(node, now) <= 0) there.add(node);
      else waiting = true;
    }
    if (waiting) setTimeout(() => this.news(), 100);
    this.#colors(stage);
    return this.planFor(view, [...there], most);
  }

  /**
   * @param {View} view
   * @param {TileNode[]} nodes
   * @param {number} most
   */
  planFor(view, nodes, most) {
    const { scene } = this;
    const state = this.state();
    const density = (state.density || state.contours) && this.stage?.density.able === true;
    return planOf({
      view,
      nodes,
      paintOf: (node) => scene.prepared(node, view),
      looks: scene.looks(view.scale, this.theme(), density ? state : { ...state, density: false }),
      sized: scene.size.column !== null,
      density,
      usual: scene.usual().all / view.scale ** 2,
      tone: scene.tone(view.scale),
      deepen: scene.deepen(),
    }, most);
  }

  /** Give a stage the colours of now. @param {Stage | null} stage */
  #colors(stage) {
    const key = `${this.scene.color.version} ${this.theme()}`;
    if (key === this.#tableOf || !stage) return;
    this.#tableOf = key;
    stage.points.setColors(tableOf(this.scene.color, this.theme()));
  }

  /** The context is gone, and with it all that was on the GPU. */
  lost() {
    this.budget.forget();
    for (const paint of this.scene.paints.values()) paint.gpu = null;
    this.stage = null;
    this.#tableOf = "";
  }

  restored() {
    this.stage = new Stage(this.gl, this.scene.paints);
    this.urgent();
  }

  stop() {
    cancelAnimationFrame(this.#asked);
    clearTimeout(this.#timer);
    this.budget.forget();
    this.stage?.free();
    this.stage = null;
  }
}
