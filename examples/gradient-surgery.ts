/**
 * Gradient surgery in the loop: PCGrad (Yu et al. 2020) over two groups of rows, decided ones and ties. Where their
 * gradients point against each other, each loses its part along the other before they are added.
 *
 *   bun examples/gradient-surgery.ts
 */
import { type ComputeGradients, trainer } from "qlora";
import { printTable, tinyConfig } from "./tiny.ts";

type Gradients = Map<string, Float32Array<ArrayBuffer>>;

const dot = (a: Gradients, b: Gradients): number => {
  let sum = 0;
  for (const [name, values] of a) values.forEach((value, i) => (sum += value * b.get(name)![i]!));
  return sum;
};

/** a without its part along b, where the two conflict; and added to b, which lost its part along a. */
function combine(a: Gradients, b: Gradients): { readonly cosine: number; readonly sum: Gradients } {
  const [ab, aa, bb] = [dot(a, b), dot(a, a), dot(b, b)];
  const [fromA, fromB] = ab < 0 ? [1 - ab / aa, 1 - ab / bb] : [1, 1];
  const sum = new Map([...a].map(([name, x]) => [name, x.map((value, i) => fromA * value + fromB * b.get(name)![i]!)]));
  return { cosine: ab / Math.sqrt(aa * bb), sum };
}

let cosine = Number.NaN;
const TIE = 2;

const computeGradients: ComputeGradients = async ({ samples, parameters, backward }) => {
  const groups = [samples.filter(({ label }) => label === TIE), samples.filter(({ label }) => label !== TIE)];
  const gradients: Gradients[] = [];
  for (const group of groups) {
    parameters.zeroGrad();
    await backward(group);
    gradients.push(await parameters.readGradients());
  }
  const result = combine(gradients[0]!, gradients[1]!);
  cosine = result.cosine;
  parameters.writeGradients(result.sum);
};

const rows = [];
for await (const { step, loss, gradNorm } of trainer(await tinyConfig("gradient-surgery"), { computeGradients }))
  rows.push({
    step,
    loss,
    "gradient norm": gradNorm,
    "cosine of the groups": cosine,
    surgery: cosine < 0 ? "yes" : "no",
  });
printTable(rows);
