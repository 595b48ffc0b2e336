// Runs an exported model in onnxruntime-web, as a browser would, and prints the pooled vectors as JSON.
// usage: node run_in_web_runtime.mjs FOLDER_WITH_NODE_MODULES MODEL.onnx FEEDS.json
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";

const [modules, model, feedsFile] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(modules), "package.json"));
const ort = require("onnxruntime-web/wasm");
ort.env.wasm.numThreads = 1;

const { shape, input_ids, attention_mask } = JSON.parse(await readFile(feedsFile, "utf8"));
const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values.map(BigInt)), shape);
const session = await ort.InferenceSession.create(await readFile(model), { executionProviders: ["wasm"] });
const feeds = { input_ids: tensor(input_ids), attention_mask: tensor(attention_mask) };
await session.run(feeds);
const start = performance.now();
const { sentence_embedding: pooled, last_hidden_state: hidden } = await session.run(feeds);
const milliseconds = performance.now() - start;
console.log(
  JSON.stringify({ milliseconds, dims: pooled.dims, hiddenDims: hidden.dims, pooled: Array.from(pooled.data) }),
);
