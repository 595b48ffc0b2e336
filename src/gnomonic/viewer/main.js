/** The page: finds out where its map comes from, and shows it. */

import { askKey } from "./panels/key.js";
import { el, fill } from "./dom.js";
import { httpTransport } from "./data/transport.js";
import { createServerSource } from "./data/server_source.js";

async function start() {
  const root = /** @type {HTMLElement} */ (document.getElementById("app"));
  const told = document.querySelector("meta[name=gnomonic-source]")?.getAttribute("content") ?? "";
  const reach = { told: (/** @type {boolean} */ _) => {} };
  try {
    // The map is asked for while the modules that draw it are still on their way.
    const opening = sourceOf(told, root, (reached) => reach.told(reached));
    const first = opening.then((source) => Promise.all([source.manifest(), source.view()]));
    first.catch(() => {}); // told of by mount, which comes later
    const { mount } = await import("./app.js");
    const open = async (/** @type {{onReach: (reached: boolean) => void}} */ { onReach }) => {
      reach.told = onReach;
      return opening;
    };
    await mount(root, open, { link: true, first });
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
