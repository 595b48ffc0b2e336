/** Puts the picture together: background, density, points, contour lines. */

import { COVER, Program, bind, drawInto } from "./gl.js";

/** @typedef {import("./gl.js").Target} Target */
/** @typedef {import("./palette.js").Rgb} Rgb */
/**
 * @typedef {object} Picture
 * @property {Target} points
 * @property {Target | null} density
 * @property {[number, number]} densityPart  Share of the density's width and height that the view takes.
 * @property {number} usual  The density that is usual, in points a CSS pixel.
 * @property {boolean} shade  Show the density itself.
 * @property {boolean} lines  Show contour lines.
 * @property {Rgb} background
 * @property {number} tone  1 where many faint points make up the picture, 0 where each is seen by itself.
 * @property {number} deepen  How much the colour of dense places is another one.
 * @property {Rgb[]} ramp  Four colours, of low density to high.
 * @property {Rgb} ink  Of the lines.
 */

/**
 * A few points must be seen beside places with a thousand, and those must not be flat: the opacity grows with a power
 * of the paint, and the colour deepens where there is most of it.
 */
const POWER = 0.62;
const DENSE = [1.6, 6.5];

const DENSITY = `
uniform sampler2D uDensity;
uniform vec2 uPart;
uniform vec2 uTexel;
uniform float uUsual;
uniform bool uShade;
uniform bool uLines;
uniform vec3 uRamp[4];
uniform vec3 uInk;

// A smooth curve through the texels: straight ones would show as corners in the lines.
float densityAt(vec2 at) {
  vec2 place = at / uTexel - 0.5;
  vec2 part = fract(place);
  vec2 base = floor(place) + 0.5;
  vec2 w0 = (1.0 - part) * (1.0 - part) * (1.0 - part) / 6.0;
  vec2 w1 = (4.0 - 6.0 * part * part + 3.0 * part * part * part) / 6.0;
  vec2 w3 = part * part * part / 6.0;
  vec2 w2 = 1.0 - w0 - w1 - w3;
  vec2 low = (base - 1.0 + w1 / (w0 + w1)) * uTexel;
  vec2 high = (base + 1.0 + w3 / (w2 + w3)) * uTexel;
  vec2 left = w0 + w1;
  vec2 right = w2 + w3;
  return left.y * (left.x * texture(uDensity, low).r + right.x * texture(uDensity, vec2(high.x, low.y)).r)
       + right.y * (left.x * texture(uDensity, vec2(low.x, high.y)).r + right.x * texture(uDensity, high).r);
}

float levelAt() {
  return log2(max(densityAt(0.5 + (vAt - 0.5) * uPart), 1e-9) / uUsual);
}

vec3 shaded(vec3 color, float level) {
  if (!uShade) return color;
  float part = clamp((level + 5.5) / 8.0, 0.0, 1.0);
  vec3 shade = part < 0.4 ? mix(uRamp[0], uRamp[1], part / 0.4)
    : part < 0.75 ? mix(uRamp[1], uRamp[2], (part - 0.4) / 0.35) : mix(uRamp[2], uRamp[3], (part - 0.75) / 0.25);
  return mix(color, shade, smoothstep(0.0, 0.22, part));
}

vec3 lined(vec3 color, float level) {
  if (!uLines) return color;
  float place = level * 1.25;
  float slope = max(fwidth(place), 1e-4);
  float off = abs(fract(place - 0.5) - 0.5) / slope;
  // Every fourth line is a strong one; where lines would run together there are none.
  bool strong = mod(floor(place + 0.5), 4.0) < 0.5;
  float line = (1.0 - smoothstep(strong ? 0.6 : 0.35, strong ? 1.5 : 1.2, off)) * smoothstep(-4.6, -3.6, level);
  return mix(color, uInk, line * (strong ? 0.62 : 0.34) * (1.0 - smoothstep(0.25, 0.5, slope)));
}`;

/** How much of the background paint covers, and how far it takes the colour of dense places. */
const TONE = `
vec2 toned(float alpha) {
#ifdef FINE
  float paint = -log(1.0 - min(alpha, 0.9985));
  return vec2(1.0 - exp(-pow(paint, ${POWER})), smoothstep(${DENSE[0].toFixed(2)}, ${DENSE[1].toFixed(2)}, paint));
#else
  return texelFetch(uTones, ivec2(int(alpha * 255.0 + 0.5), 0), 0).rg;
#endif
}`;

const MAIN = `
in vec2 vAt;
uniform sampler2D uPoints;
uniform sampler2D uTones;
uniform vec3 uBackground;
uniform vec3 uDense;
uniform float uTone;
uniform float uDeepen;
out vec4 oColor;
//parts
void main() {
  vec3 color = uBackground;
#ifdef DENSITY
  float level = levelAt();
  color = shaded(color, level);
#endif
  vec4 points = texelFetch(uPoints, ivec2(gl_FragCoord.xy), 0);
  if (points.a > 0.0) {
    vec3 mean = points.rgb / points.a;
    vec2 tone = toned(points.a);
    vec3 dense = mean * (uDense.x + uDense.y * mean) + uDense.z;
    color = mix(color, mix(mean, dense, uTone * uDeepen * tone.y), mix(points.a, tone.x, uTone));
  }
#ifdef DENSITY
  color = lined(color, level);
#endif
  oColor = vec4(color, 1.0);
}`;

/** The tones of all 256 opacities, which saves a slow machine the arithmetic. */
function toneTable() {
  const table = new Uint8Array(4 * 256);
  for (let i = 0; i < 256; i++) {
    const paint = -Math.log(1 - Math.min(i / 255, 0.9985));
    const part = Math.min(1, Math.max(0, (paint - DENSE[0]) / (DENSE[1] - DENSE[0])));
    table[4 * i] = Math.round(255 * (1 - Math.exp(-(paint ** POWER))));
    table[4 * i + 1] = Math.round(255 * part * part * (3 - 2 * part));
  }
  return table;
}

export class Composite {
  /** @type {Map<string, Program>} */
  #programs = new Map();

  /** @param {WebGL2RenderingContext} gl */
  constructor(gl) {
    this.gl = gl;
    this.empty = gl.createVertexArray();
    this.tones = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.tones);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, 256, 1);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, 256, 1, gl.RGBA, gl.UNSIGNED_BYTE, toneTable());
    this.#program(false, false).start();
  }

  /**
   * @param {Target | null} target  Null is the canvas; as large as the points.
   * @param {Picture} picture
   */
  draw(target, picture) {
    const { gl } = this;
    const { density, background, points } = picture;
        drawInto(gl, target);
    gl.disable(gl.BLEND);
    const at = this.#program(points.format === "rgba16f", density !== null).use();
    gl.bindVertexArray(this.empty);
    bind(gl, 2, this.tones);
    if (density) {
      bind(gl, 1, density.texture);
      setDensity(gl, at, density, picture);
    }
    bind(gl, 0, points.texture);
    gl.uniform1i(at.uPoints, 0);
    gl.uniform1i(at.uTones, 2);
    gl.uniform1f(at.uTone, picture.tone);
    gl.uniform1f(at.uDeepen, picture.deepen);
    gl.uniform3f(at.uBackground, background[0] / 255, background[1] / 255, background[2] / 255);
    // Dense places are darker on a light background and lighter on a dark one.
    if (background[1] > 127) gl.uniform3f(at.uDense, 0.2, 0.62, 0);
    else gl.uniform3f(at.uDense, 0.58, 0, 0.42);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /**
   * @param {boolean} fine
   * @param {boolean} density
   */
  #program(fine, density) {
    const key = `${fine} ${density}`;
    let made = this.#programs.get(key);
    if (!made) {
      const parts = `${density ? DENSITY : ""}${TONE}`;
      const flags = `${fine ? "#define FINE\n" : ""}${density ? "#define DENSITY\n" : ""}`;
      made = new Program(this.gl, COVER, flags + MAIN.replace("//parts", parts));
      this.#programs.set(key, made);
    }
    return made;
  }
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {import("./gl.js").Uniforms} at
 * @param {Target} density
 * @param {Picture} picture
 */
function setDensity(gl, at, density, { densityPart, usual, shade, lines, ramp, ink }) {
  gl.uniform1i(at.uDensity, 1);
  gl.uniform2f(at.uPart, ...densityPart);
  gl.uniform2f(at.uTexel, 1 / density.width, 1 / density.height);
  gl.uniform1f(at.uUsual, Math.max(usual, 1e-9));
  gl.uniform1i(at.uShade, shade ? 1 : 0);
  gl.uniform1i(at.uLines, lines ? 1 : 0);
  gl.uniform3f(at.uInk, ink[0] / 255, ink[1] / 255, ink[2] / 255);
  gl.uniform3fv(at.uRamp, ramp.flat().map((part) => part / 255));
}
