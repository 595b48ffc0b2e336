/** Which fields the card beside the pointer shows; kept by the browser for each data set. */

import { el } from "../dom.js";

/** @typedef {import("../types.js").App} App */

export const TOPIC = "_topic";
export const IMAGE = "_image";
const MOST = 8;

/** @type {WeakMap<App, CardFields>} */
const made = new WeakMap();

/** The app's choice. @param {App} app */
export function cardFieldsOf(app) {
  const kept = made.get(app) ?? new CardFields(app);
  made.set(app, kept);
  return kept;
}

export class CardFields {
  #app;
  #key;
  /** @type {Set<() => void>} */
  #listeners = new Set();

  /** @param {App} app */
  constructor(app) {
    this.#app = app;
    this.#key = `gnomonic-card:${app.view.dataset.identifier}`;
    /** @type {string[]} */
    this.chosen = read(this.#key)?.filter((name) => this.choices().some((one) => one.name === name)) ?? this.#usual();
  }

  /** What can be chosen; the title is always there. */
  choices() {
    const { view } = this.#app;
    const fields = view.fields.filter(({ name }) => name !== view.title_field);
    return [
      { name: TOPIC, label: "Topic" },
      ...(view.can.images ? [{ name: IMAGE, label: "Image" }] : []),
      ...fields.map(({ name }) => ({ name, label: name })),
    ];
  }

  /** @param {() => void} run */
  follow(run) {
    this.#listeners.add(run);
  }

  /** @param {string} name @param {boolean} on */
  toggle(name, on) {
    this.chosen = on ? [...this.chosen, name] : this.chosen.filter((one) => one !== name);
    try {
      localStorage.setItem(this.#key, JSON.stringify(this.chosen));
    } catch {
      // A browser that keeps nothing still shows them until the page is left.
    }
    for (const run of this.#listeners) run();
  }

  /** A list of boxes to tick. */
  element() {
    const boxes = this.choices().map(({ name, label }) => {
      const box = el("input", { type: "checkbox", checked: this.chosen.includes(name) });
      box.addEventListener("change", () => {
        this.toggle(name, box.checked);
        for (const one of boxes) one.box.disabled = !one.box.checked && this.chosen.length >= MOST;
      });
      return { box, line: el("label", { class: "check" }, box, el("span", { dir: "auto" }, label)) };
    });
    return el(
      "details",
      { class: "card-fields" },
      el("summary", {}, "Shown on hovering"),
      el(
        "div",
        { class: "card-fields-list", role: "group", "aria-label": "Fields shown on hovering" },
        boxes.map((one) => one.line),
      ),
    );
  }

  #usual() {
    const { view } = this.#app;
    const text = view.text_field !== null && view.text_field !== view.title_field ? [view.text_field] : [];
    return [...(view.can.images ? [IMAGE] : []), ...text, TOPIC];
  }
}

/** @param {string} key @returns {string[] | null} */
function read(key) {
  try {
    const told = JSON.parse(localStorage.getItem(key) ?? "null");
    return Array.isArray(told) ? told.filter((name) => typeof name === "string").slice(0, MOST) : null;
  } catch {
    return null;
  }
}
