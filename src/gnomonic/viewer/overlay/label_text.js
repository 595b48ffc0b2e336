/** Names of topics broken into lines, measured as they will be drawn. */

/** Pixels of the letters, by depth; the last for all deeper ones. The builder counts with the same sizes. */
const SIZES = [17, 15, 13];
const WEIGHTS = [650, 600, 500];
const LINE_HEIGHT = 1.2;
const MOST_LINES = 2;
/** Widest line, in times the size of the letters. */
const WIDEST = 13;
const RIGHT_TO_LEFT = /^[^\p{L}]*[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;

/**
 * @typedef {object} LabelText
 * @property {string[]} lines
 * @property {number} width  CSS pixels.
 * @property {number} height
 * @property {number} size  Of the letters.
 * @property {string} font  As a canvas wants it.
 * @property {boolean} rtl
 */

/** Whether a text is read from right to left. @param {string} text */
export function isRightToLeft(text) {
  return RIGHT_TO_LEFT.test(text);
}

/**
 * Returns a function that breaks names into lines; it remembers what it broke.
 *
 * @param {string} family  Of the font.
 * @returns {(name: string, depth: number) => LabelText}
 */
export function createLabelTexts(family) {
  const context = document.createElement("canvas").getContext("2d");
  /** @type {Map<string, LabelText>} */
  const known = new Map();
  return (name, depth) => {
    const level = Math.max(0, Math.min(depth, SIZES.length) - 1);
    const key = `${level} ${name}`;
    let text = known.get(key);
    if (!text) {
      const size = SIZES[level];
      const font = `${WEIGHTS[level]} ${size}px ${family}`;
      if (context) context.font = font;
      const measure = (/** @type {string} */ part) => context?.measureText(part).width ?? part.length * size * 0.55;
      const lines = broken(name, WIDEST * size, measure);
      const width = Math.ceil(Math.max(...lines.map(measure)));
      const height = Math.ceil(lines.length * size * LINE_HEIGHT);
      text = { lines, width, height, size, font, rtl: isRightToLeft(name) };
      known.set(key, text);
    }
    return text;
  };
}

/**
 * At most two lines of about the same length; what does not fit ends in an ellipsis.
 *
 * @param {string} name
 * @param {number} widest
 * @param {(part: string) => number} measure
 */
function broken(name, widest, measure) {
  // A name is a line, whatever a topic's author typed, and nobody reads its ten-thousandth letter.
  const words = name.slice(0, 400).split(/\s+/u).filter(Boolean);
  const whole = words.join(" ");
  const width = measure(whole);
  if (width <= widest || !words.length) return [whole];
  const aim = Math.min(widest, Math.max(width / MOST_LINES, ...words.map(measure)) * 1.05);
  /** @type {string[]} */
  const lines = [];
  let line = "";
  for (const [at, word] of words.entries()) {
    const longer = line ? `${line} ${word}` : word;
    if (line && measure(longer) > aim) {
      if (lines.length === MOST_LINES - 1) {
        line = `${line} ${words.slice(at).join(" ")}`;
        break;
      }
      lines.push(line);
      line = word;
    } else {
      line = longer;
    }
  }
  lines.push(line);
  return lines.map((one) => cut(one, widest, measure));
}

/**
 * The longest beginning that fits, cut between letters as people see them.
 *
 * @param {string} text
 * @param {number} widest
 * @param {(part: string) => number} measure
 */
function cut(text, widest, measure) {
  if (measure(text) <= widest) return text;
  const letters = Array.from(new Intl.Segmenter().segment(text), (part) => part.segment);
  let low = 1;
  let high = letters.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (measure(`${letters.slice(0, middle).join("").trimEnd()}…`) <= widest) low = middle;
    else high = middle - 1;
  }
  return `${letters.slice(0, low).join("").trimEnd()}…`;
}
