/** Elements, made of text and never of HTML: what a row holds cannot become part of the page. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Make an element.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [attributes]  "class", "on:click" and the like; true sets one without a value, and
 *   null, undefined and false leave it out.
 * @param {(Child | Child[])[]} children  Strings become text.
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on:")) made.addEventListener(name.slice(3), /** @type {EventListener} */ (value));
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  append(made, children);
  return made;
}

/**
 * @param {Element} parent
 * @param {(Child | Child[])[]} children
 */
function append(parent, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(typeof child === "number" ? String(child) : child);
  }
}

/**
 * Put other children into an element.
 *
 * @param {Element} parent
 * @param {(Child | Child[])[]} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}

/**
 * Call a function once things have been quiet for a while.
 *
 * @template {unknown[]} A
 * @param {(...args: A) => void} run
 * @param {number} [quietMs]
 * @returns {(...args: A) => void}
 */
export function debounced(run, quietMs = 150) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...args), quietMs);
  };
}

/** A whole number as people read it. @param {number} value */
export function whole(value) {
  return value.toLocaleString("en-US");
}

/** A share as a percentage. @param {number} share */
export function percent(share) {
  return `${(100 * share).toFixed(share < 0.0995 && share > 0 ? 1 : 0)} %`;
}

/**
 * A value of a row as text, whatever it is.
 *
 * @param {unknown} value
 * @returns {string}
 */
export function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
