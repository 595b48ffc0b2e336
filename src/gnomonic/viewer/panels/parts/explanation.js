/** What sets the selected rows apart from the rest: phrases, values, topics, typical rows and odd ones. */

import { debounced, el, fill, percent, whole } from "../../dom.js";
import { finderOf } from "../finding.js";
import { snippetOf, titleFields, titleOf as rowTitle } from "../row_fields.js";
import { numberText, titleOf } from "./columns.js";
import { whileOpen } from "./opening.js";
import { onlyLatest, problem, skeleton } from "./states.js";

/** @typedef {import("../../types.js").App} App */
/** @typedef {import("../../types.js").Explanation} Explanation */
/** @typedef {import("../../types.js").Conditions} Conditions */
/** @typedef {import("../../types.js").Row} Row */

const QUIET_MS = 350;
const TOP = 10;
const SNIPPET = 140;

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function createExplanation(app) {
  const element = el("div", { class: "explanation", "aria-live": "polite" });
  const latest = onlyLatest(app.signal);
  const explain = async () => {
    const { selection } = app.store.state;
    if (!selection) {
      fill(element);
      return;
    }
    try {
      const found = await latest((signal) => app.source.explain(app.actions.conditionsOf(selection), signal));
      if (found && app.store.state.selection === selection) await show(app, element, found);
    } catch (error) {
      fill(element, problem(error, explain));
    }
  };
  const later = debounced(explain, QUIET_MS);
  whileOpen(app, "selection", ["selection"], () => {
    fill(element, app.store.state.selection ? skeleton(8) : null);
    later();
  });
  return element;
}

/**
 * @param {App} app
 * @param {HTMLElement} element
 * @param {Explanation} found
 */
async function show(app, element, found) {
  const typical = el("div", {});
  const odd = el("div", {});
  const told = found.words.length || found.fields.length || found.topics.length;
  fill(
    element,
    found.words.length || found.fields.length ? key() : null,
    section("Words", "More frequent here than elsewhere", found.words.slice(0, TOP).map((one) => wordLine(app, one))),
    section(
      "Values",
      "More frequent here than elsewhere",
      found.fields.slice(0, TOP).map((one) => fieldLine(app, one)),
    ),
    topicSection(app, found),
    typical,
    odd,
    told
      ? null
      : el("p", { class: "muted" }, "Nothing sets these rows apart: they are too few, or are like all others."),
  );
  const rows = await readRows(app, [...found.exemplars, ...found.outliers]);
  const of = (/** @type {number[]} */ positions) =>
    positions.flatMap((position) => {
      const row = rows.get(position);
      return row ? [rowCard(app, row)] : [];
    });
  fill(typical, section("Typical rows", "Nearest to the middle of the selection, by meaning", of(found.exemplars)));
  fill(odd, section("Odd ones out", "Farthest from it: the first to look at when cleaning", of(found.outliers)));
}

function key() {
  return el(
    "p",
    { class: "share-key small muted" },
    el("span", { class: "swatch here", "aria-hidden": "true" }),
    "selected rows",
    el("span", { class: "swatch rest", "aria-hidden": "true" }),
    "all others",
  );
}

/**
 * @param {string} title
 * @param {string} hint
 * @param {HTMLElement[]} lines
 */
function section(title, hint, lines) {
  if (!lines.length) return null;
  return el(
    "section",
    { "aria-label": title },
    el("h3", { title: hint }, title),
    el("ul", { class: "shares" }, ...lines.map((line) => el("li", {}, line))),
  );
}

/**
 * @param {App} app
 * @param {Explanation["words"][number]} word
 */
function wordLine(app, { phrase, share, rest }) {
  const look = () => void finderOf(app).run("words", { query: phrase }, `Words “${phrase}”`);
  return shareLine({
    name: phrase,
    share,
    rest,
    note: "",
    run: app.view.can.words ? look : null,
    does: "look for rows that have it",
  });
}

/**
 * @param {App} app
 * @param {Explanation["fields"][number]} field
 */
function fieldLine(app, { column, value, code, share, rest, lift, count }) {
  /** @type {Conditions} */
  const conditions = { fields: [{ column, codes: [code ?? 0] }] };
  const name = `${titleOf(column)}: ${value}`;
  const note = rest > 0 ? `${numberText(Number(lift.toPrecision(2)))}×` : "only here";
  const run = code === null ? null : () => app.actions.selectWhere(conditions, name, "within");
  return shareLine({
    kind: titleOf(column),
    name: value,
    share,
    rest,
    note,
    run,
    title: `${name}, ${whole(count)} rows`,
  });
}

/**
 * A name over two bars: its share among the selected rows, and among all others.
 *
 * @param {{name: string, share: number, rest: number, note: string, kind?: string, title?: string,
 *   run?: (() => void) | null, does?: string}} told  `does`: what `run` does.
 */
function shareLine({ name, share, rest, note, kind, title, run, does = "keep only these" }) {
  const bar = (/** @type {string} */ which, /** @type {number} */ value) => {
    const made = el("span", { class: `share-bar ${which}`, "aria-hidden": "true" });
    made.style.width = `${(100 * Math.min(1, value)).toFixed(1)}%`;
    return made;
  };
  const inside = [
    el(
      "span",
      { class: "share-name", dir: "auto" },
      kind ? el("span", { class: "muted" }, `${kind} `) : null,
      el("bdi", {}, name === "" ? "(empty)" : name),
    ),
    el("span", { class: "share-number number" }, percent(share), el("span", { class: "muted" }, ` / ${percent(rest)}`)),
    note ? el("span", { class: "share-note number" }, note) : null,
    el("span", { class: "share-bars" }, bar("here", share), bar("rest", rest)),
  ];
  const said = `${title ?? name}: ${percent(share)} of the selected rows, ${percent(rest)} of all others`;
  if (!run) return el("div", { class: "share-line", title: said }, ...inside);
  return el(
    "button",
    { type: "button", class: "share-line", title: `${said}. Click to ${does}.`, "on:click": run },
    ...inside,
  );
}

/**
 * The topics at one level; the first at which they tell something.
 *
 * @param {App} app
 * @param {Explanation} found
 */
function topicSection(app, { topics }) {
  const levels = [...new Set(topics.map((topic) => topic.depth))].sort((a, b) => a - b);
  if (!levels.length) return null;
  const of = (/** @type {number} */ level) => topics.filter((topic) => topic.depth === level);
  const telling = levels.find((level) => Math.max(...of(level).map((topic) => topic.share)) < 0.9) ?? levels.at(-1);
  const list = el("ul", { class: "shares" });
  const choices = levels.map((level) => {
    const made = el("button", { type: "button", class: "level", "aria-label": `Level ${level}` }, level);
    made.addEventListener("click", () => draw(level));
    return made;
  });
  const draw = (/** @type {number} */ level) => {
    for (const [at, made] of choices.entries()) made.setAttribute("aria-pressed", String(levels[at] === level));
    const shown = of(level)
      .sort((a, b) => b.count - a.count)
      .slice(0, TOP);
    fill(
      list,
      shown.map((topic) => el("li", {}, topicLine(app, topic))),
    );
  };
  draw(telling ?? levels[0]);
  const chooser =
    levels.length > 1
      ? el("span", { class: "levels", role: "group", "aria-label": "Level of topics" }, ...choices)
      : null;
  return el(
    "section",
    { "aria-label": "Topics" },
    el("div", { class: "section-head" }, el("h3", {}, "Topics"), chooser),
    list,
  );
}

/**
 * @param {App} app
 * @param {Explanation["topics"][number]} topic
 */
function topicLine(app, { id, name, share, rest, count }) {
  const run = () => app.actions.selectWhere({ topics: [id] }, name, "within");
  return shareLine({ name, share, rest, note: "", run, title: `${name}, ${whole(count)} rows` });
}

/**
 * @param {App} app
 * @param {number[]} positions
 * @returns {Promise<Map<number, Row>>}
 */
async function readRows({ source, view, actions }, positions) {
  if (!positions.length) return new Map();
  const wanted = source.rows([...new Set(positions)], { columns: titleFields(view), longest: SNIPPET });
  const rows = (await actions.attempt(wanted, "Rows cannot be read")) ?? [];
  return new Map(rows.flatMap((row) => (row ? [[row.position, row]] : [])));
}

/**
 * @param {App} app
 * @param {Row} row
 */
function rowCard({ view, actions }, row) {
  const snippet = snippetOf(view, row);
  return el(
    "button",
    { type: "button", class: "row-card", "on:click": () => actions.focus(row.position, { move: true }) },
    el("span", { class: "row-title", dir: "auto" }, rowTitle(view, row)),
    snippet ? el("span", { class: "row-snippet muted small", dir: "auto" }, snippet.slice(0, SNIPPET)) : null,
  );
}
