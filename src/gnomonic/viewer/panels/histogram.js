/** How many rows have which values of a number or date, with two handles that choose a range. */

import { debounced, el } from "../dom.js";
import { svg } from "../svg.js";
import { dateText, isShort, numberText, rowsText, valueText } from "./parts/columns.js";

/** @typedef {import("../types.js").ColumnInfo} ColumnInfo */
/** @typedef {import("../types.js").ColumnCounts} ColumnCounts */
/** @typedef {import("../types.js").FieldFilter} FieldFilter */

/** Steps of the handles where values have no steps of their own. */
const STEPS = 256;
const HEIGHT = 100;
const QUIET_MS = 150;

/**
 * @param {ColumnInfo} column
 * @param {(filter: FieldFilter | null) => void} onFilter
 */
export function createHistogram(column, onFilter) {
  return new Histogram(column, onFilter);
}

class Histogram {
  /** @type {FieldFilter | null} */
  #filter = null;
  /** @type {number[]} */
  #counts = [];
  /** Whether a change is not sent yet: the filters still are as they were before it. */
  #unsent = false;

  /**
   * @param {ColumnInfo} column
   * @param {(filter: FieldFilter | null) => void} onFilter
   */
  constructor(column, onFilter) {
    this.column = column;
    this.low = column.minimum ?? 0;
    this.high = column.maximum ?? 0;
    const bins = column.histogram.length;
    // Whole numbers with few steps have a bin each, and handles that stand between them.
    this.discrete = column.kind === "integer" && this.high - this.low + 1 === bins;
    // A step is at least one of whole numbers: a smaller one would end where it began.
    const whole = column.kind === "integer" ? Math.max(1, this.high - this.low) : STEPS;
    this.steps = this.discrete ? bins : Math.min(STEPS, whole);
    this.send = debounced(() => {
      this.#unsent = false;
      onFilter(this.#filter);
    }, QUIET_MS);
    this.widths = this.discrete ? null : wholeNumbers(column);
    this.all = svg("path", { class: "histogram-all", d: barsPath(column.histogram, this.widths) });
    this.passing = svg("path", { class: "histogram-passing" });
    this.outside = svg("path", { class: "histogram-outside" });
    this.drawing = svg(
      "svg",
      {
        class: "histogram-drawing",
        viewBox: `0 0 ${Math.max(1, bins)} ${HEIGHT}`,
        preserveAspectRatio: "none",
        "aria-hidden": "true",
      },
      this.all,
      this.passing,
      this.outside,
    );
    this.from = this.#handle("From");
    this.to = this.#handle("To");
    this.readout = el("p", { class: "histogram-readout muted small number" });
    this.fromInput = this.#input("From");
    this.toInput = this.#input("To");
    this.nulls = el("input", { type: "checkbox", "on:change": () => this.#setNulls() });
    this.nullCount = el("span", { class: "number muted" });
    this.element = this.#assembled();
    this.#listen();
    this.update(null, { bins: column.histogram, nulls: column.nulls });
  }

  /**
   * @param {FieldFilter | null} filter
   * @param {ColumnCounts | null} counts  Of the rows that the other filters let pass; null leaves what is shown.
   */
  update(filter, counts) {
    if (!this.#unsent) this.#filter = filter;
    if (counts && "bins" in counts) {
      this.#counts = counts.bins;
      this.nullCount.textContent = rowsText(counts.nulls);
    }
    this.#show();
  }

  #assembled() {
    const single = !(this.high > this.low);
    const track = el("div", { class: "histogram-track", hidden: single }, this.from, this.to);
    const fields = el("div", { class: "row histogram-fields", hidden: single }, this.fromInput, "to", this.toInput);
    const without = el("label", { class: "check" }, this.nulls, "Also rows without a value", this.nullCount);
    return el(
      "div",
      { class: "histogram" },
      el("div", { class: "histogram-picture" }, this.drawing, track),
      this.readout,
      fields,
      this.column.nulls ? without : null,
    );
  }

  /** @param {string} name */
  #handle(name) {
    const label = `${name}, of ${this.column.name}`;
    return el("input", { type: "range", min: 0, max: this.steps, step: 1, "aria-label": label });
  }

  /** @param {string} name */
  #input(name) {
    const date = this.column.kind === "date";
    const type = date ? (isShort(this.column) ? "datetime-local" : "date") : "number";
    return el("input", { type, step: "any", class: "small", "aria-label": `${name}, of ${this.column.name}` });
  }

  #listen() {
    const moved = (/** @type {boolean} */ lower) => {
      const a = Number(this.from.value);
      const b = Number(this.to.value);
      // Handles push each other along, one step apart.
      if (a >= b && lower) this.to.value = String(Math.min(this.steps, a + 1));
      if (a >= b && !lower) this.from.value = String(Math.max(0, b - 1));
      this.#setEdges(Number(this.from.value), Number(this.to.value));
    };
    this.from.addEventListener("input", () => moved(true));
    this.to.addEventListener("input", () => moved(false));
    this.fromInput.addEventListener("change", () =>
      this.#setRange(this.#typed(this.fromInput, false), this.#filter?.max ?? null),
    );
    this.toInput.addEventListener("change", () =>
      this.#setRange(this.#filter?.min ?? null, this.#typed(this.toInput, true)),
    );
    this.drawing.addEventListener("pointermove", (event) => this.#tell(event));
    this.drawing.addEventListener("pointerleave", () => this.#tell(null));
    this.drawing.addEventListener("pointerdown", (event) => this.#brush(event));
  }

  /** A range drawn over the bars. @param {PointerEvent} event */
  #brush(event) {
    if (event.button !== 0 || !(this.high > this.low)) return;
    const start = this.#edgeAt(event);
    this.drawing.setPointerCapture(event.pointerId);
    const move = (/** @type {PointerEvent} */ at) => {
      const edge = this.#edgeAt(at);
      if (Math.abs(edge - start) < 1) return;
      this.#setEdges(Math.floor(Math.min(start, edge)), Math.ceil(Math.max(start, edge)));
    };
    const end = () => this.drawing.removeEventListener("pointermove", move);
    this.drawing.addEventListener("pointermove", move);
    this.drawing.addEventListener("pointerup", end, { once: true });
    this.drawing.addEventListener("pointercancel", end, { once: true });
  }

  /** @param {PointerEvent} event */
  #edgeAt(event) {
    const { left, width } = this.drawing.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - left) / (width || 1))) * this.steps;
  }

  /** @param {number} edge */
  #valueAt(edge) {
    return this.low + ((this.high - this.low + (this.discrete ? 1 : 0)) * edge) / this.steps;
  }

  /**
   * @param {number} a  Steps from the left.
   * @param {number} b
   */
  #setEdges(a, b) {
    const whole = this.column.kind === "integer" || this.column.kind === "date";
    const min = this.#valueAt(a);
    const max = this.#valueAt(b) - (this.discrete ? 1 : 0);
    this.#setRange(
      a <= 0 ? null : whole ? Math.round(min) : min,
      b >= this.steps ? null : whole ? Math.round(max) : max,
    );
  }

  /**
   * @param {HTMLInputElement} input
   * @param {boolean} end
   */
  #typed(input, end) {
    if (!input.value) return null;
    if (this.column.kind !== "date") return Number.isFinite(Number(input.value)) ? Number(input.value) : null;
    const ms = Date.parse(`${input.value}Z`);
    if (Number.isNaN(ms)) return null;
    // A day, or a minute, is meant whole.
    return end ? ms + (input.type === "date" ? 86_400_000 : 60_000) - 1 : ms;
  }

  /**
   * @param {number | null} min
   * @param {number | null} max
   */
  #setRange(min, max) {
    // A range alone leaves out rows without a value; whoever wants them says so.
    const nulls = this.#filter?.nulls ?? false;
    this.#set(min === null && max === null ? null : { column: this.column.name, min, max, nulls });
  }

  #setNulls() {
    const { min = null, max = null } = this.#filter ?? {};
    const nulls = this.nulls.checked;
    const all = min === null && max === null && nulls;
    this.#set(all ? null : { column: this.column.name, min, max, nulls });
  }

  /** @param {FieldFilter | null} filter */
  #set(filter) {
    this.#filter = filter;
    this.#unsent = true;
    this.#show();
    this.send();
  }

  #show() {
    const { column } = this;
    const filter = this.#filter;
    const bins = Math.max(1, column.histogram.length);
    const span = this.high - this.low + (this.discrete ? 1 : 0);
    const edgeOf = (/** @type {number} */ value) => Math.max(0, Math.min(1, (value - this.low) / (span || 1)));
    const a = filter?.min == null ? 0 : edgeOf(filter.min);
    const b = filter?.max == null ? 1 : edgeOf(filter.max + (this.discrete ? 1 : 0));
    this.passing.setAttribute("d", barsPath(this.#counts, this.widths));
    this.outside.setAttribute("d", `M0 0H${a * bins}V${HEIGHT}H0ZM${b * bins} 0H${bins}V${HEIGHT}H${b * bins}Z`);
    this.from.value = String(Math.round(a * this.steps));
    this.to.value = String(Math.round(b * this.steps));
    this.from.setAttribute("aria-valuetext", valueText(column, filter?.min ?? this.low));
    this.to.setAttribute("aria-valuetext", valueText(column, filter?.max ?? this.high));
    setInput(this.fromInput, column, filter?.min ?? null, this.low);
    setInput(this.toInput, column, filter?.max ?? null, this.high);
    this.nulls.checked = !filter || filter.nulls === true;
    this.#tell(null);
  }

  /** What is below the pointer, in numbers. @param {PointerEvent | null} event */
  #tell(event) {
    const bins = this.#counts.length;
    if (!event || !bins) {
      const { column } = this;
      this.readout.textContent =
        this.high > this.low
          ? `${valueText(column, this.low)} to ${valueText(column, this.high)}`
          : column.minimum === null
            ? "No values"
            : `Always ${valueText(column, this.low)}`;
      return;
    }
    const at = Math.min(bins - 1, Math.floor((this.#edgeAt(event) / this.steps) * bins));
    let from = this.low + ((this.high - this.low + (this.discrete ? 1 : 0)) * at) / bins;
    let to = this.low + ((this.high - this.low) * (at + 1)) / bins;
    if (this.widths) {
      from = Math.ceil(from);
      to = at === bins - 1 ? this.high : Math.max(from, Math.ceil(to) - 1);
    }
    const { column } = this;
    const one = this.discrete || (this.widths !== null && from === to);
    const range = one ? valueText(column, from) : `${valueText(column, from)} to ${valueText(column, to)}`;
    this.readout.textContent = `${range}: ${rowsText(this.#counts[at])}`;
  }
}

/**
 * @param {HTMLInputElement} input
 * @param {ColumnInfo} column
 * @param {number | null} value
 * @param {number} fallback  Said in grey where there is no value.
 */
function setInput(input, column, value, fallback) {
  // Counts may come while somebody types.
  if (document.activeElement === input) return;
  if (column.kind === "date") {
    const text = dateText(value ?? fallback, input.type !== "date").replace(" ", "T");
    input.value = text === "–" ? "" : text;
    input.classList.toggle("unset", value === null);
    return;
  }
  input.placeholder = numberText(fallback);
  input.value = value === null ? "" : String(Number(value.toPrecision(7)));
}

/**
 * How many whole numbers each bar stands for: of 120 years in 64 bars some have one year and some have two, and bars as
 * high as their counts would show a pattern that is not there. Null where it does not matter.
 *
 * @param {ColumnInfo} column
 * @returns {number[] | null}
 */
function wholeNumbers({ kind, minimum, maximum, histogram }) {
  const bins = histogram.length;
  if (kind !== "integer" || minimum === null || maximum === null || maximum - minimum > 100 * bins) return null;
  const first = (/** @type {number} */ at) => Math.ceil(minimum + ((maximum - minimum) * at) / bins);
  return histogram.map((_, at) => Math.max(1, first(at + 1) - first(at) + (at === bins - 1 ? 1 : 0)));
}

/**
 * Bars a unit wide, the highest of them as high as there is room.
 *
 * @param {number[]} counts
 * @param {number[] | null} widths  What counts are divided by.
 */
function barsPath(counts, widths) {
  const heights = widths ? counts.map((count, at) => count / widths[at]) : counts;
  const most = Math.max(Number.MIN_VALUE, ...heights);
  let path = "";
  for (const [at, value] of heights.entries()) {
    if (!value) continue;
    // Few rows are still some.
    const height = Math.max(2, (value / most) * HEIGHT);
    path += `M${at + 0.06} ${HEIGHT}V${(HEIGHT - height).toFixed(1)}H${at + 0.94}V${HEIGHT}Z`;
  }
  return path;
}
