/** Points of tiles on the GPU: their positions as they came, a colour code, a size, and an order by group. */

import { Program, bind } from "./gl.js";

/** @typedef {import("./camera.js").View} View */
/** @typedef {import("./gl.js").Uniforms} Uniforms */
/** @typedef {import("./states.js").Parts} Parts */
/** @typedef {import("./tiles.js").TileNode} TileNode */
/** @typedef {{version: number, array: Uint8Array | Uint16Array | null}} Codes  Null where they could not be had. */
/**
 * @typedef {object} OnGpu
 * @property {WebGLVertexArrayObject} vao
 * @property {WebGLBuffer} xy
 * @property {WebGLBuffer} codes
 * @property {WebGLBuffer} sizes
 * @property {WebGLBuffer} index
 * @property {Codes | null} codesOf  What is in the buffer.
 * @property {Codes | null} sizesOf
 * @property {Parts | null} partsOf
 *
 * @typedef {object} Paint  What a tile is drawn with.
 * @property {TileNode} node
 * @property {Codes | null} codes
 * @property {Codes | null} sizes
 * @property {Parts | null} parts
 * @property {OnGpu | null} gpu
 *
 * @typedef {object} GroupLook
 * @property {number} radius  CSS pixels.
 * @property {number} alpha
 * @property {[number, number, number, number]} tint  A colour, 0 to 1, and how much of it.
 *
 * @typedef {{node: TileNode, group: number, begin: number, end: number}} Stretch  Points to draw.
 */

/** Stands for points without a code, which have the colour of "no value". */
export const NO_CODE = 65535;

const VERTEX = `
layout(location = 0) in float aX;
layout(location = 1) in float aY;
layout(location = 2) in float aCode;
layout(location = 3) in float aSize;
uniform vec4 uSquare;
uniform vec4 uWeights;
uniform vec4 uTint;
uniform float uRadius;
uniform float uAlpha;
uniform float uSized;
uniform sampler2D uColors;
flat out vec4 vColor;
flat out vec2 vRadius;
void main() {
  gl_Position = vec4(vec2(aX, aY) * uSquare.xy + uSquare.zw, 0.0, 1.0);
  int code = int(aCode);
  vec4 color = texelFetch(uColors, ivec2(code & 255, code >> 8), 0);
  color.rgb = mix(color.rgb, uTint.rgb, uTint.a);
  float sized = aSize > 254.5 ? 0.5 : 0.55 + 2.4 * aSize / 254.0;
  float radius = uRadius * mix(1.0, sized, uSized);
  // Smaller than this a point would flicker between pixels; it is drawn fainter instead.
  float drawn = max(radius, 0.75);
  float weight = aX < 0.5 ? (aY < 0.5 ? uWeights.x : uWeights.z) : (aY < 0.5 ? uWeights.y : uWeights.w);
  float shown = uAlpha * color.a * (radius * radius) / (drawn * drawn);
  color.a = 1.0 - pow(1.0 - min(shown, 0.995), weight);
  vColor = color;
  vRadius = vec2(drawn, 2.0 * drawn + 1.0);
  gl_PointSize = vRadius.y;
}`;

const FRAGMENT = `
flat in vec4 vColor;
flat in vec2 vRadius;
uniform vec3 uBackground;
out vec4 oColor;
void main() {
  float far = length(gl_PointCoord - 0.5) * vRadius.y;
  float cover = clamp(vRadius.x + 0.5 - far, 0.0, 1.0);
  // A thin rim of background keeps large points apart where they overlap.
  float rim = clamp(far - vRadius.x + 1.4, 0.0, 1.0) * smoothstep(2.6, 5.0, vRadius.x) * 0.8;
  oColor = vec4(mix(vColor.rgb, uBackground, rim), 1.0) * (vColor.a * cover);
}`;

export class PointPainter {
  /** @param {WebGL2RenderingContext} gl */
  constructor(gl) {
    this.gl = gl;
    this.program = new Program(gl, VERTEX, FRAGMENT);
    this.program.start();
    this.colors = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.colors);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, 256, 256);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
  }

  /** @param {Uint8Array} table  256 × 256 × RGBA. */
  setColors(table) {
    const { gl } = this;
    bind(gl, 0, this.colors);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, 256, 256, gl.RGBA, gl.UNSIGNED_BYTE, table);
  }

  /**
   * Ready to draw stretches of points with `draw`.
   *
   * @param {View} view
   * @param {{background: [number, number, number], sized: boolean}} look
   */
  begin(view, { background, sized }) {
    const { gl } = this;
    const at = (this.at = this.program.use());
    this.view = view;
    this.sized = sized;
    bind(gl, 0, this.colors);
    gl.uniform1i(at.uColors, 0);
    gl.uniform3f(at.uBackground, background[0] / 255, background[1] / 255, background[2] / 255);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /**
   * @param {Paint} paint
   * @param {Stretch} stretch
   * @param {GroupLook} look
   * @param {number[]} weights  How many points each of a quarter stands for.
   */
  draw(paint, stretch, look, weights) {
    const { gl } = this;
    const at = /** @type {Uniforms} */ (this.at);
    const view = /** @type {View} */ (this.view);
    gl.uniform4f(at.uSquare, ...squareOf(paint.node, view));
    gl.uniform4f(at.uWeights, weights[0], weights[1], weights[2], weights[3]);
    gl.uniform4f(at.uTint, ...look.tint);
    gl.uniform1f(at.uRadius, look.radius * view.ratio);
    gl.uniform1f(at.uAlpha, look.alpha);
    gl.uniform1f(at.uSized, this.sized && paint.sizes?.array ? 1 : 0);
    drawStretch(gl, paint, stretch);
  }
}

/**
 * From a tile's positions, 0 to 1, to the clip space of a view.
 *
 * @param {TileNode} node
 * @param {View} view
 * @returns {[number, number, number, number]}
 */
export function squareOf(node, view) {
  const unitX = (2 * view.scale) / view.width;
  const unitY = (2 * view.scale) / view.height;
  return [node.side * unitX, node.side * unitY, (node.left - view.x) * unitX, (node.lower - view.y) * unitY];
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {Paint} paint
 * @param {Stretch} stretch
 */
export function drawStretch(gl, paint, { begin, end }) {
  const held = upload(gl, paint);
  gl.bindVertexArray(held.vao);
  const index = paint.parts?.index;
  if (!index) gl.drawArrays(gl.POINTS, begin, end - begin);
  else {
    const wide = index instanceof Uint32Array;
    const offset = begin * index.BYTES_PER_ELEMENT;
    gl.drawElements(gl.POINTS, end - begin, wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT, offset);
  }
}

/**
 * Bring a tile's buffers up to date.
 *
 * @param {WebGL2RenderingContext} gl
 * @param {Paint} paint
 * @returns {OnGpu}
 */
function upload(gl, paint) {
  const held = (paint.gpu ??= create(gl, paint.node));
  if (held.codesOf !== paint.codes) {
    held.codesOf = paint.codes;
    attribute(gl, held.vao, 2, held.codes, paint.codes?.array ?? null, NO_CODE);
  }
  if (held.sizesOf !== paint.sizes) {
    held.sizesOf = paint.sizes;
    attribute(gl, held.vao, 3, held.sizes, paint.sizes?.array ?? null, 0);
  }
  // A disabled attribute's value belongs to the context and not to the vertex array.
  if (!paint.codes?.array) gl.vertexAttrib1f(2, NO_CODE);
  if (held.partsOf !== paint.parts) {
    held.partsOf = paint.parts;
    gl.bindVertexArray(held.vao);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, held.index);
    if (paint.parts?.index) gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, paint.parts.index, gl.DYNAMIC_DRAW);
  }
  return held;
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {TileNode} node
 * @returns {OnGpu}
 */
function create(gl, node) {
  const count = node.tile.count;
  const [xy, codes, sizes, index] = [gl.createBuffer(), gl.createBuffer(), gl.createBuffer(), gl.createBuffer()];
  const vao = gl.createVertexArray();
  gl.bindVertexArray(vao);
  gl.bindBuffer(gl.ARRAY_BUFFER, xy);
  gl.bufferData(gl.ARRAY_BUFFER, node.xy, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(0);
  gl.vertexAttribPointer(0, 1, gl.UNSIGNED_SHORT, true, 2, 0);
  gl.enableVertexAttribArray(1);
  gl.vertexAttribPointer(1, 1, gl.UNSIGNED_SHORT, true, 2, 2 * count);
  return { vao, xy, codes, sizes, index, codesOf: null, sizesOf: null, partsOf: null };
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {WebGLVertexArrayObject} vao
 * @param {number} location
 * @param {WebGLBuffer} buffer
 * @param {Uint8Array | Uint16Array | null} array
 * @param {number} without
 */
function attribute(gl, vao, location, buffer, array, without) {
  gl.bindVertexArray(vao);
  if (!array) {
    gl.disableVertexAttribArray(location);
    gl.vertexAttrib1f(location, without);
    return;
  }
  gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
  gl.bufferData(gl.ARRAY_BUFFER, array, gl.DYNAMIC_DRAW);
  gl.enableVertexAttribArray(location);
  const wide = array instanceof Uint16Array;
  gl.vertexAttribPointer(location, 1, wide ? gl.UNSIGNED_SHORT : gl.UNSIGNED_BYTE, false, wide ? 2 : 1, 0);
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {Paint} paint
 */
export function freePaint(gl, paint) {
  const held = paint.gpu;
  paint.gpu = null;
  if (!held) return;
  gl.deleteVertexArray(held.vao);
  for (const buffer of [held.xy, held.codes, held.sizes, held.index]) gl.deleteBuffer(buffer);
}
