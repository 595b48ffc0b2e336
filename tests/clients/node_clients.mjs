// Embed texts through a client for node and print the vectors: node_clients.mjs MODULES CLIENT URL MODEL TASK < texts
import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, client, url, model, task] = process.argv.slice(2);
const texts = JSON.parse(readFileSync(0, "utf-8"));
const key = "nk-" + "k".repeat(43);

const main = { openai: "openai/index.mjs", atlas: "@nomic-ai/atlas/dist/main.js" }[client];
const library = await import(pathToFileURL(path.join(modules, "node_modules", main)));

let vectors;
if (client === "openai") {
  const answer = await new library.OpenAI({ baseURL: `${url}/v1`, apiKey: key }).embeddings.create({
    model: `${model}:${task}`,
    input: texts,
  });
  vectors = answer.data.map((item) => Array.from(item.embedding));
} else {
  process.env.ATLAS_API_DOMAIN = url.replace("http://", "");
  vectors = await new library.Embedder(key, { model, taskType: task }).embed(texts);
}
console.log(JSON.stringify(vectors));
