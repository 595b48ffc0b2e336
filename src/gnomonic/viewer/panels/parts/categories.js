/** The values of a category or a bool with how many rows have them, to choose among. */

import { debounced, el, fill, whole } from "../../dom.js";
import { button } from "./states.js";

/** @typedef {import("../../types.js").ColumnInfo} ColumnInfo */
/** @typedef {import("../../types.js").ColumnCounts} ColumnCounts */
/** @typedef {import("../../types.js").Dictionary} Dictionary */
/** @typedef {import("../../types.js").FieldFilter} FieldFilter */
/** @typedef {{code: number, name: string, count: number | null}} Line  Code -1: no value. */

const TOP = 10;
const MORE = 30;
const NONE = -1;

export class Categories {
  #wanted = TOP;
  /** @type {FieldFilter | null} */
  #filter = null;
  /** @type {Map<number, number>} */
  #counts = new Map();
  #complete = false;
  #whole = false;
  #nulls = 0;

  /**
   * @param {ColumnInfo} column
   * @param {Dictionary} dictionary
   * @param {(filter: FieldFilter | null) => void} onFilter
   */
  constructor(column, dictionary, onFilter) {
    this.column = column;
    this.dictionary = dictionary;
    this.onFilter = onFilter;
    this.list = el("div", { class: "bars", role: "group", "aria-label": `Values of ${column.name}` });
    this.foot = el("div", { class: "row bars-foot" });
    this.search = el("input", {
      type: "search",
      placeholder: `Find among ${whole(column.distinct ?? dictionary.names.length)} values`,
      "aria-label": `Find a value of ${column.name}`,
      "on:input": debounced(() => this.#draw(), 100),
    });
    this.search.hidden = dictionary.names.length <= TOP;
    this.element = el("div", { class: "categories" }, this.search, this.list, this.foot);
    this.update(null, null);
  }

  /**
   * @param {FieldFilter | null} filter
   * @param {ColumnCounts | null} counts  Null: those of the whole map.
   */
  update(filter, counts) {
    this.#filter = filter;
    this.#whole = counts === null;
    if (counts && "codes" in counts) {
      this.#counts = new Map(counts.codes.map((code, at) => [code, counts.counts[at]]));
      this.#complete = counts.other === 0;
      this.#nulls = counts.nulls;
    } else {
      const told = counts ? counts.bins : this.dictionary.counts;
      this.#counts = new Map(told.map((count, code) => [code, count]));
      this.#complete = true;
      this.#nulls = counts ? counts.nulls : this.column.nulls;
    }
    this.#draw();
  }

  /** @returns {{lines: Line[], more: number}} */
  #lines() {
    const { names } = this.dictionary;
    const line = (/** @type {number} */ code) => ({
      code,
      name: names[code] ?? `value ${code}`,
      count: this.#counts.get(code) ?? (this.#complete ? 0 : null),
    });
    const letters = this.search.value.trim().toLocaleLowerCase();
    if (letters) {
      const found = [];
      for (let code = 0; code < names.length && found.length <= this.#wanted; code++) {
        if (names[code].toLocaleLowerCase().includes(letters)) found.push(code);
      }
      return {
        lines: found.slice(0, this.#wanted).map(line),
        more: found.length - Math.min(found.length, this.#wanted),
      };
    }
    const ranked = this.#ranked();
    const top = ranked.slice(0, this.#wanted);
    const chosen = this.#filter?.codes ?? [];
    // What is chosen stays in sight, unless that is nearly everything.
    const pinned = chosen.length <= TOP ? chosen.filter((code) => !top.includes(code)) : [];
    const lines = [...pinned, ...top].map(line);
    if (this.column.nulls) lines.push({ code: NONE, name: "No value", count: this.#nulls });
    return { lines, more: Math.max(0, (this.column.distinct ?? names.length) - top.length - pinned.length) };
  }

  /** Codes, the most frequent first: one more than are shown, if there are. */
  #ranked() {
    const counts = this.#counts;
    const { names } = this.dictionary;
    // Codes are in the order of how often they are in the whole map.
    if (this.#whole) return [...names.keys()].slice(0, this.#wanted + 1);
    const ranked = [...counts.keys()].sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0) || a - b);
    for (let code = 0; code < names.length && ranked.length <= this.#wanted; code++) {
      if (!counts.has(code)) ranked.push(code);
    }
    return ranked;
  }

  #draw() {
    const { lines, more } = this.#lines();
    const most = Math.max(1, ...lines.map(({ count }) => count ?? 0));
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.code : undefined;
    const inside = this.list.contains(document.activeElement);
    fill(
      this.list,
      lines.map((line) => this.#line(line, most)),
    );
    if (inside && focused !== undefined) {
      /** @type {HTMLElement | null} */ (this.list.querySelector(`[data-code="${focused}"]`))?.focus();
    }
    const foot = [];
    if (!lines.length) foot.push(el("span", { class: "muted small" }, "No value has these letters."));
    if (more && this.#wanted < 200) {
      foot.push(
        button(this.search.value ? "Show more" : `${whole(more)} more`, () => this.#showMore(), { class: "quiet" }),
      );
    }
    if (this.#canInvert()) foot.push(button("All but these", () => this.#invert(), { class: "quiet" }));
    fill(this.foot, foot);
  }

  /**
   * @param {Line} line
   * @param {number} most
   */
  #line({ code, name, count }, most) {
    const filter = this.#filter;
    const checked = code === NONE ? filter?.nulls === true : (filter?.codes?.includes(code) ?? false);
    const bar = el("span", { class: "bar-fill", "aria-hidden": "true", hidden: !count });
    bar.style.width = `${((100 * (count ?? 0)) / most).toFixed(1)}%`;
    const box = el("input", { type: "checkbox", "data-code": code, "on:change": () => this.#toggle(code) });
    box.checked = checked;
    const shown = name === "" ? "(empty)" : name;
    return el(
      "label",
      { class: `bar-line${filter && !checked ? " off" : ""}${code === NONE ? " none" : ""}`, title: shown },
      bar,
      box,
      el("span", { class: "bar-name", dir: "auto" }, shown),
      el("span", { class: "bar-count number" }, count === null ? "" : whole(count)),
    );
  }

  /** @param {number} code */
  #toggle(code) {
    const codes = new Set(this.#filter?.codes ?? []);
    let nulls = this.#filter?.nulls ?? false;
    if (code === NONE) nulls = !nulls;
    else if (!codes.delete(code)) codes.add(code);
    this.#send(
      [...codes].sort((a, b) => a - b),
      nulls,
    );
  }

  #canInvert() {
    const { names } = this.dictionary;
    // Values that the dictionary does not list have codes that cannot be told.
    return this.#filter !== null && (this.column.distinct ?? names.length) <= names.length;
  }

  #invert() {
    const chosen = new Set(this.#filter?.codes ?? []);
    const codes = [...this.dictionary.names.keys()].filter((code) => !chosen.has(code));
    this.#send(codes, this.column.nulls > 0 && !this.#filter?.nulls);
  }

  #showMore() {
    this.#wanted += MORE;
    this.#draw();
  }

  /**
   * @param {number[]} codes
   * @param {boolean} nulls
   */
  #send(codes, nulls) {
    this.#filter = codes.length || nulls ? { column: this.column.name, codes, nulls } : null;
    this.#draw();
    this.onFilter(this.#filter);
  }
}
