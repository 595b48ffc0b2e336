/** All topics as a tree: found by name, selected, shown alone or left out. */

import { debounced, el, fill, percent, whole } from "../dom.js";
import { rowsText } from "./parts/columns.js";
import { excludeTopic } from "./parts/conditions.js";
import { flyTo } from "./parts/fly.js";
import { onceOpen } from "./parts/opening.js";
import { button, emptyState, problem, skeleton } from "./parts/states.js";
import { TreeView } from "./parts/tree.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Topic} Topic */

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function create(app) {
  const element = el("div", { class: "topics" }, skeleton(8));
  const load = async () => {
    fill(element, skeleton(8));
    try {
      const topics = await app.source.topics();
      fill(element, ...(topics.length ? filled(app, topics) : [none(app)]));
    } catch (error) {
      fill(element, problem(error, load));
    }
  };
  onceOpen(app, "topics", load);
  return element;
}

/** @param {App} app */
function none({ view }) {
  const rows = view.map.rows_now;
  return emptyState(
    "This map has no topics",
    el(
      "p",
      {},
      rows < 100
        ? "There are too few rows to find regions in. Select rows with the lasso or the box, and explain them."
        : "It was built without them, or nothing in it is dense enough. Select rows with the lasso, and explain them.",
    ),
  );
}

/**
 * @param {App} app
 * @param {Topic[]} topics
 */
function filled(app, topics) {
  const byId = new Map(topics.map((topic) => [topic.id, topic]));
  const about = el("div", { class: "topic-about", hidden: true });
  const tree = new TreeView({
    label: "Topics",
    nodes: topics.map(({ id, parent, name, count }) => ({
      id,
      parent: parent !== null && byId.has(parent) ? parent : null,
      name,
      count,
    })),
    onChoose: (id, event) => {
      const topic = /** @type {Topic} */ (byId.get(id));
      fill(about, ...aboutTopic(app, topic, () => (about.hidden = true)));
      about.hidden = false;
      select(app, topic, event.shiftKey ? "add" : event.altKey ? "remove" : "new");
    },
  });
  app.store.follow(["selection"], ({ selection }) => void (selection ?? tree.unchoose()), { signal: app.signal });
  const found = el("p", { class: "muted small", role: "status" });
  const search = el("input", { type: "search", placeholder: "Find a topic", "aria-label": "Find a topic by name" });
  const look = debounced(() => {
    const count = tree.find(search.value);
    found.textContent =
      count === null ? "" : count ? `${whole(count)} found` : "No topic has these letters in its name.";
  }, 100);
  search.addEventListener("input", look);
  search.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown") return;
    event.preventDefault();
    tree.element.focus();
  });
  const all = button("", () => tree.toggleAll(), { class: "quiet" });
  const sayAll = () => (all.textContent = tree.allOpen ? "Close all" : "Open all");
  tree.onToggle = sayAll;
  sayAll();
  const head = el("div", { class: "topic-head" }, search, tree.isFlat ? null : all);
  return [head, found, tree.element, about];
}

/**
 * @param {App} app
 * @param {Topic} topic
 * @param {"new" | "add" | "remove"} combine
 */
async function select(app, topic, combine) {
  await app.actions.selectWhere({ topics: [topic.id] }, topic.name, combine);
  if (combine === "new") await flyTo(app, app.store.state.selection, [topic.x, topic.y]);
}

/**
 * @param {App} app
 * @param {Topic} topic
 * @param {() => void} close
 */
function aboutTopic(app, topic, close) {
  const { actions, store, view } = app;
  const only = () => actions.filter({ ...store.state.filters, topics: [topic.id] });
  const exclude = async () => {
    const filters = await actions.attempt(excludeTopic(app, topic), "The topic cannot be left out");
    if (!filters) return;
    await actions.filter(filters);
    // Rows that are all hidden would leave the rest faded for nothing.
    const { selection, passing } = store.state;
    if (selection && passing && !selection.and(passing).count()) actions.select(null, "");
  };
  const share = view.map.rows_now ? topic.count / view.map.rows_now : 0;
  const told = new Set([topic.name.toLowerCase()]);
  const keywords = topic.keywords.filter((word) => !told.has(word.toLowerCase())).slice(0, 12);
  return [
    el(
      "div",
      { class: "about-head" },
      el("h3", { dir: "auto" }, topic.name),
      button("×", close, { class: "icon quiet", "aria-label": "Close", title: "Close" }),
    ),
    el("p", { class: "muted small number" }, `${rowsText(topic.count)} · ${percent(share)} of the map`),
    isTelling(topic) ? el("p", { dir: "auto" }, topic.description) : null,
    keywords.length
      ? el(
          "ul",
          { class: "keywords", "aria-label": "Keywords" },
          ...keywords.map((word) => el("li", { dir: "auto" }, word)),
        )
      : null,
    el(
      "div",
      { class: "row" },
      button("Show only this", only),
      button("Leave out", exclude),
      button("Explain", () => {
        store.set({ panel: "selection" });
        if (!store.state.selection) actions.selectWhere({ topics: [topic.id] }, topic.name);
      }),
    ),
  ];
}

/** Whether the description says more than the name and the keywords. @param {Topic} topic */
function isTelling({ description, name, keywords }) {
  return description !== "" && description !== name && description !== keywords.join("/");
}
