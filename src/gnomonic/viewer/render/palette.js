/** Colours: of categories, of numbers, of heat, for both themes. */

/** @typedef {[number, number, number]} Rgb  0 to 255. */
/** @typedef {"light" | "dark"} Theme */

/**
 * Ten colours for the most frequent categories. They were searched for: at least 0.09 apart in OKLab as people see
 * them with and without each kind of colour blindness, at least 1.9 : 1 against both backgrounds.
 */
const BASE = [
  "#4e55d6", "#f37513", "#20947d", "#c968c2", "#d7bf0a", "#43c7fd", "#a8462e", "#7ab67b", "#8a4b98", "#fe8dc5",
];
/** How much lighter each further round of the palette is. */
const ROUNDS = [0, 0.1, -0.09, 0.05, -0.05];

/** @type {Record<Theme, {background: Rgb, plain: Rgb, neutral: Rgb, faded: Rgb, ink: string, halo: string,
 *   accent: string}>} */
export const THEMES = {
  light: {
    background: [253, 253, 252],
    plain: [62, 98, 190],
    neutral: [158, 162, 168],
    faded: [176, 180, 186],
    ink: "#14171c",
    halo: "rgba(255,255,255,0.9)",
    accent: "#b3261e",
  },
  dark: {
    background: [14, 17, 22],
    plain: [116, 160, 246],
    neutral: [116, 121, 130],
    faded: [86, 92, 102],
    ink: "#f2f4f8",
    halo: "rgba(8,10,14,0.85)",
    accent: "#ffb25e",
  },
};

/** @param {Rgb} rgb */
export function cssOf([r, g, b]) {
  return `#${[r, g, b].map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

/** @param {string} hex @returns {Rgb} */
function rgbOf(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** @param {number} part  Of sRGB, 0 to 1. */
function toLinear(part) {
  return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
}

/** @param {number} part */
function fromLinear(part) {
  return part <= 0.0031308 ? 12.92 * part : 1.055 * part ** (1 / 2.4) - 0.055;
}

/** Lightness, chroma and hue of OKLCH. @param {Rgb} rgb @returns {[number, number, number]} */
function toLch(rgb) {
  const [r, g, b] = rgb.map((part) => toLinear(part / 255));
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  const x = 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s;
  const y = 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s;
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s, Math.hypot(x, y), Math.atan2(y, x)];
}

/**
 * The colour of that lightness, chroma and hue, or of the most chroma that a screen can show.
 *
 * @param {number} lightness
 * @param {number} chroma
 * @param {number} hue  In radians.
 * @returns {Rgb}
 */
function fromLch(lightness, chroma, hue) {
  for (let c = chroma; ; c -= 0.01) {
    const x = Math.max(0, c) * Math.cos(hue);
    const y = Math.max(0, c) * Math.sin(hue);
    const l = (lightness + 0.3963377774 * x + 0.2158037573 * y) ** 3;
    const m = (lightness - 0.1055613458 * x - 0.0638541728 * y) ** 3;
    const s = (lightness - 0.0894841775 * x - 1.291485548 * y) ** 3;
    const r = 4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s;
    const g = -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s;
    const b = -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s;
    const fits = Math.min(r, g, b) >= -0.001 && Math.max(r, g, b) <= 1.001;
    if (!fits && c > 0) continue;
    const shown = (/** @type {number} */ part) =>
      Math.round(255 * fromLinear(Math.min(1, Math.max(0, part))));
    return [shown(r), shown(g), shown(b)];
  }
}

/** The palette with all its rounds. @param {Theme} theme @returns {Rgb[]} */
function wheelOf(theme) {
  return ROUNDS.flatMap((step) => BASE.map((hex) => {
    const [lightness, chroma, hue] = toLch(rgbOf(hex));
    // The darkest ones are a little lighter on a dark background.
    const lifted = theme === "dark" ? Math.max(lightness, 0.35 + 0.46 * lightness) : lightness;
    const moved = Math.min(0.86, Math.max(0.44, lifted + step));
    return fromLch(moved, step ? chroma * 0.82 : chroma, hue + step);
  }));
}

const WHEELS = { light: wheelOf("light"), dark: wheelOf("dark") };

/** The colour of a category; codes beyond the palette begin again. @param {number} code @param {Theme} theme */
export function categoryColor(code, theme) {
  const wheel = WHEELS[theme];
  return wheel[code % wheel.length];
}

/** Colours of false and of true. @type {[Rgb, Rgb]} */
export const BOOLS = [rgbOf("#7f8fa9"), rgbOf("#f37513")];

/** @param {number} from @param {number} to @param {number} part */
function mix(from, to, part) {
  return from + (to - from) * part;
}

/** Numbers from low (0) to high (1): dark blue over green to yellow. @param {number} part @param {Theme} theme */
export function rampColor(part, theme) {
  const lightness = theme === "dark" ? mix(0.45, 0.91, part) : mix(0.35, 0.83, part);
  const hue = mix(292, 98, part ** 0.95);
  return fromLch(lightness, mix(0.15, 0.17, part), (hue * Math.PI) / 180);
}

/** Heat from none (0) to most (1): it glows on a dark background and burns into a light one.
 * @param {number} part @param {Theme} theme */
export function heatColor(part, theme) {
  if (theme === "dark") {
    const hue = part < 0.5 ? mix(-65, 25, part * 2) : mix(25, 98, part * 2 - 1);
    const chroma = 0.06 + 0.15 * Math.sin(Math.PI * Math.min(1, part * 0.85 + 0.08));
    return fromLch(mix(0.36, 0.95, part), chroma, (hue * Math.PI) / 180);
  }
  const hue = part < 0.5 ? mix(90, 42, part * 2) : mix(42, -40, part * 2 - 1);
  return fromLch(mix(0.88, 0.36, part), mix(0.05, 0.19, Math.min(1, part * 1.6)), (hue * Math.PI) / 180);
}
