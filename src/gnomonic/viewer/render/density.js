/** How dense points lie: counted into a float texture of a lower resolution, then blurred. */

import { COVER, Program, bind, drawInto, freeTarget, targetOf } from "./gl.js";
import { drawStretch, squareOf } from "./points.js";

/** @typedef {import("./camera.js").View} View */
/** @typedef {import("./gl.js").Target} Target */

/** Texels of a bell's width: the blur leaves nothing that is finer. */
const SIGMA = 3;
/** Texels that the blur looks at on each side. */
const REACH = 8;
/** The bell's width in CSS pixels: at least this, and wider where points are further apart, so that it stays smooth. */
const LEAST = 9;
const MOST = 60;

const COUNT_VERTEX = `
layout(location = 0) in float aX;
layout(location = 1) in float aY;
uniform vec4 uSquare;
uniform vec4 uWeights;
flat out float vWeight;
void main() {
  gl_Position = vec4(vec2(aX, aY) * uSquare.xy + uSquare.zw, 0.0, 1.0);
  vWeight = aX < 0.5 ? (aY < 0.5 ? uWeights.x : uWeights.z) : (aY < 0.5 ? uWeights.y : uWeights.w);
  gl_PointSize = 1.0;
}`;

const COUNT_FRAGMENT = `
flat in float vWeight;
out vec4 oColor;
void main() { oColor = vec4(vWeight, 0.0, 0.0, 1.0); }`;

const BLUR_FRAGMENT = `
in vec2 vAt;
uniform sampler2D uFrom;
uniform vec2 uStep;
uniform float uBell[${REACH + 1}];
out vec4 oColor;
void main() {
  float sum = uBell[0] * texture(uFrom, vAt).r;
  for (int i = 1; i <= ${REACH}; i++) {
    vec2 off = float(i) * uStep;
    sum += uBell[i] * (texture(uFrom, vAt + off).r + texture(uFrom, vAt - off).r);
  }
  oColor = vec4(sum, 0.0, 0.0, 1.0);
}`;

/** Half of a bell, whose whole has the sum 1. */
function bell() {
  const heights = Array.from({ length: REACH + 1 }, (_, i) => Math.exp(-0.5 * (i / SIGMA) ** 2));
  const sum = heights.reduce((total, height) => total + 2 * height, -heights[0]);
  return heights.map((height) => height / sum);
}

export class DensityPainter {
  /** @type {Target | null} */
  #counts = null;
  /** @type {Target | null} */
  #between = null;
  /** @type {Target | null} What is shown. */
  blurred = null;
  /** CSS pixels a texel. */
  step = 1;

  /** @param {WebGL2RenderingContext} gl */
  constructor(gl) {
    this.gl = gl;
    const floats = gl.getExtension("EXT_color_buffer_float");
    const halves = floats || gl.getExtension("EXT_color_buffer_half_float");
    /** Whether this GPU can do it at all. */
    this.able = halves !== null;
    /** @type {"r32f" | "r16f"} */
    this.format = floats && gl.getExtension("EXT_float_blend") ? "r32f" : "r16f";
    this.count = new Program(gl, COUNT_VERTEX, COUNT_FRAGMENT);
    this.blur = new Program(gl, COVER, BLUR_FRAGMENT);
  }

  /**
   * Begin to count, at nothing.
   *
   * @param {View} view
   * @param {number} usual  The density that is usual, in points a CSS pixel.
   */
  begin(view, usual) {
    const { gl } = this;
    const spacing = usual > 0 ? 1 / Math.sqrt(usual) : MOST;
    this.step = Math.min(MOST, Math.max(LEAST, 3 * spacing)) / SIGMA;
    // What lies just beyond the view reaches into it once it is blurred.
    const margin = 2 * REACH;
    const width = Math.max(1, Math.ceil(view.width / this.step) + margin);
    const height = Math.max(1, Math.ceil(view.height / this.step) + margin);
    if (this.#counts?.width !== width || this.#counts.height !== height) {
      this.#free();
      this.#counts = targetOf(gl, width, height, this.format);
      this.#between = targetOf(gl, width, height, "r16f");
    }
    drawInto(gl, this.#counts);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    /** The view as the texture has it. @type {View} */
    this.view = { ...view, width: width * this.step, height: height * this.step };
  }

  /** Before stretches are counted. */
  resume() {
    const { gl } = this;
    drawInto(gl, this.#counts);
    this.at = this.count.use();
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE);
  }

  /**
   * @param {import("./points.js").Paint} paint
   * @param {import("./points.js").Stretch} stretch
   * @param {number[]} weights
   */
  draw(paint, stretch, weights) {
    const { gl } = this;
    const at = /** @type {import("./gl.js").Uniforms} */ (this.at);
    gl.uniform4f(at.uSquare, ...squareOf(paint.node, /** @type {View} */ (this.view)));
    // In points a CSS pixel, so that half floats have room for a map of millions.
    const [a, b, c, d] = weights.map((weight) => weight / this.step ** 2);
    gl.uniform4f(at.uWeights, a, b, c, d);
    drawStretch(gl, paint, stretch);
  }

  /** All is counted: blur it, and show it from here on. */
  finish() {
    const { gl } = this;
    const counts = /** @type {Target} */ (this.#counts);
    const between = /** @type {Target} */ (this.#between);
    if (this.blurred?.width !== counts.width || this.blurred.height !== counts.height) {
      freeTarget(gl, this.blurred);
      this.blurred = targetOf(gl, counts.width, counts.height, "r16f");
    }
    gl.disable(gl.BLEND);
    const at = this.blur.use();
    gl.uniform1i(at.uFrom, 0);
    gl.uniform1fv(at.uBell, bell());
    drawInto(gl, between);
    bind(gl, 0, counts.texture);
    gl.uniform2f(at.uStep, 1 / counts.width, 0);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    drawInto(gl, this.blurred);
    bind(gl, 0, between.texture);
    gl.uniform2f(at.uStep, 0, 1 / counts.height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    /** The view that is shown. */
    this.shownView = this.view;
  }

  #free() {
    freeTarget(this.gl, this.#counts);
    freeTarget(this.gl, this.#between);
    this.#counts = this.#between = null;
  }

  free() {
    this.#free();
    freeTarget(this.gl, this.blurred);
    this.blurred = null;
  }
}
