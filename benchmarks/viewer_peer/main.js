/** The points of a map in embedding-atlas' view: positions and colours, read from files beside this one. */

import { EmbeddingView } from "./node_modules/embedding-atlas/dist/component.js";

/** @param {string} name */
const read = async (name) => (await fetch(name)).arrayBuffer();

const [x, y, category] = await Promise.all(["x.f32", "y.f32", "category.u8"].map(read));
const target = document.getElementById("app");
new EmbeddingView(target, {
  data: { x: new Float32Array(x), y: new Float32Array(y), category: new Uint8Array(category) },
  width: innerWidth,
  height: innerHeight,
  config: { mode: "points", autoLabelEnabled: false },
});
target.dataset.ready = "all";
