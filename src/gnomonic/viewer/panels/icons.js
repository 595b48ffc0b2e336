/** Small pictures for buttons, drawn in the colour of the text around them. */

import { el } from "../dom.js";
import { icon as drawn } from "../svg.js";

const PATHS = {
  search: "M7 2.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 0 0 0-9M10.3 10.3L14 14",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  picture: "M2 3h12v10H2zM2 11l3.5-3.5 3 3L11 8l3 3M10.5 5.6a.6.6 0 1 0 .01 0",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  link:
    "M6.8 9.2l2.4-2.4M7.5 4.8l1.6-1.6a2.6 2.6 0 0 1 3.7 3.7l-1.6 1.6M8.5 11.2l-1.6 1.6a2.6 2.6 0 0 1-3.7-3.7l1.6-1.6",
  back: "M10 3L5 8l5 5",
  forward: "M6 3l5 5-5 5",
  down: "M3.5 6l4.5 4.5L12.5 6",
  up: "M3.5 10L8 5.5l4.5 4.5",
  copy: "M6 6h7.5v7.5H6zM10 6V2.5H2.5V10H6",
  spark: "M8 2l1.5 4.5L14 8l-4.5 1.5L8 14l-1.5-4.5L2 8l4.5-1.5z",
  sliders: "M2 4.5h6M12 4.5h2M10 2.7a1.8 1.8 0 1 0 .01 0M2 11.5h2M8 11.5h6M6 9.7a1.8 1.8 0 1 0 .01 0",
};

/** @typedef {keyof typeof PATHS} IconName */

/**
 * A picture; hidden from screen readers, which read the button's label.
 *
 * @param {IconName} name
 */
export function icon(name) {
  return drawn(PATHS[name]);
}

/**
 * A button of a picture alone.
 *
 * @param {IconName} name
 * @param {string} label  Read out, and shown on hovering.
 * @param {(event: MouseEvent) => void} run
 * @param {Record<string, unknown>} [attributes]
 * @returns {HTMLButtonElement}
 */
export function iconButton(name, label, run, attributes = {}) {
  const told = { class: "button icon", type: "button", "aria-label": label, title: label, "on:click": run };
  return el("button", { ...told, ...attributes }, icon(name));
}
