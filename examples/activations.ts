/**
 * Reading the hidden states of one block: how alike the last tokens of texts are, block by block.
 *
 *   bun examples/activations.ts
 */
import { openModel } from "qlora";
import { printTable, tinyConfig } from "./tiny.ts";

const TEXTS = ["The sky is blue.", "The sky is very blue.", "Sorry, I cannot answer that question."];

const cosine = (a: Float32Array, b: Float32Array): number => {
  const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
};

// A trained adapter would be { adapter: "output/run" } beside the config.
using model = await openModel(await tinyConfig("activations"));
const ids = await model.encode(TEXTS);
const rows = [];
for (let block = 0; block <= 4; block++) {
  const states = await model.hiddenStates(ids, block);
  const [a, b, c] = states.map((values, i) => {
    const width = values.length / ids[i]!.length;
    return values.slice(-width); // the last token's
  });
  const norm = Math.sqrt(a!.reduce((sum, value) => sum + value * value, 0));
  rows.push({ block, width: a!.length, norm, "1 and 2": cosine(a!, b!), "1 and 3": cosine(a!, c!) });
}
printTable(rows);
const [logits] = await model.logits(ids);
console.log(`logits of the first text: ${[...logits!].map((value) => value.toFixed(4)).join(" ")}`);
