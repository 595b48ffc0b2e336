/** The page: finds out where its map comes from, and shows it. */

import { el, fill } from "./dom.js";
import { openMap } from "./data/open_map.js";
import { httpTransport } from "./data/transport.js";
import { createServerSource } from "./data/server_source.js";

async function start() {
  const root = /** @type {HTMLElement} */ (document.getElementById("app"));
  const told = document.querySelector("meta[name=gnomonic-source]")?.getAttribute("content") ?? "";
  const reach = { told: (/** @type {boolean} */ _) => {} };
  try {
    // The map is asked for while the modules that draw it are still on their way.
    const opening = sourceOf(told, root, (reached) => reach.told(reached)).then((source) => openMap(source));
    opening.catch(() => undefined); // Told of by mount, which comes later.
    const { mount } = await import("./app.js");
    const open = (/** @type {(reached: boolean) => void} */ onReach) => {
      reach.told = onReach;
      return opening;
    };
    await mount(root, open, { own: true });
  } catch (error) {
    fill(root, failure(error instanceof Error ? error.message : String(error)));
  }
}

/**
 * @param {string} told  "static:" and a folder, or the address of a map on this server.
 * @param {HTMLElement} root
 * @param {(reached: boolean) => void} onReach
 * @returns {Promise<import("./types.js").Source>}
 */
async function sourceOf(told, root, onReach) {
  if (told.startsWith("static:")) {
    const { createStaticSource } = await import("./data/static_source.js");
    return createStaticSource(told.slice("static:".length), { onReach });
  }
  const askKey = async (/** @type {string} */ why) => (await import("./panels/key.js")).askKey(root, why);
  return createServerSource(httpTransport(told, { askKey, onReach }));
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
