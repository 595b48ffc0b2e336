/** Draws plans with WebGL2: into a picture behind the one that is shown, over as many frames as it takes. */

import { Composite } from "./composite.js";
import { DensityPainter } from "./density.js";
import { Program, bind, drawInto, freeTarget, targetOf } from "./gl.js";
import { THEMES } from "./palette.js";
import { PointPainter, freePaint } from "./points.js";
import { FADED } from "./states.js";

/** @typedef {import("./camera.js").View} View */
/** @typedef {import("./gl.js").Target} Target */
/** @typedef {import("./palette.js").Theme} Theme */
/** @typedef {import("./passes.js").Plan} Plan */
/** @typedef {import("./points.js").Paint} Paint */
/** @typedef {import("./tiles.js").TileNode} TileNode */

/** How much larger or smaller a complete picture may be shown while the next one is being drawn. */
const STRETCH = 3;

const SLIDE_VERTEX = `
uniform vec4 uPlace;
out vec2 vAt;
void main() {
  vAt = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  gl_Position = vec4((2.0 * vAt - 1.0) * uPlace.xy + uPlace.zw, 0.0, 1.0);
}`;

const SLIDE_FRAGMENT = `
in vec2 vAt;
uniform sampler2D uPicture;
out vec4 oColor;
void main() { oColor = texture(uPicture, vAt); }`;

export class Stage {
  /** @type {Plan | null} The picture that is shown. */
  shown = null;
  /** @type {Plan | null} The one that is being drawn. */
  plan = null;
  /** @type {Target | null} What is shown. */
  #front = null;
  /** @type {Target | null} What is being drawn. */
  #back = null;
  /** @type {{target: Target, view: View} | null} The last picture that nothing was left out of. */
  #whole = null;
  /** @type {Target[]} */
  #targets = [];
  /** @type {"density" | "points" | "done"} */
  #phase = "done";
  #next = 0;
  #begun = 0;

  /**
   * @param {WebGL2RenderingContext} gl
   * @param {Map<TileNode, Paint>} paints
   */
  constructor(gl, paints) {
    this.gl = gl;
    this.paints = paints;
    this.points = new PointPainter(gl);
    this.density = new DensityPainter(gl);
    this.composite = new Composite(gl);
    this.sliding = new Program(gl, SLIDE_VERTEX, SLIDE_FRAGMENT);
  }

  get done() {
    return this.#phase === "done";
  }

  /**
   * @param {Plan} plan
   * @param {Theme} theme
   * @param {boolean} fine  With more shades of what is dense, in twice the time.
   */
  begin(plan, theme, fine) {
    const { gl } = this;
    const { width, height, ratio } = plan.view;
    this.plan = plan;
    this.theme = theme;
    const format = fine && this.density.able ? "rgba16f" : "rgba8";
    this.#back = this.#spare(Math.round(width * ratio), Math.round(height * ratio), format);
    drawInto(gl, this.#back);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    this.#phase = plan.density ? "density" : "points";
    if (plan.density) this.density.begin(plan.view, plan.usual);
    this.#next = this.#begun = 0;
  }

  /** Draw at most so many points; how many they were. @param {number} most */
  step(most) {
    const { plan } = this;
    if (!plan || this.done) return 0;
    let drawn = 0;
    while (this.#phase !== "done" && drawn < most) {
      const density = this.#phase === "density";
      if (density) this.density.resume();
      else {
        drawInto(this.gl, this.#back);
        this.points.begin(plan.view, { background: THEMES[this.theme ?? "light"].background, sized: plan.sized });
      }
      while (this.#next < plan.stretches.length && drawn < most) drawn += this.#stretch(plan, density, most - drawn);
      if (this.#next < plan.stretches.length) break;
      this.#phase = density ? "points" : "done";
      this.#next = this.#begun = 0;
    }
    this.gl.bindVertexArray(null);
    return drawn;
  }

  /**
   * @param {Plan} plan
   * @param {boolean} density
   * @param {number} most
   */
  #stretch(plan, density, most) {
    const whole = plan.stretches[this.#next];
    const { node, group, end } = whole;
    const begin = whole.begin + this.#begun;
    const upTo = Math.min(end, begin + most);
    const paint = this.paints.get(node);
    const look = plan.looks[group];
    const skipped = density ? group === FADED : look.alpha === 0;
    if (upTo < end && !skipped) this.#begun += upTo - begin;
    else {
      this.#next++;
      this.#begun = 0;
    }
    if (skipped || !paint || !node.xy) return 0;
    const stretch = { node, group, begin, end: upTo };
    const weights = /** @type {number[]} */ (plan.weights.get(node)).map((weight) => weight / plan.shares[group]);
    if (density) this.density.draw(paint, stretch, weights);
    else this.points.draw(paint, stretch, look, weights);
    return upTo - begin;
  }

  /** Show what has been drawn. */
  swap() {
    this.#front = this.#back;
    this.#back = null;
    this.shown = this.plan;
    this.plan = null;
    if (this.shown?.whole && this.#front) this.#whole = { target: this.#front, view: this.shown.view };
    if (this.shown?.density) this.density.finish();
  }

  /** Points look different from now on: the last complete picture is of no use any more. */
  outdated() {
    this.#whole = null;
  }

  /** Share of a view that the last complete picture can stand in for. @param {View} view */
  covered(view) {
    const place = this.#placeIn(view);
    if (!place) return 0;
    const [halfX, halfY, x, y] = place;
    const width = Math.min(1, x + halfX) - Math.max(-1, x - halfX);
    const height = Math.min(1, y + halfY) - Math.max(-1, y - halfY);
    return width > 0 && height > 0 ? (width * height) / 4 : 0;
  }

  /** Put the last complete picture over what a moving view had no time to draw. */
  slide() {
    const { gl, plan } = this;
    const place = plan && this.#placeIn(plan.view);
    if (!place || !this.#whole) return;
    drawInto(gl, this.#back);
    const at = this.sliding.use();
    gl.bindVertexArray(this.composite.empty);
    gl.disable(gl.BLEND);
    bind(gl, 0, this.#whole.target.texture);
    gl.uniform1i(at.uPicture, 0);
    gl.uniform4f(at.uPlace, ...place);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /**
   * Half the size and the middle of the last complete picture in a view's clip space.
   *
   * @param {View} view
   * @returns {[number, number, number, number] | null}
   */
  #placeIn(view) {
    const from = this.#whole?.view;
    if (!from || from.ratio !== view.ratio) return null;
    const larger = view.scale / from.scale;
    if (larger > STRETCH || larger < 1 / STRETCH) return null;
    let [x, y] = [(from.x - view.x) * view.scale * view.ratio, (from.y - view.y) * view.scale * view.ratio];
    // Moved by whole pixels it stays as crisp as it is.
    if (Math.abs(larger - 1) < 1e-6) [x, y] = [Math.round(x), Math.round(y)];
    const { width, height, ratio } = view;
    const [halfX, halfY] = [(larger * from.width) / width, (larger * from.height) / height];
    return [halfX, halfY, (2 * x) / (width * ratio), (2 * y) / (height * ratio)];
  }

  /**
   * @param {Target | null} target  Null is the canvas.
   * @param {Theme} theme
   * @param {{density: boolean, contours: boolean}} what
   */
  present(target, theme, { density, contours }) {
    const points = this.#front;
    if (!points || !this.shown) return;
    const { background } = THEMES[theme];
    const { view, usual } = this.shown;
    const counted = this.shown.density ? this.density.blurred : null;
    const held = this.density.shownView;
    const dark = theme === "dark";
    this.composite.draw(target, {
      points,
      density: counted,
      densityPart: held ? [view.width / held.width, view.height / held.height] : [1, 1],
      usual,
      tone: this.shown.tone,
      deepen: this.shown.deepen,
      shade: density,
      lines: contours,
      background,
      ramp: dark
        ? [background, [24, 52, 92], [42, 128, 158], [196, 236, 190]]
        : [background, [196, 219, 238], [92, 148, 200], [26, 54, 120]],
      ink: dark ? [226, 232, 240] : [24, 34, 56],
    });
  }

  /**
   * A texture that no picture is in which is needed any more.
   *
   * @param {number} width
   * @param {number} height
   * @param {"rgba8" | "rgba16f"} format
   */
  #spare(width, height, format) {
    const used = this.#targets.filter((target) => target === this.#front || target === this.#whole?.target);
    let spare = null;
    for (const target of this.#targets) {
      if (used.includes(target)) continue;
      const fits = target.width === width && target.height === height && target.format === format;
      if (fits && !spare) spare = target;
      else freeTarget(this.gl, target);
    }
    spare ??= targetOf(this.gl, Math.max(1, width), Math.max(1, height), format);
    this.#targets = [...used, spare];
    return spare;
  }

  /** @param {Paint} paint */
  drop(paint) {
    freePaint(this.gl, paint);
  }

  free() {
    for (const paint of this.paints.values()) freePaint(this.gl, paint);
    this.freeTargets();
  }

  /** Free all but the tiles, which another stage may draw as well. */
  freeTargets() {
    for (const target of this.#targets) freeTarget(this.gl, target);
    this.#targets = [];
    this.#front = this.#back = this.#whole = null;
    this.density.free();
  }
}
