import { setDefaultTimeout, test } from "bun:test";
import { checkGradient, kernelContract, modelContract, testGpu, testTiers, tinyCheckpoint } from "qlora/testing";
import { myPlugin } from "../src/index.ts";
import { dispatchMeanPool, meanPool } from "../src/mean-pool.ts";

setDefaultTimeout(120_000); // a first run compiles kernels, which takes a CPU longer than the standard 5 s

/** Two samples: `rows` tokens, and one. */
const samples = (rows: number) => ({
  segments: Array.from({ length: rows + 1 }, (_, i) => (i < rows ? [0, rows] : [rows, rows + 1])).flat(),
  lastTokens: [rows - 1, rows],
});

/** Means in f64. */
const means = (x: Float64Array, rows: number): Float64Array => {
  const columns = x.length / (rows + 1);
  const column = (c: number) => Array.from({ length: rows }, (_, r) => x[r * columns + c]!);
  const first = Array.from({ length: columns }, (_, c) => column(c).reduce((sum, v) => sum + v, 0) / rows);
  return Float64Array.of(...first, ...x.subarray(rows * columns));
};

const meanPoolChecks = await kernelContract("mean pool", (rows) => ({
  inputs: [
    { name: "x", shape: [rows + 1, 3] },
    { name: "segments", shape: [rows + 1, 2], dtype: "u32", values: samples(rows).segments },
    { name: "last tokens", shape: [2], dtype: "u32", values: samples(rows).lastTokens },
  ],
  output: { shape: [2, 3] },
  run: (gpu, [x, segments, lastTokens], output) =>
    dispatchMeanPool(gpu, "forward", x!, output, { segments: segments!, lastTokens: lastTokens! }),
  reference: (x) => means(x, rows),
}));
for (const { name, run } of meanPoolChecks) test(name, run);

for (const tier of await testTiers()) {
  test(`gradient of mean pool, tier ${tier}`, async () => {
    const gpu = await testGpu(tier);
    const { segments, lastTokens } = samples(5);
    const where = gpu.upload(Uint32Array.from(segments), [6, 2], "u32", "segments");
    const last = gpu.upload(Uint32Array.from(lastTokens), [2], "u32", "last tokens");
    await checkGradient(gpu, {
      inputs: [{ name: "x", shape: [6, 3] }],
      run: (tape, [x]) => meanPool(tape, x!, where, last),
      reference: (x) => means(x, 5),
    });
    gpu.free(where);
    gpu.free(last);
  });

  for (const { name, run } of modelContract(testGpu(tier), myPlugin({ checkpoint: tinyCheckpoint })))
    test(`${name}, tier ${tier}`, run, 120_000);
}
