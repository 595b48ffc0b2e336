/** Which words of a text another one does not have in the same order. */

/** Words that are compared; the rest of a longer text is shown as it is. */
const MOST_WORDS = 300;
/** Scripts without spaces are compared letter by letter. */
const LETTERS = "[\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Thai}]";
const TOKENS = new RegExp(`\\s+|${LETTERS}|[\\p{L}\\p{M}\\p{N}_]+|[^\\s\\p{L}\\p{M}\\p{N}_]`, "gu");

/**
 * Cuts a text into parts that the other text has, and parts that it has not.
 *
 * @param {string} text
 * @param {string} other
 * @returns {{text: string, same: boolean}[]}
 */
export function wordDiff(text, other) {
  const tokens = text.match(TOKENS) ?? [];
  const words = tokens.filter(isWord).slice(0, MOST_WORDS);
  const kept = common(words, (other.match(TOKENS) ?? []).filter(isWord).slice(0, MOST_WORDS));
  let at = 0;
  const flags = tokens.map((token) => (isWord(token) ? (at < words.length ? kept[at++] : true) : null));
  /** @type {{text: string, same: boolean}[]} */
  const parts = [];
  for (const [place, token] of tokens.entries()) {
    // Space is marked where words on both sides of it are.
    const same = flags[place] ?? ((flags[place - 1] ?? true) || (flags[place + 1] ?? true));
    const last = parts.at(-1);
    if (last && last.same === same) last.text += token;
    else parts.push({ text: token, same });
  }
  return parts;
}

/** @param {string} token */
function isWord(token) {
  return token.trim() !== "";
}

/**
 * Which words of the first list are in the longest sequence that both have.
 *
 * @param {string[]} a
 * @param {string[]} b
 */
function common(a, b) {
  const width = b.length + 1;
  const lengths = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const skip = Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
      lengths[i * width + j] = a[i] === b[j] ? lengths[(i + 1) * width + j + 1] + 1 : skip;
    }
  }
  const kept = new Array(a.length).fill(false);
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) {
      kept[i++] = true;
      j++;
    } else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i++;
    else j++;
  }
  return kept;
}
