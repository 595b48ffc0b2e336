/** What of the map is shown: by fields, topics, tags and conditions, each with counts of what the others leave. */

import { debounced, el, fill, whole } from "../dom.js";
import { createHistogram } from "./histogram.js";
import { Categories } from "./parts/categories.js";
import { fillChips } from "./parts/chips.js";
import { hintOf, isFilterable, isMade, rowsText, titleOf } from "./parts/columns.js";
import { fieldFilter, withField } from "./parts/conditions.js";
import { createCrossCounts } from "./parts/cross_counts.js";
import { createOtherFilters } from "./parts/other_filters.js";
import { afterPoints, whileOpen } from "./parts/opening.js";
import { button, emptyState, problem, skeleton } from "./parts/states.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").ColumnInfo} ColumnInfo */
/** @typedef {import("../types.js").ColumnCounts} ColumnCounts */
/** @typedef {import("../types.js").FieldFilter} FieldFilter */
/** @typedef {import("./parts/chips.js").Names} Names */
/** @typedef {{element: Element, update: (filter: FieldFilter | null, counts: ColumnCounts | null) => void}} Chart */

/** Cards that are open at first. */
const OPEN = 3;

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  const panel = new Filters(app);
  whileOpen(app, "filters", ["filters", "passing"], () => panel.refresh());
  return panel.element;
}

class Filters {
  /** @type {Card[]} */
  #cards = [];
  /** @type {Names} */
  #names = { columns: new Map(), values: new Map(), topics: new Map() };
  #loaded = false;
  /** @type {import("../types.js").Conditions | null} */
  #counted = null;
  #counting = debounced(() => this.#count(), 120);

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.count = el("p", { class: "filter-count number", role: "status" });
    this.clear = button("Clear all", () => app.actions.filter({}), { class: "quiet" });
    this.chips = el("ul", { class: "chips", "aria-label": "Filters that are on", hidden: true });
    this.cards = el("div", { class: "field-cards" }, skeleton(6));
    this.other = createOtherFilters(app);
    this.element = el(
      "div",
      { class: "filters" },
      el("div", { class: "filter-head" }, this.count, this.clear),
      this.chips,
      this.other.element,
      this.cards,
    );
    this.counts = createCrossCounts(app);
  }

  async refresh() {
    this.#show();
    if (!this.#loaded) await this.#load();
    this.#show();
    for (const card of this.#cards) card.followFilter();
    // Counts depend on the filters, not on what they turned out to let pass.
    if (this.app.store.state.filters !== this.#counted) this.#counting();
    await this.#nameCodes();
  }

  /** Names for the codes of filters that somebody else set: a link, the legend, the tree of topics. */
  async #nameCodes() {
    const { source, store } = this.app;
    const { columns, values } = this.#names;
    for (const { column: name, codes } of store.state.filters.fields ?? []) {
      const column = columns.get(name);
      if (!codes || !column || column.kind !== "category" || values.has(name)) continue;
      const dictionary = await source.dictionary(column).catch(() => null);
      if (!dictionary) continue;
      values.set(name, dictionary.names);
      this.#show();
    }
  }

  async #load() {
    this.#loaded = true;
    const { app } = this;
    try {
      const [columns, topics] = await Promise.all([app.source.columns(), app.source.topics().catch(() => [])]);
      const usable = columns.filter(isFilterable);
      // What the build made comes after what the user brought; ids are told apart by searching for them.
      const id = app.view.dataset.id_field;
      const rank = (/** @type {ColumnInfo} */ { name }) => (name === id ? 2 : Number(isMade(name)));
      usable.sort((a, b) => rank(a) - rank(b));
      this.#names.columns = new Map(columns.map((column) => [column.name, column]));
      this.#names.topics = new Map(topics.map((topic) => [topic.id, topic.name]));
      this.other.offer(
        columns.filter(({ name }) => name !== id),
        () => this.#show(),
      );
      const opened = () => {
        this.#show();
        this.#counting();
      };
      this.#cards = usable.map((column) => new Card(app, column, this.#names, opened));
      const first = this.#cards.filter(({ column }) => (column.distinct ?? 2) > 1).slice(0, OPEN);
      for (const card of this.#cards) if (first.includes(card) || card.filter) card.open();
      fill(this.cards, this.#cards.length ? this.#cards.map((card) => card.element) : [noColumns()]);
    } catch (error) {
      this.#loaded = false;
      fill(
        this.cards,
        problem(error, () => this.refresh()),
      );
    }
  }

  #show() {
    const { store, view } = this.app;
    const { filters, passing } = store.state;
    const active = Object.keys(filters).length > 0;
    const total = view.map.rows_now;
    const passed = passing ? passing.count() : total;
    this.count.textContent = passing
      ? `${whole(passed)} of ${rowsText(total)} pass`
      : `All ${rowsText(total)} are shown`;
    this.clear.hidden = !active;
    fillChips(this.app, this.chips, this.#names);
    this.other.update();
  }

  async #count() {
    this.#counted = this.app.store.state.filters;
    const open = this.#cards.filter((card) => card.isOpen);
    if (!open.length) return;
    try {
      const found = await this.counts(open.map((card) => card.column.name));
      for (const card of found ? open : []) card.setCounts(found?.get(card.column.name) ?? null);
      this.element.classList.remove("uncounted");
    } catch (error) {
      // The bars stay as they were; what failed is told once, not once a bar.
      this.element.classList.add("uncounted");
      this.app.actions.say(`Counting failed: ${error instanceof Error ? error.message : error}`, "error");
    }
  }
}

function noColumns() {
  return emptyState(
    "There are no fields to filter by",
    el(
      "p",
      {},
      "Numbers, dates, bools and short texts that repeat become filters here. This dataset has none of them.",
    ),
  );
}

/** A column that opens into bars or a histogram. */
class Card {
  isOpen = false;
  /** @type {Chart | null} */
  #chart = null;
  /** @type {ColumnCounts | null} */
  #counts = null;

  /**
   * @param {App} app
   * @param {ColumnInfo} column
   * @param {Names} names
   * @param {() => void} onOpen
   */
  constructor(app, column, names, onOpen) {
    this.app = app;
    this.column = column;
    this.names = names;
    this.onOpen = onOpen;
    this.body = el("div", { class: "field-body", hidden: true });
    this.head = el(
      "button",
      { type: "button", class: "field-head", "aria-expanded": "false", "on:click": () => this.#toggle() },
      el("span", { class: "twisty", "aria-hidden": "true" }),
      el("span", { class: "field-title", dir: "auto" }, titleOf(column.name)),
      el("span", { class: "field-kind muted small" }, kindText(column)),
    );
    this.reset = button("×", () => this.#send(null), {
      class: "icon quiet",
      "aria-label": `Remove the filter of ${titleOf(column.name)}`,
      title: "Remove this filter",
      hidden: true,
    });
    this.element = el(
      "section",
      { class: "field-card", "aria-label": titleOf(column.name), "data-column": column.name },
      el("div", { class: "field-top" }, this.head, this.reset),
      this.body,
    );
    this.followFilter();
  }

  get filter() {
    return fieldFilter(this.app.store.state.filters, this.column.name);
  }

  open() {
    if (!this.isOpen) this.#toggle();
  }

  followFilter() {
    const { filter } = this;
    this.element.classList.toggle("active", filter !== null);
    this.reset.hidden = filter === null;
    this.#chart?.update(filter, this.#counts);
  }

  /** @param {ColumnCounts | null} counts  Null for those of the whole map. */
  setCounts(counts) {
    this.#counts = counts ?? this.#wholeMap();
    this.#chart?.update(this.filter, this.#counts);
  }

  /** @returns {ColumnCounts | null} */
  #wholeMap() {
    const { kind, histogram, nulls } = this.column;
    return kind === "category" ? null : { bins: histogram, nulls };
  }

  async #toggle() {
    this.isOpen = !this.isOpen;
    this.head.setAttribute("aria-expanded", String(this.isOpen));
    this.body.hidden = !this.isOpen;
    if (!this.isOpen) return;
    if (!this.#chart) await this.#make();
    this.onOpen();
  }

  async #make() {
    const { app, column } = this;
    fill(this.body, skeleton(3));
    await afterPoints(app);
    const send = (/** @type {FieldFilter | null} */ filter) => this.#send(filter);
    try {
      /** @type {Chart} */
      let chart;
      if (column.kind === "category" || column.kind === "bool") {
        const dictionary =
          column.kind === "bool"
            ? { names: ["false", "true"], counts: column.histogram }
            : await app.source.dictionary(column);
        this.names.values.set(column.name, dictionary.names);
        chart = new Categories(column, dictionary, send);
      } else {
        chart = createHistogram(column, send);
      }
      this.#chart = chart;
      const hint = hintOf(column.name);
      fill(this.body, hint ? el("p", { class: "muted small" }, hint) : null, chart.element);
      this.followFilter();
    } catch (error) {
      fill(
        this.body,
        problem(error, () => this.#make()),
      );
    }
  }

  /** @param {FieldFilter | null} filter */
  #send(filter) {
    this.app.actions.filter(withField(this.app.store.state.filters, this.column.name, filter));
  }
}

/** @param {ColumnInfo} column */
function kindText({ kind, distinct }) {
  if (kind === "category") return distinct === 1 ? "1 value" : `${whole(distinct ?? 0)} values`;
  return { integer: "number", number: "number", date: "date", bool: "yes or no", text: "", other: "" }[kind];
}
