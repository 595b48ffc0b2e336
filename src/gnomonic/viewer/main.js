/** The page: finds out where its map comes from, and shows it. */

import { mount } from "./app.js";
import { askKey } from "./panels/key.js";
import { el, fill } from "./dom.js";
import { httpTransport } from "./data/transport.js";
import { createServerSource } from "./data/server_source.js";

async function start() {
  const root = /** @type {HTMLElement} */ (document.getElementById("app"));
  const told = document.querySelector("meta[name=gnomonic-source]")?.getAttribute("content") ?? "";
  try {
    await mount(root, (app) => sourceOf(told, app), { link: true });
  } catch (error) {
    fill(root, failure(error instanceof Error ? error.message : String(error)));
  }
}

/**
 * @param {string} told  "static:" and a folder, or the address of a map on this server.
 * @param {{root: HTMLElement, onReach: (reached: boolean) => void}} app
 * @returns {Promise<import("./types.js").Source>}
 */
async function sourceOf(told, { root, onReach }) {
  if (told.startsWith("static:")) {
    const { createStaticSource } = await import("./data/static_source.js");
    return createStaticSource(told.slice("static:".length));
  }
  return createServerSource(httpTransport(told, { askKey: (why) => askKey(root, why), onReach }));
}

/** @param {string} message */
function failure(message) {
  return el(
    "div",
    { class: "failure", role: "alert" },
    el("h1", {}, "The map cannot be shown"),
    el("p", {}, message),
    el("button", { class: "button primary", "on:click": () => location.reload() }, "Try again"),
  );
}

start();
