/** What leaves the page: rows as a file, the view as a picture, and a link that brings the view back. */

import { el, whole } from "../dom.js";
import { leftOut, linkOf } from "../link.js";
import { copyText } from "./copying.js";
import { pictureOf } from "./parts/picture.js";
import { bytesText, fileName, save } from "./parts/saving.js";
import { button } from "./parts/states.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {"parquet" | "csv" | "jsonl" | "ids"} Format */

/** @type {{format: Format, title: string, hint: string, ending: string}[]} */
const FORMATS = [
  { format: "parquet", title: "Parquet", hint: "all fields with their types", ending: "parquet" },
  { format: "csv", title: "CSV", hint: "for spreadsheets", ending: "csv" },
  { format: "jsonl", title: "JSON lines", hint: "one object a row", ending: "jsonl" },
  { format: "ids", title: "Ids only", hint: "one a line", ending: "txt" },
];

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  return el("div", { class: "exporting" }, rowsPart(app), picturePart(app), linkPart(app));
}

let made = 0;

/**
 * @param {string} name
 * @param {string} value
 * @param {import("../dom.js").Child[]} text
 */
function choice(name, value, ...text) {
  const input = el("input", { type: "radio", name, value });
  return { input, element: el("label", { class: "check" }, input, el("span", {}, ...text)) };
}

/** @param {App} app */
function rowsPart(app) {
  const { store, signal, source, view } = app;
  const group = `gnomonic-export-${++made}`;
  const selectedText = el("span", { class: "number muted" });
  const passingText = el("span", { class: "number muted" });
  const selected = choice(`${group}-rows`, "selected", "The selection ", selectedText);
  const passing = choice(`${group}-rows`, "passing", "What passes the filters ", passingText);
  // A folder of files has no server that could write Parquet.
  const offered = FORMATS.filter(({ format }) => source.kind === "server" || format !== "parquet");
  const formats = offered.map(({ format, title, hint }) =>
    choice(`${group}-format`, format, `${title} `, el("span", { class: "muted small" }, hint)),
  );
  formats[0].input.checked = true;
  passing.input.checked = true;
  const download = el("button", { type: "submit", class: "button primary" }, "Download");
  let chosen = false;
  for (const one of [selected, passing]) one.input.addEventListener("change", () => (chosen = true));
  const follow = () => {
    const { selection, passing: bits } = store.state;
    const count = selection?.count() ?? 0;
    selectedText.textContent = count ? whole(count) : "nothing is selected";
    passingText.textContent = whole(bits?.count() ?? view.map.rows_now);
    selected.input.disabled = !count;
    // Whoever selects means the selection, until they say otherwise.
    if (!count) passing.input.checked = true;
    else if (!chosen) selected.input.checked = true;
  };
  store.follow(["selection", "passing"], follow, { now: true, signal });
  const form = el(
    "form",
    { class: "export-rows" },
    el("h3", {}, "Rows"),
    el("div", { class: "choices", role: "radiogroup", "aria-label": "Which rows" }, selected.element, passing.element),
    el(
      "div",
      { class: "choices", role: "radiogroup", "aria-label": "Format" },
      ...formats.map(({ element }) => element),
    ),
    download,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const format = offered[formats.findIndex(({ input }) => input.checked)] ?? offered[0];
    download.disabled = true;
    download.textContent = "Preparing…";
    await saveRows(app, selected.input.checked, format);
    download.disabled = false;
    download.textContent = "Download";
  });
  return form;
}

/**
 * @param {App} app
 * @param {boolean} selected  Else what passes.
 * @param {{format: Format, ending: string}} format
 */
async function saveRows(app, selected, { format, ending }) {
  const { actions, store, source, view } = app;
  const conditions = actions.conditionsOf(selected ? store.state.selection : null);
  const blob = await actions.attempt(source.exportRows(conditions, format), "The rows cannot be exported");
  if (!blob) return;
  const what = selected ? store.state.selectionName || "selection" : store.state.passing ? "filtered" : "all";
  const name = fileName([view.dataset.slug, what], ending);
  save(app.root, blob, name);
  actions.say(`Saved ${name}, ${bytesText(blob.size)}`, "success");
}

/** @param {App} app */
function picturePart(app) {
  const { view, actions } = app;
  const check = (/** @type {string} */ text, /** @type {boolean} */ on) => {
    const input = el("input", { type: "checkbox" });
    input.checked = on;
    return { input, element: el("label", { class: "check" }, input, text) };
  };
  const names = check("Names of topics", true);
  const legend = check("What the colours mean", false);
  const titled = check("A title", false);
  const title = el("input", {
    type: "text",
    value: view.dataset.identifier,
    "aria-label": "Title of the picture",
    hidden: true,
    dir: "auto",
  });
  titled.input.addEventListener("change", () => {
    title.hidden = !titled.input.checked;
    if (titled.input.checked) title.focus();
  });
  const size = el(
    "select",
    { "aria-label": "Size of the picture" },
    el("option", { value: 1 }, "As on the screen"),
    el("option", { value: 2, selected: true }, "Twice as sharp"),
    el("option", { value: 4 }, "Four times, for print"),
  );
  const run = async () => {
    draw.disabled = true;
    const options = {
      scale: Number(size.value),
      names: names.input.checked,
      title: titled.input.checked ? title.value.trim() : "",
      legend: legend.input.checked,
    };
    const blob = await actions.attempt(pictureOf(app, options), "The picture cannot be made");
    draw.disabled = false;
    if (!blob) return;
    const name = fileName([view.dataset.slug, "map"], "png");
    save(app.root, blob, name);
    actions.say(`Saved ${name}, ${bytesText(blob.size)}`, "success");
  };
  const draw = button("Download the picture", run, { class: "primary" });
  return el(
    "section",
    { "aria-label": "Picture" },
    el("h3", {}, "Picture of the view"),
    el("div", { class: "choices" }, names.element, legend.element, titled.element, title),
    el("div", { class: "row" }, size, draw),
  );
}

/** @param {App} app */
function linkPart(app) {
  const { store, signal, actions, root } = app;
  const note = el("p", { class: "muted small" });
  const copy = async () => {
    const address = `${location.origin}${location.pathname}${location.search}#${linkOf(app)}`;
    const copied = await copyText(root, address);
    if (copied) actions.say("Copied the link", "success");
    else actions.say("The browser did not let the link be copied; take it from the address bar", "error");
  };
  store.follow(
    ["selection", "filters", "heatQuery"],
    () => {
      const { selection, filters, query } = leftOut(app, linkOf(app));
      const kept = ["place", "colours", !filters && "filters", !query && "heat", !selection && "selection"];
      const names = kept.filter(Boolean);
      note.textContent =
        `It restores the ${names.slice(0, -1).join(", ")} and ${names.at(-1)}. It holds no key.` +
        (selection ? " This selection is too large for it; tag it to keep it." : "") +
        (filters ? " These filters are too large for it." : "");
    },
    { now: true, signal },
  );
  return el(
    "section",
    { "aria-label": "Link" },
    el("h3", {}, "Link to this view"),
    note,
    button("Copy the link", copy),
  );
}
