// Logic of maps without a server that needs no map: run with node --test.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bits } from "../../../src/gnomonic/viewer/bits.js";
import { leadersOf } from "../../../src/gnomonic/viewer/data/static_duplicates.js";
import { pooled, shardOf } from "../../../src/gnomonic/viewer/data/static_files.js";
import { inBox, inPolygon } from "../../../src/gnomonic/viewer/data/static_sets.js";
import { best, heatOf, nearness } from "../../../src/gnomonic/viewer/data/static_sketch.js";
import { StaticTags, decoded, encoded } from "../../../src/gnomonic/viewer/data/static_tags.js";
import { wordsOf } from "../../../src/gnomonic/viewer/data/static_words.js";

test("words are letters, numbers and marks in small letters; unspaced scripts have a word a character", () => {
  assert.deepEqual(wordsOf("Straße, NAÏVE_2 x-ray; 日本語 हिन्दी don't"), [
    "straße", "naïve_2", "x", "ray", "日", "本", "語", "हिन्दी", "don", "t",
  ]);
  assert.deepEqual(wordsOf(" … !"), []);
  assert.equal(wordsOf("a".repeat(100))[0].length, 64);
});

test("shards are the lowest bits of a CRC-32", () => {
  // zlib.crc32(b"123456789") is 0xcbf43926, the check value of its definition.
  assert.equal(shardOf("123456789", 256), 0x26);
  assert.equal(shardOf("anything", 1), 0);
});

test("rows at distance 0 are one, and a chain does not join what is far apart", () => {
  const edges = {
    degrees: new Uint16Array([1, 2, 2, 1, 1, 1]),
    ends: new Uint32Array([1, 0, 2, 1, 3, 2, 5, 4]),
    distances: new Float32Array([0.09, 0.09, 0.09, 0.09, 0.09, 0.09, 0, 0]),
  };
  assert.deepEqual([...leadersOf(edges, "euclidean", 0.1)], [1, 1, 1, 3, 4, 4]);
  assert.deepEqual([...leadersOf(edges, "euclidean", 0.2)], [1, 1, 1, 1, 4, 4]);
  assert.deepEqual([...leadersOf(edges, "euclidean", 0.05)], [0, 1, 2, 3, 4, 4]);
});

test("shapes may cross themselves", () => {
  const points = { x: Float64Array.of(1, 3, 2, 9, 2), y: Float64Array.of(2, 2, 3.5, 2, 0.5) };
  const bow = [[0, 0], [4, 4], [4, 0], [0, 4]];
  assert.deepEqual(inPolygon(points, bow).positions(), [0, 1]);
  assert.deepEqual(inPolygon(points, [[0, 1], [4, 1], [2, 1]]).count(), 0);
  assert.deepEqual(inBox(points, [3, 3, 0, 0]).positions(), [0, 1, 4]);
});

test("a polygon answers as one that is looked at side by side", () => {
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const polygon = Array.from({ length: 40 }, () => [random(), random()]);
  const points = { x: Float64Array.from({ length: 500 }, random), y: Float64Array.from({ length: 500 }, random) };
  const slow = [...points.x].map((x, at) => {
    let inside = false;
    polygon.forEach(([x0, y0], corner) => {
      const [x1, y1] = polygon[(corner + 1) % polygon.length];
      const crosses = y0 > points.y[at] !== y1 > points.y[at];
      if (crosses && x < x0 + ((points.y[at] - y0) * (x1 - x0)) / (y1 - y0)) inside = !inside;
    });
    return inside;
  });
  const found = inPolygon(points, polygon);
  assert.deepEqual(slow, slow.map((_, at) => found.has(at)));
});

test("the best scores come first, the first of equal ones too; what is no number never", () => {
  const scores = Float32Array.of(0.5, NaN, 2, 1, 2, -1);
  assert.deepEqual(best(scores, 3, () => true).map((hit) => hit.position), [2, 4, 3]);
  assert.deepEqual(best(scores, 9, (at) => at !== 2).map((hit) => hit.position), [4, 3, 0, 5]);
  assert.deepEqual(best(scores, 0, () => true), []);
});

test("heat runs from 0 to 255 over the rows that are there", () => {
  const heat = heatOf(Float32Array.of(-9, 0, 1, 0.5), Bits.of(4, [1, 2, 3]));
  assert.deepEqual([[...heat.values], heat.low, heat.high], [[0, 0, 255, 128], 0, 1]);
  assert.deepEqual([...heatOf(Float32Array.of(1, 1), null).values], [0, 0]);
  assert.deepEqual(heatOf(new Float32Array(0), null).high, 0);
});

test("nearness is a cosine or a negative distance", () => {
  const told = { steps: [0.5, 0.25], kept: 1 };
  assert.deepEqual([...nearness(Int8Array.of(2, 0, 0, 4), [1, 0], { ...told, metric: "cosine" })], [1, 0]);
  assert.deepEqual([...nearness(Int8Array.of(2, 0, 8, 16), [1, 0], { ...told, metric: "euclidean" })], [-0, -5]);
});

test("sets of rows come back from text", () => {
  for (const positions of [[], [0], [3, 99, 999], Array.from({ length: 700 }, (_, at) => at)]) {
    const text = encoded(Bits.of(1000, positions));
    assert.deepEqual(decoded(1000, text).positions(), positions);
  }
  assert.ok(encoded(Bits.of(1_000_000, [5, 999_999])).length < 20);
});

test("tags outlive the page, can be undone, and say when the browser is full", async () => {
  const kept = new Map();
  const storage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
  const files = { zipped: async () => ({ old: Bits.of(10, [1, 2]).toBase64() }) };
  const tags = new StaticTags(files, "m", 10, storage);
  const change = await tags.change("new <b>", Bits.of(10, [2, 3]), false);
  assert.deepEqual([change.rows, change.changed.positions()], [2, [2, 3]]);
  assert.deepEqual((await tags.change("old", Bits.of(10, [2, 3]), true)).changed.positions(), [2]);
  const again = new StaticTags(files, "m", 10, storage);
  assert.deepEqual(await again.list(), [{ name: "new <b>", rows: 2 }, { name: "old", rows: 1 }]);
  await again.remove("old");
  await assert.rejects(again.rows("old"), /no tag/);
  assert.deepEqual(await new StaticTags(files, "m", 10, storage).list(), [{ name: "new <b>", rows: 2 }]);
  await assert.rejects(again.change("  ", Bits.full(10), false), /1 to 200/);
  storage.setItem = () => {
    throw new Error("full");
  };
  await assert.rejects(again.change("more", Bits.full(10), false), /no room/);
  kept.set("gnomonic-tags/m", "{ not ours");
  assert.deepEqual(await new StaticTags(files, "m", 10, storage).list(), [{ name: "old", rows: 2 }]);
});

test("a few things at a time, answers in order, the first failure told", async () => {
  let running = 0;
  let most = 0;
  const found = await pooled([...Array(20).keys()], async (item) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 20 - item));
    running--;
    return 2 * item;
  });
  assert.deepEqual(found, [...Array(20).keys()].map((item) => 2 * item));
  assert.equal(most, 6);
  await assert.rejects(pooled([1], async () => Promise.reject(new Error("no"))), /no/);
});
