/** The few things that everything drawn with WebGL2 needs. */

/** @typedef {{framebuffer: WebGLFramebuffer, texture: WebGLTexture, width: number, height: number,
 *   format: string}} Target */
/** @typedef {Record<string, WebGLUniformLocation | null>} Uniforms */

/** This browser has no WebGL2, or not for this page. */
export class NoWebGL extends Error {
  constructor() {
    super(
      "The map needs WebGL2, which this browser does not offer. " +
        "Turn on hardware acceleration in its settings, or use a current Chrome, Edge, Firefox or Safari.",
    );
    this.name = "NoWebGL";
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {WebGL2RenderingContext}
 */
export function contextOf(canvas) {
  const gl = canvas.getContext("webgl2", {
    alpha: false,
    antialias: false,
    depth: false,
    stencil: false,
    powerPreference: "high-performance",
  });
  if (!gl) throw new NoWebGL();
  return gl;
}

/** A program: compiled once it is asked to be, beside everything else, and waited for when it is first used. */
export class Program {
  /** @type {WebGLProgram | null} */
  #program = null;
  /** @type {Uniforms | null} */
  #at = null;

  /**
   * @param {WebGL2RenderingContext} gl
   * @param {string} vertex
   * @param {string} fragment
   */
  constructor(gl, vertex, fragment) {
    this.gl = gl;
    this.sources = [vertex, fragment];
  }

  /** Begin to compile it. */
  start() {
    const { gl } = this;
    const program = (this.#program = gl.createProgram());
    [gl.VERTEX_SHADER, gl.FRAGMENT_SHADER].forEach((kind, i) => {
      const shader = gl.createShader(kind);
      if (!shader) throw new Error("The graphics context is lost.");
      gl.shaderSource(shader, `#version 300 es\nprecision highp float;\nprecision highp int;\n${this.sources[i]}`);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      gl.deleteShader(shader);
    });
    gl.linkProgram(program);
    return program;
  }

  /** Draw with it from here on; where its uniforms are. */
  use() {
    const program = this.#program ?? this.start();
    this.#at ??= this.#uniforms(program);
    this.gl.useProgram(program);
    return this.#at;
  }

  /** @param {WebGLProgram} program */
  #uniforms(program) {
    const { gl } = this;
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      const logs = (gl.getAttachedShaders(program) ?? []).map((shader) => gl.getShaderInfoLog(shader));
      throw new Error(`A shader does not compile: ${gl.getProgramInfoLog(program)} ${logs.join(" ")}`);
    }
    /** @type {Uniforms} */
    const at = {};
    const count = gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS) ?? 0;
    for (let i = 0; i < count; i++) {
      const name = gl.getActiveUniform(program, i)?.name;
      if (name) at[name.replace("[0]", "")] = gl.getUniformLocation(program, name);
    }
    return at;
  }
}

/** A shader for a triangle that covers everything: no buffers, `vAt` from 0 to 1. */
export const COVER = `
out vec2 vAt;
void main() {
  vAt = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
  gl_Position = vec4(2.0 * vAt - 1.0, 0.0, 1.0);
}`;

/**
 * A texture to draw into.
 *
 * @param {WebGL2RenderingContext} gl
 * @param {number} width
 * @param {number} height
 * @param {"rgba8" | "rgba16f" | "r16f" | "r32f"} [format]
 * @returns {Target}
 */
export function targetOf(gl, width, height, format = "rgba8") {
  const internal = { rgba8: gl.RGBA8, rgba16f: gl.RGBA16F, r16f: gl.R16F, r32f: gl.R32F }[format];
  const filter = format === "r32f" ? gl.NEAREST : gl.LINEAR;
  const texture = gl.createTexture();
  const framebuffer = gl.createFramebuffer();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texStorage2D(gl.TEXTURE_2D, 1, internal, width, height);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, filter);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, filter);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT);
  return { framebuffer, texture, width, height, format };
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {Target | null} target
 */
export function freeTarget(gl, target) {
  if (!target) return;
  gl.deleteFramebuffer(target.framebuffer);
  gl.deleteTexture(target.texture);
}

/**
 * Draw into a target from here on; null is the canvas.
 *
 * @param {WebGL2RenderingContext} gl
 * @param {Target | null} target
 */
export function drawInto(gl, target) {
  gl.bindFramebuffer(gl.FRAMEBUFFER, target?.framebuffer ?? null);
  gl.viewport(0, 0, target?.width ?? gl.drawingBufferWidth, target?.height ?? gl.drawingBufferHeight);
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {number} unit
 * @param {WebGLTexture} texture
 */
export function bind(gl, unit, texture) {
  gl.activeTexture(gl.TEXTURE0 + unit);
  gl.bindTexture(gl.TEXTURE_2D, texture);
}
