/** Tags: names for sets of rows, kept in the dataset; every change can be taken back. */

import { el, fill, whole } from "../dom.js";
import { rowsText } from "./parts/columns.js";
import { without } from "./parts/conditions.js";
import { flyTo } from "./parts/fly.js";
import { onKeys } from "./parts/keys.js";
import { afterPoints } from "./parts/opening.js";
import { button, emptyState, problem, skeleton } from "./parts/states.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Tag} Tag */
/** @typedef {{text: string, run: () => Promise<unknown>}} Undo */

const MOST_UNDONE = 50;
const LONGEST_NAME = 200;

/** A page may show more than one map. */
let made = 0;

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  const panel = new Tags(app);
  // Others may tag too, so they are read each time that somebody looks.
  const look = () => void (app.store.state.panel === "tags" && afterPoints(app).then(() => panel.load()));
  app.store.follow(["panel"], look, { now: true, signal: app.signal });
  return panel.element;
}

class Tags {
  /** @type {Tag[]} */
  #tags = [];
  /** @type {Undo[]} */
  #done = [];
  #busy = false;

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    const { store, signal, view } = app;
    this.input = el("input", {
      name: "tag",
      type: "text",
      maxlength: LONGEST_NAME,
      list: `gnomonic-tags-${made}`,
      placeholder: "Name of a tag",
      "aria-label": "Name of a tag",
      autocomplete: "off",
      dir: "auto",
    });
    this.names = el("datalist", { id: `gnomonic-tags-${made++}` });
    this.apply = el("button", { class: "button primary" }, "Tag");
    this.form = el("form", { class: "tag-form", hidden: !view.can.edit }, this.input, this.names, this.apply);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#change(this.input.value.trim(), false);
    });
    this.hint = el("p", { class: "muted small" });
    this.undo = button("Undo", () => this.undoLast(), { class: "quiet", hidden: true });
    this.list = el("ul", { class: "tag-list", "aria-label": "Tags" });
    this.body = el("div", {}, skeleton(4));
    this.element = el("div", { class: "tags-panel" }, this.form, this.hint, this.undo, this.body);
    store.follow(["selection"], () => this.#follow(), { now: true, signal });
    this.input.addEventListener("input", () => this.#follow());
    onKeys(app, (event) => {
      if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || !this.#done.length)
        return;
      event.preventDefault();
      this.undoLast();
    });
  }

  async load() {
    try {
      this.#tags = await this.app.source.tags();
      this.#draw();
    } catch (error) {
      fill(
        this.body,
        problem(error, () => this.load()),
      );
    }
  }

  /** What the form would do now. */
  #follow() {
    const count = this.app.store.state.selection?.count() ?? 0;
    const { edit } = this.app.view.can;
    this.apply.textContent = count ? `Tag ${rowsText(count)}` : "Tag";
    this.apply.disabled = !count || !this.input.value.trim() || this.#busy;
    this.hint.textContent = edit
      ? count
        ? ""
        : "Select rows first: with the lasso, by a topic, by a search."
      : "Tags of this map can be looked at here, but not changed.";
    this.hint.hidden = !this.hint.textContent;
    for (const made of this.list.querySelectorAll("button[data-needs-selection]")) {
      /** @type {HTMLButtonElement} */ (made).disabled = !count || this.#busy;
    }
  }

  #draw() {
    fill(
      this.names,
      this.#tags.map(({ name }) => el("option", { value: name })),
    );
    const sorted = [...this.#tags].sort((a, b) => a.name.localeCompare(b.name));
    fill(
      this.list,
      sorted.map((tag) => el("li", { class: "tag", "data-tag": tag.name }, ...this.#line(tag))),
    );
    fill(this.body, this.#tags.length ? this.list : this.#none());
    const last = this.#done.at(-1);
    this.undo.hidden = !last;
    this.undo.textContent = last ? `Undo: ${last.text}` : "Undo";
    this.#follow();
  }

  #none() {
    const kept =
      this.app.source.kind === "server"
        ? "It is kept in the dataset, over all of its maps."
        : "In this exported copy it is kept in your browser.";
    return emptyState(
      "No tags yet",
      el("p", {}, "A tag marks rows for later: to review, wrong, for the test set. ", kept),
    );
  }

  /** @param {Tag} tag */
  #line({ name, rows }) {
    const { edit } = this.app.view.can;
    const small = (/** @type {string} */ text, /** @type {string} */ label, /** @type {() => void} */ run, more = {}) =>
      button(text, run, { class: "icon quiet", "aria-label": label, title: label, ...more });
    const needs = { "data-needs-selection": true };
    return [
      el(
        "button",
        {
          type: "button",
          class: "tag-name",
          title: `Select the rows tagged ${name}`,
          "on:click": () => this.#show(name),
        },
        el("bdi", {}, name),
      ),
      el("span", { class: "number muted" }, whole(rows)),
      edit ? small("+", `Tag the selection ${name}`, () => this.#change(name, false), needs) : null,
      edit ? small("−", `Take the tag ${name} off the selection`, () => this.#change(name, true), needs) : null,
      edit ? small("×", `Delete the tag ${name}`, () => this.#confirm(name, rows)) : null,
    ];
  }

  /** @param {string} name */
  async #show(name) {
    await this.app.actions.selectWhere({ tags: [name] }, `tag ${name}`);
    await flyTo(this.app, this.app.store.state.selection);
  }

  /**
   * @param {string} name
   * @param {boolean} remove
   */
  async #change(name, remove) {
    const { store, source, actions } = this.app;
    const { selection } = store.state;
    if (!name || !selection || this.#busy) return;
    const isNew = !this.#tags.some((tag) => tag.name === name);
    const change = await this.#work(source.tag(name, actions.conditionsOf(selection), remove), "Tagging failed");
    if (!change) return;
    const count = change.changed.count();
    if (!remove) this.input.value = "";
    await this.#changed();
    if (!count) {
      actions.say(remove ? `None of them has the tag “${name}”` : `All of them have the tag “${name}” already`);
      return;
    }
    const text = remove ? `took “${name}” off ${rowsText(count)}` : `tagged ${rowsText(count)} “${name}”`;
    const bits = change.changed.toBase64();
    this.#remember(text, async () => {
      const undone = await source.tag(name, { bits }, !remove);
      if (isNew && !undone.rows) await source.deleteTag(name);
      return undone;
    });
  }

  /**
   * Asks in the tag's own line: a window in the way would stop the page.
   *
   * @param {string} name
   * @param {number} rows
   */
  #confirm(name, rows) {
    const line = [...this.list.children].find((one) => one instanceof HTMLElement && one.dataset.tag === name);
    if (!line) return;
    const no = button("Keep it", () => this.#draw());
    for (const made of line.querySelectorAll(".button")) made.remove();
    line.append(
      el("span", { class: "tag-question" }, `Delete this tag of ${rowsText(rows)}?`),
      button("Delete", () => this.#delete(name, rows), { class: "danger" }),
      no,
    );
    no.focus();
  }

  /**
   * @param {string} name
   * @param {number} total  Rows of the dataset that have it.
   */
  async #delete(name, total) {
    const { source } = this.app;
    // Its rows are kept for as long as the page is open, so that this too can be undone.
    const rows = await this.#work(source.filter({ tags: [name] }), "The tag cannot be deleted");
    if (!rows) return;
    const deleted = await this.#work(
      source.deleteTag(name).then(() => true),
      "The tag cannot be deleted",
    );
    if (!deleted) return;
    await this.#changed();
    const bits = rows.toBase64();
    const others = total - rows.count();
    const lost = others > 0 ? `; ${rowsText(others)} not on this map cannot get it back` : "";
    this.#remember(`deleted the tag “${name}”${lost}`, () => source.tag(name, { bits }));
  }

  /**
   * @param {string} text
   * @param {Undo["run"]} run
   */
  #remember(text, run) {
    const undo = { text, run };
    this.#done.push(undo);
    if (this.#done.length > MOST_UNDONE) this.#done.shift();
    this.#draw();
    const said = text[0].toUpperCase() + text.slice(1);
    this.app.actions.say(said, "success", { label: "Undo", run: () => void this.#undo(undo) });
  }

  undoLast() {
    const last = this.#done.at(-1);
    if (last) this.#undo(last);
  }

  /** @param {Undo} undo */
  async #undo(undo) {
    // Its message may still be there when it was undone by key.
    if (!this.#done.includes(undo) || this.#busy) return;
    const done = await this.#work(undo.run(), "It cannot be undone");
    if (!done) return;
    this.#done = this.#done.filter((one) => one !== undo);
    await this.#changed();
    this.app.actions.say(`Undone: ${undo.text}`);
  }

  /**
   * @template T
   * @param {Promise<T>} work
   * @param {string} what
   */
  async #work(work, what) {
    this.#busy = true;
    this.#follow();
    const made = await this.app.actions.attempt(work, what);
    this.#busy = false;
    this.#follow();
    return made;
  }

  async #changed() {
    await this.load();
    this.app.root.dispatchEvent(new CustomEvent("gnomonic:tags"));
    const { store, actions } = this.app;
    const { filters } = store.state;
    if (!filters.tags?.length) return;
    // What a filter by tags lets pass is another set of rows now; a tag that is gone lets none pass.
    const there = new Set(this.#tags.map(({ name }) => name));
    const tags = filters.tags.filter((name) => there.has(name));
    void actions.filter(tags.length ? { ...filters, tags } : without(filters, "tags"));
  }
}
