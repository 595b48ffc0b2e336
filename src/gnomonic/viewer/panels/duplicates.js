/** Rows that say the same: how alike they must be, which is kept, and which could go. Nothing is deleted here. */

import { Bits } from "../bits.js";
import { debounced, el, fill, whole } from "../dom.js";
import { duplicateGroup, shownOf, LONGEST } from "./parts/duplicate_group.js";
import { titleOf } from "./parts/columns.js";
import { onceOpen } from "./parts/opening.js";
import { button, emptyState, onlyLatest, problem, skeleton } from "./parts/states.js";
import { titleFields } from "./row_fields.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").ColumnInfo} ColumnInfo */
/** @typedef {import("../types.js").DuplicateGroups} DuplicateGroups */

const PAGE = 10;
const QUIET_MS = 200;
/** Widest cut-off, as a share of half a turn: beyond, rows are no duplicates in any sense. */
const WIDEST = 0.3;

const RULES = [
  ["first", "the first of the dataset"],
  ["longest", "the longest text"],
  ["newest", "the newest, by"],
  ["central", "the one most like all others"],
];

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  const panel = new Duplicates(app);
  onceOpen(app, "duplicates", () => panel.open());
  return panel.element;
}

class Duplicates {
  #offset = 0;
  /** @type {string[]} */
  #urls = [];
  #later = debounced(() => this.load(), QUIET_MS);

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    const { map } = app.view;
    const own = Number(map.options.duplicates?.duplicate_cutoff ?? 0.1);
    this.angles = map.metric !== "euclidean";
    const wanted = this.angles ? Math.max(WIDEST, own) : Math.max(3 * own, 1e-6);
    const widest = Math.min(wanted, app.view.can.duplicates_up_to ?? wanted);
    this.latest = onlyLatest(app.signal);
    this.slider = el("input", { type: "range", min: 0, max: widest, step: widest / 120, "aria-label": "How alike" });
    this.slider.value = String(own);
    this.readout = el("output", { class: "number" });
    this.alike = el("p", { class: "muted small" });
    this.keep = el(
      "select",
      { "aria-label": "Which row is kept" },
      ...RULES.map(([value, text]) => el("option", { value }, text)),
    );
    this.by = el("select", { "aria-label": "Newest by which field", hidden: true });
    this.counts = el("div", { class: "duplicate-counts", role: "status" });
    this.groups = el("div", { class: "duplicate-groups" });
    this.actions = el(
      "div",
      { class: "row actions" },
      button("Select what could go", () => this.#select(), { class: "primary" }),
      button("Hide it", () => this.#hide()),
    );
    this.element = el(
      "div",
      { class: "duplicates" },
      el("label", { class: "slider-line" }, el("span", {}, "Cut-off"), this.slider, this.readout),
      this.alike,
      el("label", { class: "keep-line" }, el("span", {}, "Keep"), this.keep, this.by),
      this.counts,
      this.actions,
      el(
        "p",
        { class: "muted small" },
        "Nothing is deleted here. Tag or export the rows, and delete them from the dataset by their ids.",
      ),
      this.groups,
    );
    this.slider.addEventListener("input", () => this.#changed());
    this.keep.addEventListener("change", () => this.#changed());
    this.by.addEventListener("change", () => this.#changed());
    this.#tellCutoff();
  }

  async open() {
    const columns = await this.app.source.columns().catch(() => /** @type {ColumnInfo[]} */ ([]));
    const numbers = columns.filter(
      ({ kind, name }) => ["date", "integer", "number"].includes(kind) && !name.startsWith("_"),
    );
    numbers.sort((a, b) => Number(b.kind === "date") - Number(a.kind === "date"));
    fill(
      this.by,
      numbers.map(({ name }) => el("option", { value: name }, titleOf(name))),
    );
    const newest = this.keep.querySelector("option[value=newest]");
    if (!numbers.length) newest?.remove();
    this.load();
  }

  get rule() {
    const keep = this.keep.value;
    return { cutoff: Number(this.slider.value), keep, by: keep === "newest" ? this.by.value : null };
  }

  async load() {
    const options = { ...this.rule, offset: this.#offset, limit: PAGE };
    this.element.setAttribute("aria-busy", "true");
    if (!this.groups.children.length) fill(this.groups, skeleton(6));
    try {
      const found = await this.latest((signal) => this.app.source.duplicateGroups({ ...options, signal }));
      if (found) await this.#show(found);
    } catch (error) {
      fill(this.counts);
      fill(
        this.groups,
        problem(error, () => this.load()),
      );
      this.actions.hidden = true;
    }
    this.element.setAttribute("aria-busy", "false");
  }

  #changed() {
    this.#offset = 0;
    this.by.hidden = this.keep.value !== "newest";
    this.#tellCutoff();
    this.#later();
  }

  #tellCutoff() {
    const { cutoff } = this.rule;
    this.readout.textContent = cutoff.toFixed(this.angles ? 3 : 4);
    const cosine = Math.cos(Math.PI * Math.min(1, cutoff));
    this.alike.textContent = !this.angles
      ? "Rows at most this far from the one that is kept."
      : cutoff === 0
        ? "Only rows whose vectors are equal."
        : `Rows with a cosine similarity of ${cosine.toFixed(3)} or more to the one that is kept.`;
    this.slider.setAttribute("aria-valuetext", `${this.readout.textContent}. ${this.alike.textContent}`);
  }

  /** @param {DuplicateGroups} found */
  async #show(found) {
    const number = (/** @type {number} */ count, /** @type {string} */ text) =>
      el("div", {}, el("strong", { class: "big number" }, whole(count)), el("span", { class: "muted small" }, text));
    fill(
      this.counts,
      number(found.groups, found.groups === 1 ? "group" : "groups"),
      number(found.rows, "rows in them"),
      number(found.deletable, "could go"),
    );
    this.actions.hidden = !found.deletable;
    if (!found.groups) {
      this.#replace([
        emptyState(
          "No duplicates",
          el("p", {}, "No two rows are this alike. Move the cut-off to the right to look for looser ones."),
        ),
      ]);
      return;
    }
    const { app } = this;
    const positions = found.page.flatMap(shownOf);
    const columns = titleFields(app.view);
    const read = await this.latest((signal) => app.source.rows(positions, { columns, longest: LONGEST, signal }));
    if (!read) return;
    const rows = new Map(read.flatMap((row) => (row ? [[row.position, row]] : [])));
    const urls = /** @type {string[]} */ ([]);
    const onUrl = (/** @type {string} */ url) => void urls.push(url);
    const made = found.page.map((group) => duplicateGroup(app, group, rows, onUrl));
    this.#replace([...made, this.#pages(found.groups)]);
    this.#urls = urls;
  }

  /** @param {(HTMLElement | null)[]} children */
  #replace(children) {
    for (const url of this.#urls) URL.revokeObjectURL(url);
    this.#urls = [];
    fill(this.groups, children);
  }

  /** @param {number} groups */
  #pages(groups) {
    if (groups <= PAGE) return null;
    const turn = (/** @type {number} */ by) => {
      this.#offset = Math.max(0, this.#offset + by);
      this.groups.scrollIntoView({ block: "start" });
      this.load();
    };
    const last = Math.min(groups, this.#offset + PAGE);
    return el(
      "nav",
      { class: "row pages", "aria-label": "Pages of groups" },
      button("Earlier", () => turn(-PAGE), { disabled: this.#offset === 0 }),
      el("span", { class: "muted small number" }, `${whole(this.#offset + 1)} to ${whole(last)} of ${whole(groups)}`),
      button("Later", () => turn(PAGE), { disabled: last >= groups }),
    );
  }

  #select() {
    return this.app.actions.selectWhere({ duplicates: this.rule }, "duplicates that could go");
  }

  async #hide() {
    const { actions, source, store, manifest } = this.app;
    const found = await actions.attempt(source.filter({ duplicates: this.rule }), "They cannot be hidden");
    if (!found) return;
    const { filters } = store.state;
    const others = filters.bits ? Bits.fromBase64(manifest.count, filters.bits) : Bits.full(manifest.count);
    await actions.filter({ ...filters, bits: others.without(found).toBase64() });
    actions.say("Duplicates are hidden; the panel of filters shows them again", "success");
  }
}
