/** Filters that are not of one field: a condition, tags, and rows that are there more than once. */

import { el, fill } from "../../dom.js";
import { fieldFilter, withField, without } from "./conditions.js";
import { button } from "./states.js";

/** @typedef {import("../../types.js").App} App */
/** @typedef {import("../../types.js").ColumnInfo} ColumnInfo */

const CLASS_COLUMN = "_duplicate_class";
const DELETABLE = "deletion candidate";

/**
 * @param {App} app
 */
export function createOtherFilters(app) {
  const where = app.source.kind === "server" ? whereBox(app) : null;
  const duplicates = duplicateBox(app);
  const tags = tagChoice(app);
  return {
    element: el("div", { class: "other-filters" }, where?.element, tags.element, duplicates.element),
    /**
     * @param {ColumnInfo[]} columns
     * @param {() => void} changed
     */
    offer(columns, changed) {
      where?.offer(columns);
      tags.load();
      duplicates.offer(columns, changed);
    },
    update() {
      where?.update();
      duplicates.update();
    },
  };
}

/** @param {App} app */
function whereBox(app) {
  const { store, actions, source } = app;
  const input = el("input", {
    type: "text",
    class: "where",
    "aria-label": "Condition in SQL",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    placeholder: "Condition, such as year > 1990",
  });
  const error = el("p", { class: "field-error small", role: "alert", hidden: true });
  const say = (/** @type {string} */ text) => {
    error.textContent = text;
    error.hidden = !text;
    input.setAttribute("aria-invalid", String(text !== ""));
  };
  const apply = async () => {
    const text = input.value.trim();
    say("");
    if (!text) {
      if (store.state.filters.where !== undefined) actions.filter(without(store.state.filters, "where"));
      return;
    }
    try {
      // Alone first: what is wrong with it is said here and not in passing.
      await source.filter({ where: text });
    } catch (failure) {
      say(failure instanceof Error ? failure.message : String(failure));
      return;
    }
    actions.filter({ ...store.state.filters, where: text });
  };
  const form = el("form", { class: "where-form" }, input, el("button", { class: "button" }, "Apply"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  input.addEventListener("input", () => say(""));
  let told = "";
  return {
    element: el("div", {}, form, error),
    /** @param {ColumnInfo[]} columns */
    offer(columns) {
      const example = exampleOf(columns);
      if (example) input.placeholder = `Condition, such as ${example}`;
    },
    update() {
      const now = store.state.filters.where ?? "";
      if (now !== told) input.value = now;
      told = now;
    },
  };
}

/** A condition that this dataset understands. @param {ColumnInfo[]} columns */
function exampleOf(columns) {
  const plain = columns.filter(({ name }) => /^[a-z]\w*$/i.test(name));
  const number = plain.find(({ kind }) => kind === "integer" || kind === "number");
  if (number) return `${number.name} > ${Math.round(number.minimum ?? 0)}`;
  const text = plain.find(({ kind }) => kind === "category" || kind === "text");
  return text ? `${text.name} LIKE 'A%'` : "";
}

/** @param {App} app */
function tagChoice(app) {
  const { store, actions, source, signal } = app;
  const select = el("select", { "aria-label": "Show only rows with a tag", hidden: true });
  const load = async () => {
    const tags = await source.tags().catch(() => []);
    select.hidden = !tags.length;
    fill(
      select,
      el("option", { value: "" }, "Only rows with the tag…"),
      tags.map(({ name }) => el("option", { value: name }, name)),
    );
  };
  select.addEventListener("change", () => {
    const { filters } = store.state;
    const tags = [...new Set([...(filters.tags ?? []), select.value])].filter(Boolean);
    select.value = "";
    if (tags.length) actions.filter({ ...filters, tags });
  });
  app.root.addEventListener("gnomonic:tags", load, { signal });
  return { element: select, load };
}

/** @param {App} app */
function duplicateBox(app) {
  const { store, actions, source } = app;
  /** @type {string[]} */
  let names = [];
  const box = el("input", { type: "checkbox" });
  const link = button("Choose how alike", () => store.set({ panel: "duplicates" }), { class: "quiet" });
  const element = el(
    "div",
    { class: "row", hidden: true },
    el("label", { class: "check" }, box, "Hide duplicates"),
    link,
  );
  const isOn = () => {
    const codes = fieldFilter(store.state.filters, CLASS_COLUMN)?.codes;
    return codes !== undefined && !codes.includes(names.indexOf(DELETABLE));
  };
  box.addEventListener("change", () => {
    const codes = names.flatMap((name, code) => (name === DELETABLE ? [] : [code]));
    const wanted = box.checked ? { column: CLASS_COLUMN, codes, nulls: true } : null;
    actions.filter(withField(store.state.filters, CLASS_COLUMN, wanted));
  });
  return {
    element,
    /**
     * @param {ColumnInfo[]} columns
     * @param {() => void} changed
     */
    async offer(columns, changed) {
      const column = columns.find(({ name }) => name === CLASS_COLUMN);
      if (!column) return;
      names = (await source.dictionary(column).catch(() => ({ names: [] }))).names;
      element.hidden = !names.includes(DELETABLE);
      changed();
    },
    update() {
      box.checked = isOn();
    },
  };
}
