/** The search box: by meaning, by words, by picture, by id. */

import { el, fill } from "../dom.js";
import { finderOf } from "./finding.js";
import { createHeatSlider } from "./heat_slider.js";
import { icon, iconButton } from "./icons.js";
import { onKeys } from "./parts/keys.js";
import { isPicture, pictureIn, readPicture } from "./picture.js";

/**
 * @typedef {import("../types.js").App} App
 * @typedef {import("./finding.js").Mode} Mode
 * @typedef {{mode: Mode, label: string, hint: string}} Choice
 */

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  const choices = choicesOf(app);
  const input = el("input", {
    type: "search",
    class: "search-input",
    "aria-label": "Search the map",
    enterkeyhint: "search",
    autocomplete: "off",
    spellcheck: "false",
    maxlength: "4000",
  });
  const mode = el(
    "select",
    { class: "search-mode", "aria-label": "Search by", title: "Search by" },
    choices.map((choice) => el("option", { value: choice.mode }, choice.label)),
  );
  const go = el("button", { class: "button primary search-go", type: "submit" }, "Search");
  const clear = iconButton("close", "Clear the search", () => clearAll(app, input), {
    class: "button icon search-clear",
  });
  const hint = () => {
    input.placeholder = choices.find((choice) => choice.mode === mode.value)?.hint ?? "";
  };
  mode.addEventListener("change", () => {
    hint();
    input.focus();
  });
  hint();
  const form = el(
    "form",
    { class: "search-form", role: "search" },
    el("div", { class: "search-box" }, icon("search"), input, clear),
    el("div", { class: "row search-row" }, mode, app.view.can.image && pictureButton(app), go),
    withinBox(app),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search(app, /** @type {Mode} */ (mode.value), input.value);
  });
  const state = el("p", { class: "search-state muted", role: "status" });
  followFinding(app, { form, clear, input, state, go });
  bindKeys(app, input);
  if (app.view.can.image) takePictures(app, input);
  return el("section", { class: "search", "aria-label": "Search" }, form, absence(app), state, createHeatSlider(app));
}

/** @param {App} app @returns {Choice[]} */
function choicesOf({ view }) {
  const { semantic, words } = view.can;
  /** @type {(Choice | false)[]} */
  const all = [
    semantic && { mode: "semantic", label: "Meaning", hint: "Describe what you look for" },
    words && { mode: "words", label: "Words", hint: "Words that the text has" },
    semantic && words && { mode: "hybrid", label: "Both", hint: "Meaning and words together" },
    { mode: "id", label: "Id", hint: `A row's ${view.dataset.id_field || "id"}` },
  ];
  return all.filter((choice) => choice !== false);
}

/** Why typed text is not looked for by meaning, where it is not. @param {App} app */
function absence({ view, source }) {
  const { can, map } = view;
  if (can.semantic) return null;
  let why = "This map was made from vectors of an unknown model, so typed text cannot be searched by meaning.";
  if (source.kind === "static") {
    why = "Search by meaning needs a server: this exported copy has no model. “More like this” on a row works.";
  } else if (map.modality === "image") {
    why = `This is a map of pictures: ${can.image ? "search with a picture, or" : "search"} by words and ids.`;
  } else if (map.modality === "text") {
    why = `This server does not offer the map's model, ${map.model}, so typed text cannot be searched by meaning.`;
  }
  return el("p", { class: "search-note muted" }, why);
}

/**
 * @param {App} app
 * @param {Mode} mode
 * @param {string} text
 */
function search(app, mode, text) {
  const query = text.trim();
  if (!query) return;
  const name = {
    semantic: `Meaning “${query}”`,
    words: `Words “${query}”`,
    hybrid: `Meaning and words “${query}”`,
    id: `Id ${query}`,
    like: "",
    image: "",
  }[mode];
  void finderOf(app).run(mode, { query }, name);
}

/** @param {App} app @param {HTMLInputElement} input */
function clearAll(app, input) {
  input.value = "";
  finderOf(app).clear();
  input.focus();
}

/** Whether to look in the rows that the filters let pass. @param {App} app */
function withinBox(app) {
  const box = el("input", { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    finderOf(app).withinFilters = box.checked;
  });
  const label = el("label", { class: "search-within" }, box, "Only rows that pass the filters");
  app.store.follow(["passing"], ({ passing }) => void (label.hidden = !passing), { now: true, signal: app.signal });
  return label;
}

/**
 * @param {App} app
 * @param {{form: HTMLElement, clear: HTMLElement, input: HTMLInputElement, state: HTMLElement,
 *   go: HTMLButtonElement}} parts
 */
function followFinding(app, { form, clear, input, state, go }) {
  const finder = finderOf(app);
  const showClear = () => void (clear.hidden = !input.value && finder.finding.status === "idle");
  input.addEventListener("input", showClear);
  finder.follow(() => {
    const { status } = finder.finding;
    form.setAttribute("aria-busy", String(status === "searching"));
    fill(go, status === "searching" ? "Searching…" : "Search");
    const shown = status === "searching" ? app.store.state.hitsName : "";
    fill(state, shown && `Searching: ${shown}`);
    state.classList.toggle("search-quiet", true);
    showClear();
  });
  // A heat that came with the link has its question in the box.
  app.store.follow(
    ["heatQuery"],
    ({ heatQuery }) => {
      if (heatQuery?.query && !input.value) input.value = heatQuery.query;
      showClear();
    },
    { now: true, signal: app.signal },
  );
}

/** @param {App} app @param {HTMLInputElement} input */
function bindKeys(app, input) {
  onKeys(app, (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
    input.select();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    if (input.value || finderOf(app).finding.status !== "idle") clearAll(app, input);
    else input.blur();
  });
}

/** @param {App} app */
function pictureButton(app) {
  const file = el("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "Picture file" });
  file.addEventListener("change", () => {
    const chosen = file.files?.[0];
    if (chosen) void searchPicture(app, chosen);
    file.value = "";
  });
  const title = "Search by a picture: choose a file, drop one on the page, or paste one";
  const button = el(
    "button",
    { class: "button search-picture", type: "button", title, "on:click": () => file.click() },
    icon("picture"),
    "Picture…",
  );
  return [button, file];
}

/** @param {App} app @param {File} file */
async function searchPicture(app, file) {
  if (!isPicture(file)) {
    app.actions.say(`${file.name} is not a picture.`, "error");
    return;
  }
  const image = await app.actions.attempt(readPicture(file), "The picture cannot be read");
  if (image !== null) await finderOf(app).run("image", { image }, `Picture ${file.name}`);
}

/**
 * Pictures that are dropped anywhere on the map, or pasted into the box.
 *
 * @param {App} app
 * @param {HTMLElement} input
 */
function takePictures(app, input) {
  const { root, signal } = app;
  const has = (/** @type {DragEvent} */ event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const mark = (/** @type {boolean} */ on) => root.classList.toggle("picture-over", on);
  root.addEventListener(
    "dragover",
    (event) => {
      if (!has(event)) return;
      event.preventDefault();
      mark(true);
    },
    { signal },
  );
  root.addEventListener("dragleave", (event) => event.relatedTarget === null && mark(false), { signal });
  root.addEventListener(
    "drop",
    (event) => {
      mark(false);
      if (!has(event)) return;
      event.preventDefault();
      const file = pictureIn(event.dataTransfer);
      if (file) void searchPicture(app, file);
      else app.actions.say("That is not a picture file.", "error");
    },
    { signal },
  );
  input.addEventListener("paste", (event) => {
    const file = pictureIn(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    void searchPicture(app, file);
  });
}
