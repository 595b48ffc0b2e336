/** The list of maps on a server. */

import { httpTransport } from "./data/transport.js";
import { el, fill, whole } from "./dom.js";
import { askKey } from "./panels/key.js";

/**
 * @typedef {object} Dataset  As GET /v1/datasets tells of it.
 * @property {string} organization
 * @property {string} slug
 * @property {string} name
 * @property {string} description
 * @property {string} created
 * @property {number} rows
 * @property {string | null} current_map
 */

async function start() {
  const root = /** @type {HTMLElement} */ (document.getElementById("app"));
  followTheme(root);
  try {
    const transport = httpTransport("", { askKey: (why) => askKey(root, why) });
    const answer = await transport.request("GET", "/v1/datasets");
    const told = JSON.parse(new TextDecoder().decode(await answer.bytes()));
    if (answer.status !== 200) throw new Error(told.detail ?? `The server answered ${answer.status}.`);
    fill(root, el("h1", {}, "Maps"), ...contents(told.datasets));
  } catch (error) {
    fill(root, el("h1", {}, "Maps"), ...failure(error instanceof Error ? error.message : String(error)));
  }
  root.dataset.ready = "all";
}

/**
 * @param {Dataset[]} datasets
 * @returns {HTMLElement[]}
 */
function contents(datasets) {
  const mapped = datasets.filter((one) => one.current_map !== null);
  const others = datasets.length - mapped.length;
  /** @type {HTMLElement[]} */
  const made = mapped.length ? [el("ul", { class: "home-maps" }, ...mapped.map(item))] : howTo();
  if (others) made.push(el("p", { class: "muted" }, `${whole(others)} more without a map yet.`));
  return made;
}

/** @param {Dataset} one */
function item(one) {
  const address = `/map/${encodeURIComponent(one.organization)}/${encodeURIComponent(one.slug)}`;
  const about = [`${whole(one.rows)} ${one.rows === 1 ? "row" : "rows"}`, `made ${one.created.slice(0, 10)}`];
  return el(
    "li",
    { class: "home-map" },
    el("a", { class: "home-link", href: address }, el("bdi", {}, one.name || one.slug)),
    el("p", { class: "muted" }, about.join(" · ")),
    one.description && el("p", {}, el("bdi", {}, one.description)),
  );
}

/** What to do where there is no map. @returns {HTMLElement[]} */
function howTo() {
  return [
    el("p", {}, "There is no map here yet. This makes one of a table or a folder of texts:"),
    el("pre", { class: "home-command" }, el("code", {}, "gnomonic map docs.parquet --field text --open")),
    el("p", { class: "muted" }, "What is made in this server's data folder appears when the page is loaded again."),
  ];
}

/** @param {string} message */
function failure(message) {
  return [
    el("p", { role: "alert" }, message),
    el("button", { class: "button primary", "on:click": () => location.reload() }, "Try again"),
  ];
}

/** The theme of the system, as the page of a map has it. @param {HTMLElement} root */
function followTheme(root) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    root.dataset.theme = dark.matches ? "dark" : "light";
  };
  dark.addEventListener("change", apply);
  apply();
}

start();
