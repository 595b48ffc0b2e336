/** What a panel shows when it has nothing to show, not yet, or not any more. */

import { el } from "../../dom.js";

/** @typedef {import("../../dom.js").Child} Child */

/**
 * Why there is nothing here, and what one can do.
 *
 * @param {string} title
 * @param {Child[]} children
 */
export function emptyState(title, ...children) {
  return el("div", { class: "empty-state" }, el("h3", {}, title), ...children);
}

/** Grey lines where text will be. @param {number} lines */
export function skeleton(lines) {
  const made = Array.from({ length: lines }, () => el("div", { class: "skeleton-line" }));
  return el("div", { class: "skeleton", role: "status", "aria-label": "Loading" }, ...made);
}

/**
 * What went wrong, and a way to try again.
 *
 * @param {unknown} error
 * @param {() => void} retry
 */
export function problem(error, retry) {
  const message = error instanceof Error ? error.message : String(error);
  return el(
    "div",
    { class: "problem", role: "alert" },
    el("p", {}, message),
    el("button", { type: "button", class: "button", "on:click": retry }, "Try again"),
  );
}

/**
 * A button with a text.
 *
 * @param {string} text
 * @param {() => void} run
 * @param {Record<string, unknown>} [attributes]  "class" is added to that of all buttons.
 */
export function button(text, run, attributes = {}) {
  const { class: more = "", ...rest } = attributes;
  return el("button", { type: "button", class: `button ${more}`.trim(), "on:click": run, ...rest }, text);
}

/**
 * Runs one thing at a time: a newer one ends the older. Answers null where that happened.
 *
 * @param {AbortSignal} ending
 * @returns {<T>(work: (signal: AbortSignal) => Promise<T>) => Promise<T | null>}
 */
export function onlyLatest(ending) {
  /** @type {AbortController | null} */
  let current = null;
  ending.addEventListener("abort", () => current?.abort());
  return async (work) => {
    current?.abort();
    const mine = new AbortController();
    current = mine;
    try {
      const made = await work(mine.signal);
      return mine.signal.aborted ? null : made;
    } catch (error) {
      if (mine.signal.aborted) return null;
      throw error;
    }
  };
}
