// What the page keeps and does, without a page: run with node --test.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createActions } from "../../../src/gnomonic/viewer/actions.js";
import { Bits } from "../../../src/gnomonic/viewer/bits.js";
import { ofAnyMap, soundConditions, soundQuery } from "../../../src/gnomonic/viewer/link_conditions.js";
import { arrange, groupsOf } from "../../../src/gnomonic/viewer/render/states.js";
import { Thumbnails } from "../../../src/gnomonic/viewer/render/thumbnails.js";
import { Store, firstState } from "../../../src/gnomonic/viewer/store.js";

/** An app whose source answers when it is told to. */
function appOf() {
  const said = [];
  const asked = [];
  const root = new EventTarget();
  root.addEventListener("gnomonic:say", ({ detail }) => said.push(detail.text));
  const later = (conditions, signal) =>
    new Promise((resolve, reject) => {
      signal?.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
      asked.push({ conditions, signal, answer: (...rows) => resolve(Bits.of(16, rows)), fail: reject });
    });
  const store = new Store(firstState());
  const { signal } = new AbortController();
  const app = { root, store, signal, source: { filter: later, neighbors: async () => [{ position: 3 }] } };
  app.actions = createActions(app);
  return { app, store, asked, said, actions: app.actions };
}

const turn = () => new Promise((resolve) => setTimeout(resolve));

test("a part that fails does not keep the others from hearing", async () => {
  const errors = [];
  const listeners = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.once("uncaughtException", (error) => errors.push(error.message));
  const store = new Store(firstState());
  const heard = [];
  store.follow(["panel"], () => {
    throw new Error("broken");
  });
  store.follow(["panel"], ({ panel }) => heard.push(panel));
  store.set({ panel: "tags" });
  await turn();
  for (const one of listeners) process.on("uncaughtException", one);
  assert.deepEqual(heard, ["tags"]);
  assert.deepEqual(errors, ["broken"]);
});

test("what is said before there is a place for messages is told once there is", () => {
  const { app, actions } = appOf();
  actions.say("early", "error");
  const told = [];
  app.root.addEventListener("gnomonic:say", (event) => {
    event.preventDefault();
    told.push([event.detail.text, event.detail.kind]);
  });
  app.root.dispatchEvent(new Event("gnomonic:listening"));
  actions.say("late");
  assert.deepEqual(told, [
    ["early", "error"],
    ["late", "info"],
  ]);
});

test("filters that failed are those in force before", async () => {
  const { store, asked, said, actions } = appOf();
  void actions.filter({ tags: ["a"] });
  asked[0].answer(1, 2);
  await turn();
  void actions.filter({ where: "nonsense" });
  assert.deepEqual(store.state.filters, { where: "nonsense" });
  asked[1].fail(new Error("no such column"));
  await turn();
  assert.deepEqual(store.state.filters, { tags: ["a"] });
  assert.deepEqual(store.state.passing.positions(), [1, 2]);
  assert.equal(store.state.busy, false);
  assert.deepEqual(said, ["Filtering failed: no such column"]);
});

test("a newer selection replaces one that is still looked up, and so does clearing it", async () => {
  const { store, asked, actions, said } = appOf();
  void actions.selectWhere({ tags: ["slow"] }, "slow");
  void actions.selectWhere({ tags: ["quick"] }, "quick");
  asked[1].answer(5);
  asked[0].answer(1);
  await turn();
  assert.deepEqual(store.state.selection.positions(), [5]);
  void actions.selectWhere({ tags: ["late"] }, "late");
  actions.select(null, "");
  asked[2].answer(7);
  await turn();
  assert.equal(store.state.selection, null);
  assert.deepEqual(said, []);
});

test("what is added and taken away counts in the order of the hand, not of the answers", async () => {
  const { store, asked, actions } = appOf();
  void actions.selectWhere({ tags: ["a"] }, "a");
  void actions.selectWhere({ tags: ["b"] }, "b", "add");
  void actions.selectWhere({ tags: ["c"] }, "c", "remove");
  asked[2].answer(1, 3);
  asked[1].answer(3, 4);
  await turn();
  assert.equal(store.state.selection, null);
  asked[0].answer(1, 2);
  await turn();
  assert.deepEqual(store.state.selection.positions(), [2, 4]);
});

test("a link is taken as far as it is sound", () => {
  for (const odd of [null, 5, "x", [], { fields: 7, topics: {}, tags: "a", ids: null, polygon: [[1]], box: [1, "2"] }]) {
    assert.deepEqual(soundConditions(odd), {});
  }
  const crafted = JSON.parse(
    '{"__proto__":{"where":"x"},"constructor":1,"where":5,"fields":[null,7,{"column":"a","codes":[0,-1,1.5,"x",1e300]},' +
      '{"column":"b","min":"0","max":3,"nulls":1},{"codes":[1]}],"tags":["t",3,null],"heat":{"query":"q"},"invert":"yes"}',
  );
  assert.deepEqual(soundConditions(crafted), {
    tags: ["t"],
    fields: [
      { column: "a", codes: [0], nulls: false },
      { column: "b", min: null, max: 3, nulls: false },
    ],
  });
  assert.equal(soundQuery({ position: -1 }), null);
  assert.equal(soundQuery({ query: { a: 1 } }), null);
  assert.deepEqual(soundQuery({ query: "q", dtype: "f64" }), { query: "q" });
});

test("of a link to another map nothing stays that would mean other rows here", () => {
  const ranges = [{ column: "year", min: 1, max: null, nulls: false }];
  const told = { bits: "AAA=", topics: [3], box: [0, 0, 1, 1], tags: ["t"], invert: true };
  assert.deepEqual(ofAnyMap({ ...told, fields: [...ranges, { column: "kind", codes: [0] }] }), {
    tags: ["t"],
    fields: ranges,
    invert: true,
  });
  assert.deepEqual(ofAnyMap({ bits: "AAA=", invert: true }), {});
});

test("deleted rows are in no group that is drawn", () => {
  const node = { tile: { offset: 8, count: 4 }, xy: Uint16Array.of(1, 2, 3, 4, 1, 2, 3, 4) };
  const state = { passing: Bits.of(16, [8, 9, 10]), living: Bits.of(16, [8, 11]), selection: null, heat: null };
  const { index, starts } = arrange(node, groupsOf(node.tile, state), null);
  assert.deepEqual([...index], [3, 0]);
  assert.deepEqual(starts, [0, 1, 2, 2, 2]);
});

test("pictures that are on no sheet are asked for alone, once, and drawn when they come", async () => {
  const count = 1200;
  const asked = [];
  const [own, sheet] = [{ close() {} }, { close() {} }];
  const source = { thumbs: async () => sheet, thumb: async (at) => (asked.push(at), at % 2 ? own : null) };
  let came = 0;
  const ended = new AbortController();
  const thumbs = new Thumbnails(source, ended.signal, () => (came += 1));
  const tile = { offset: 5000, count, z: 0, x: 0, y: 0 };
  const node = { tile, xy: new Uint16Array(2 * count), left: 100, lower: 100, side: 65535 };
  // All on the sheet lie far away; two of the others lie in sight.
  node.xy.fill(65000);
  for (const [i, x] of [[1100, 50], [1101, 400]]) [node.xy[i], node.xy[count + i]] = [x, 60];
  const drawn = [{ node, groups: null, index: null, spans: [[0, count]] }];
  const camera = { view: { width: 1000, height: 1000 }, toScreen: (x, y) => [x, y] };
  const seen = [];
  const context = { drawImage: (picture) => seen.push(picture), strokeRect() {} };
  const draw = () => thumbs.draw(context, { camera, plan: { drawn }, spacing: 64, frame: "" });
  draw();
  assert.deepEqual(asked, [], "the view may still move");
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.deepEqual(asked, [6100, 6101]);
  assert.ok(came > 0);
  draw();
  draw();
  assert.deepEqual(seen, [own, own]);
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.deepEqual(asked, [6100, 6101]);
  ended.abort();
});

test("no more sheets are asked for than are kept", async () => {
  let asked = 0;
  const close = () => {};
  const source = { thumbs: async () => ((asked += 1), { close }) };
  const thumbs = new Thumbnails(source, new AbortController().signal, () => {});
  const node = (at) => ({
    tile: { offset: at, count: 1, z: 3, x: at, y: 0 }, xy: Uint16Array.of(0, 0), left: 90 * (at % 8), lower: 90 * (at >> 3),
    side: 1,
  });
  const drawn = Array.from({ length: 30 }, (_, at) => ({ node: node(at), groups: null, index: null, spans: [] }));
  const camera = { view: { width: 1000, height: 1000 }, toScreen: (x, y) => [x, y] };
  const context = { drawImage: close, strokeRect: close };
  for (let frame = 0; frame < 5; frame++) {
    thumbs.draw(context, { camera, plan: { drawn }, spacing: 64, frame: "" });
    await turn();
  }
  assert.equal(asked, 10);
});
