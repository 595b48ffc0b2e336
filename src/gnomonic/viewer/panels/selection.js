/** The selected rows: how many, what can be done with them, and what sets them apart. */

import { Bits } from "../bits.js";
import { el, fill, percent, whole } from "../dom.js";
import { copyText } from "./copying.js";
import { createExplanation } from "./parts/explanation.js";
import { rowsText } from "./parts/columns.js";
import { flyTo } from "./parts/fly.js";
import { button, emptyState } from "./parts/states.js";

/** @typedef {import("../types.js").App} App */

/** Ids beyond these are for a file and not for the clipboard. */
const MOST_COPIED = 100_000;

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  const { store, signal } = app;
  const head = el("div", {});
  const explanation = createExplanation(app);
  store.follow(["selection", "selectionName", "passing"], () => fill(head, ...headOf(app)), { now: true, signal });
  return el("div", { class: "selection" }, head, explanation);
}

/** @param {App} app */
function headOf(app) {
  const { selection, selectionName, passing } = app.store.state;
  const total = app.view.map.rows_now;
  const { actions, store } = app;
  if (!selection) return [nothing(app)];
  const count = selection.count();
  const only = () => {
    const { filters } = store.state;
    const rows = filters.bits ? selection.and(Bits.fromBase64(app.manifest.count, filters.bits)) : selection;
    actions.filter({ ...filters, bits: rows.toBase64() });
  };
  return [
    el(
      "div",
      { class: "selection-count" },
      el("strong", { class: "big number" }, whole(count)),
      el(
        "span",
        { class: "muted" },
        ` ${count === 1 ? "row" : "rows"}, ${percent(total ? count / total : 0)} of the map`,
      ),
    ),
    selectionName ? el("p", { class: "selection-name", dir: "auto", title: selectionName }, selectionName) : null,
    hiddenNote(selection, passing),
    el(
      "div",
      { class: "row actions" },
      button("Show only these", only),
      button("Zoom to them", () => flyTo(app, selection)),
      button("Tag…", () => open(app, "tags", "input[name=tag]")),
      button("Export…", () => open(app, "export", "input")),
      button("Copy ids", () => copyIds(app, selection), { disabled: count > MOST_COPIED }),
      button("Invert", () => invert(app)),
      button("Clear", () => actions.select(null, "")),
    ),
  ];
}

/**
 * @param {Bits} selection
 * @param {Bits | null} passing
 */
function hiddenNote(selection, passing) {
  const hidden = passing ? selection.without(passing).count() : 0;
  if (!hidden) return null;
  return el(
    "p",
    { class: "muted small" },
    `${rowsText(hidden)} of them ${hidden === 1 ? "is" : "are"} hidden by the filters.`,
  );
}

/** @param {App} app */
function nothing(app) {
  const { store, actions } = app;
  const inView = () => {
    const { renderer } = app;
    const { clientWidth, clientHeight } = renderer.element;
    const [x0, y0] = renderer.toPlane(0, clientHeight);
    const [x1, y1] = renderer.toPlane(clientWidth, 0);
    actions.selectWhere({ box: [x0, y0, x1, y1] }, "all in view");
  };
  return emptyState(
    "Nothing is selected",
    el("p", {}, "Select rows, and this panel tells what they have in common. There are many ways:"),
    el(
      "ul",
      { class: "ways" },
      el(
        "li",
        {},
        button("Draw a lasso", () => store.set({ tool: "lasso" })),
        " around points, or ",
        button("a box", () => store.set({ tool: "box" })),
      ),
      el("li", {}, "Click the name of a topic, on the map or in the tree"),
      el("li", {}, "Search, and move the threshold of the heat"),
      el(
        "li",
        {},
        button("All in view", inView),
        " or ",
        button("all that pass the filters", () => selectPassing(app)),
      ),
    ),
    el("p", { class: "muted small" }, "Shift adds to a selection, Alt takes away from it."),
  );
}

/** @param {App} app */
function selectPassing({ actions, store }) {
  return actions.selectWhere({}, store.state.passing ? "all that pass the filters" : "all rows");
}

/** @param {App} app */
function invert({ actions, store }) {
  const { selection, selectionName } = store.state;
  if (!selection) return;
  const name = selectionName.startsWith("not ") ? selectionName.slice(4) : `not ${selectionName}`;
  actions.selectWhere({ bits: selection.toBase64(), invert: true }, name);
}

/**
 * @param {App} app
 * @param {string} panel
 * @param {string} first  What is ready for typing then.
 */
function open(app, panel, first) {
  app.store.set({ panel });
  const field = app.root.querySelector(`#panel-${panel} ${first}`);
  if (field instanceof HTMLElement) field.focus();
}

/**
 * @param {App} app
 * @param {Bits} selection
 */
async function copyIds(app, selection) {
  const { actions, source } = app;
  const written = await actions.attempt(
    source.exportRows(actions.conditionsOf(selection), "ids"),
    "The ids cannot be read",
  );
  if (!written) return;
  const copied = await copyText(app.root, (await written.text()).trim());
  if (copied) actions.say(`Copied ${whole(selection.count())} ids`, "success");
  else actions.say("The browser did not let the ids be copied; export them as a file", "error");
}
