/** How many points a frame may draw, learnt from how long frames take. */

const FEWEST = 20_000;
const MOST = 12_000_000;
const FAST_MS = 15;
const SLOW_MS = 55;
/** A frame that shows this many may be as slow as `SLOW_MS`; below, a machine is too slow to be smooth anyway. */
const PLENTY = 250_000;

export class Budget {
  points = 25_000;
  /** Milliseconds of the frames of late. */
  frameMs = 0;
  /** @type {WebGLSync | null} */
  #fence = null;
  #since = 0;
  #drawn = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** Whether the last frame is still being drawn; another one would only queue behind it. */
  get busy() {
    return this.#fence !== null;
  }

  /**
   * A frame has been handed to the GPU. The fence tells when it is done, without the page waiting for it:
   * `gl.finish` does not wait in Chromium, and reading a pixel would stop everything else.
   *
   * @param {WebGL2RenderingContext} gl
   * @param {number} since  When its drawing began.
   * @param {number} drawn  Points in it.
   * @param {() => void} done
   */
  submitted(gl, since, drawn, done) {
    this.#since = since;
    this.#drawn = drawn;
    this.#fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    const poll = () => {
      if (!this.#fence) return;
      const lost = gl.isContextLost();
      if (!lost && gl.getSyncParameter(this.#fence, gl.SYNC_STATUS) !== gl.SIGNALED) {
        this.#timer = setTimeout(poll, 2);
        return;
      }
      gl.deleteSync(this.#fence);
      this.#fence = null;
      if (!lost) this.learn(performance.now() - this.#since, this.#drawn);
      done();
    };
    this.#timer = setTimeout(poll, 1);
  }

  /**
   * @param {number} ms
   * @param {number} drawn
   */
  learn(ms, drawn) {
    this.frameMs = this.frameMs ? 0.6 * this.frameMs + 0.4 * ms : ms;
    // A frame of few points says nothing about one of many.
    if (drawn < 0.5 * this.points && ms < SLOW_MS) return;
    const wanted = Math.min(SLOW_MS, Math.max(FAST_MS, (ms / Math.max(drawn, FEWEST)) * PLENTY));
    const step = Math.min(1.5, Math.max(0.4, wanted / Math.max(ms, 1)));
    this.points = Math.round(Math.min(MOST, Math.max(FEWEST, this.points * step)));
  }

  forget() {
    clearTimeout(this.#timer);
    this.#fence = null;
  }
}
