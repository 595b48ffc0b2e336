// An exported folder asked through the viewer's source, beside the answers that Python gives of the same map.
// tests/atlas/test_static_export.py makes both and runs this.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { createStaticSource } from "../../../src/gnomonic/viewer/data/static_source.js";

const folder = process.env.GNOMONIC_TEST_EXPORT;
const options = { skip: folder ? false : "run by tests/atlas/test_static_export.py" };
const expected = folder ? JSON.parse(await readFile(`${folder}/../expected.json`, "utf8")) : {};

/** A file host; a path that leaves the folder is not found. */
async function host(address) {
  assert.match(address, /^sub\/data\/[\w./-]+$/);
  try {
    return new Response(await readFile(`${folder}/${address.slice("sub/".length)}`));
  } catch {
    return new Response("not found", { status: 404 });
  }
}

const opened = () => createStaticSource("sub/data/", { fetching: host, storage: null });

test("what passes conditions is what passes on the server", options, async () => {
  const source = opened();
  for (const { conditions, positions } of expected.filters) {
    const found = await source.filter(conditions);
    assert.deepEqual(found.positions(), positions, JSON.stringify(conditions));
  }
  for (const conditions of expected.refused) await assert.rejects(source.filter(conditions), { name: "SourceError" });
});

test("counts are those of the server", options, async () => {
  const source = opened();
  for (const { conditions, columns, total, counts } of expected.counts) {
    assert.deepEqual(await source.counts(columns, conditions), { total, counts });
  }
});

test("groups of duplicates are those of the server at every cut-off", options, async () => {
  const source = opened();
  for (const { asked, answer } of expected.duplicates) {
    const found = await source.duplicateGroups({ ...asked, offset: 0, limit: 500 });
    const page = found.page.map(({ positions, keep }) => ({ positions, keep }));
    assert.deepEqual({ ...found, page }, answer, JSON.stringify(asked));
  }
  await assert.rejects(source.duplicateGroups({ cutoff: 0.9, keep: "first", by: null, offset: 0, limit: 1 }), /up to/);
});

test("rows have their values, whole where asked for; those that are gone have none", options, async () => {
  const source = opened();
  for (const { position, row } of expected.rows) {
    const [found] = await source.rows([position], { longest: 1_000_000 });
    if (row === null) assert.equal(found, null);
    else {
      assert.deepEqual(found.values, row.values);
      assert.equal(found.id, row.id);
      for (const key of ["x", "y", "trust"]) assert.ok(Math.abs(found[key] - row[key]) < 1e-4, key);
    }
  }
  const { position, field, length, kept } = expected.long;
  const [short] = await source.rows([position]);
  assert.equal(short.values[field].length, 400);
  assert.ok(short.cut.includes(field));
  const [whole] = await source.rows([position], { columns: [field], longest: Infinity });
  assert.equal(whole.values[field].length, Math.min(length, kept));
  assert.deepEqual(whole.cut, length > kept ? [field] : []);
});

test("neighbours are the graph's, without what is gone", options, async () => {
  const source = opened();
  for (const { position, neighbors } of expected.neighbors) {
    const found = await source.neighbors(position);
    assert.deepEqual(found.map((one) => [one.position, one.id]), neighbors.map((one) => [one.position, one.id]));
    found.forEach((one, at) => assert.ok(Math.abs(one.distance - neighbors[at].distance) < 1e-4));
  }
});

test("rows are found by id, by words and by what they are like", options, async () => {
  const source = opened();
  const { id, words, like } = expected.find;
  assert.deepEqual(await source.find("id", { query: String(id.id) }, 5), [{ position: id.position, score: 1 }]);
  assert.deepEqual(await source.find("id", { query: "no such id" }, 5), []);
  for (const { query, every, some } of words) {
    const found = (await source.find("words", { query }, 10_000)).map((hit) => hit.position);
    assert.deepEqual(found.slice(0, every.length).sort((a, b) => a - b), every, query);
    assert.deepEqual(found.toSorted((a, b) => a - b), some, query);
  }
  const hits = await source.find("like", { position: like.position }, 30);
  assert.equal(hits.length, 30);
  assert.deepEqual(hits.slice(0, 10).map((hit) => hit.position), like.nearest.slice(0, 10));
  assert.ok(hits.every((hit, at) => hit.position !== like.position && (!at || hit.score <= hits[at - 1].score)));
  const some = await source.find("like", { position: like.position }, 30, { ids: like.ids });
  assert.deepEqual(some.map((hit) => hit.position).toSorted((a, b) => a - b), like.among);
  for (const mode of ["semantic", "hybrid", "image"]) {
    await assert.rejects(source.find(mode, { query: "x" }, 5), /needs a server/);
  }
});

test("heat is hottest at the row itself", options, async () => {
  const { values, low, high } = await opened().heat({ position: expected.find.like.position });
  assert.equal(Math.max(...values), values[expected.find.like.position]);
  assert.ok(low < high);
});

test("an explanation names the words, values and topics that the server names", options, async () => {
  const source = opened();
  const { conditions, count, word, fields, topics } = expected.explain;
  const found = await source.explain(conditions);
  assert.equal(found.count, count);
  assert.equal(found.words[0].phrase, word);
  assert.deepEqual(found.fields.map((one) => [one.column, one.value, one.code, one.count]), fields);
  assert.deepEqual(found.topics.map((one) => [one.id, one.count]), topics);
  assert.ok(found.exemplars.length && !found.exemplars.some((one) => found.outliers.includes(one)));
  const nothing = await source.explain({ ids: [] });
  assert.deepEqual([nothing.count, nothing.words, nothing.exemplars], [0, [], []]);
});

test("tags of the export are there and can be changed", options, async () => {
  const source = opened();
  assert.deepEqual(await source.tags(), expected.tags);
  const { changed } = await source.tag("mine", expected.filters[0].conditions);
  assert.deepEqual(changed.positions(), expected.filters[0].positions);
  assert.deepEqual(await source.filter({ tags: ["mine"] }), await source.filter(expected.filters[0].conditions));
  await source.deleteTag("mine");
  assert.deepEqual(await source.tags(), expected.tags);
});

test("rows are written as CSV, JSON lines and ids, formulas quoted", options, async () => {
  const source = opened();
  const { conditions, csv, jsonl, ids } = expected.files;
  assert.equal(await (await source.exportRows(conditions, "csv")).text(), csv);
  const lines = (await (await source.exportRows(conditions, "jsonl")).text()).trim().split("\n");
  assert.deepEqual(lines.map((line) => JSON.parse(line)), jsonl);
  assert.equal(await (await source.exportRows(conditions, "ids")).text(), ids);
  await assert.rejects(source.exportRows(conditions, "parquet"), /choose CSV/);
});

test("a file that is missing or damaged is named", options, async () => {
  const broken = createStaticSource("sub/data/", {
    fetching: async (address) => (address.includes("/rows/") ? new Response("{") : host(address)),
    storage: null,
  });
  await assert.rejects(broken.rows([0]), /rows\/0\.bin is damaged/);
  const absent = createStaticSource("elsewhere", { fetching: async () => new Response("", { status: 404 }) });
  await assert.rejects(absent.view(), /view\.json is not there/);
});
