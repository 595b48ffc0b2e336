/** The map as a picture of any resolution. */

import { tableOf } from "./coloring.js";
import { drawInto, freeTarget, targetOf } from "./gl.js";
import { Stage } from "./stage.js";

/** @typedef {import("./frames.js").Frames} Frames */

const WIDEST = 8192;

/**
 * Draw all points in view, a part at a time.
 *
 * @param {Frames} frames
 * @param {number} scale  Pixels a CSS pixel.
 * @returns {Promise<HTMLCanvasElement>}
 */
export async function takeSnapshot(frames, scale) {
  const { gl, scene, camera } = frames;
  const theme = frames.theme();
  const { width, height } = camera.view;
  const widest = Math.min(WIDEST, gl.getParameter(gl.MAX_TEXTURE_SIZE) ?? WIDEST);
  const ratio = Math.min(scale, widest / Math.max(width, height, 1));
  const view = { ...camera.view, ratio };
  const stage = new Stage(gl, scene.paints);
  const [across, up] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  frames.held = true;
  try {
    stage.points.setColors(tableOf(scene.color, theme));
    const nodes = frames.stage?.shown?.drawn.map(({ node }) => node).filter((node) => node.xy) ?? [];
    stage.begin(frames.planFor(view, nodes, Infinity), theme, true);
    while (!stage.done) {
      stage.step(frames.budget.points);
      // A pause after each part, so that the page goes on.
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    stage.swap();
    const target = targetOf(gl, across, up);
    stage.present(target, theme, frames.state());
    drawInto(gl, target);
    const pixels = new Uint8ClampedArray(4 * across * up);
    gl.readPixels(0, 0, across, up, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    freeTarget(gl, target);
    return canvasOf(pixels, across, up);
  } finally {
    stage.freeTargets();
    frames.held = false;
    frames.urgent();
  }
}

/**
 * @param {Uint8ClampedArray} pixels  The lowest row first.
 * @param {number} width
 * @param {number} height
 */
function canvasOf(pixels, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser cannot make a picture of that size.");
  const image = context.createImageData(width, height);
  for (let row = 0; row < height; row++) {
    image.data.set(pixels.subarray(4 * width * (height - 1 - row), 4 * width * (height - row)), 4 * width * row);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
