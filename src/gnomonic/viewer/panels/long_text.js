/** Very long texts, laid out by the piece as one reads on: a browser stands still over megabytes at once. */

import { el } from "../dom.js";

const PIECE = 16_000;
const AHEAD_PX = 600;

/**
 * A box that scrolls through a text.
 *
 * @param {string} text
 * @returns {HTMLElement}
 */
export function longText(text) {
  const box = el("div", { class: "long-text", tabindex: "0", dir: "auto" });
  let at = 0;
  const more = () => {
    while (at < text.length && box.scrollTop + box.clientHeight + AHEAD_PX > box.scrollHeight) {
      const end = pieceEnd(text, at);
      box.append(el("div", { dir: "auto" }, text.slice(at, end)));
      at = end;
      // Without a size, such as before it is in the page, the first piece is enough.
      if (!box.clientHeight) break;
    }
  };
  box.addEventListener("scroll", more, { passive: true });
  more();
  requestAnimationFrame(more);
  return box;
}

/**
 * Where to end a piece: after a line, else after a word, and never within a character.
 *
 * @param {string} text
 * @param {number} begin
 * @returns {number}
 */
export function pieceEnd(text, begin) {
  const most = begin + PIECE;
  if (most >= text.length) return text.length;
  for (const mark of ["\n", " "]) {
    const found = text.lastIndexOf(mark, most - 1);
    if (found > begin + PIECE / 2) return found + 1;
  }
  const code = text.charCodeAt(most);
  return code >= 0xdc00 && code <= 0xdfff ? most - 1 : most;
}
