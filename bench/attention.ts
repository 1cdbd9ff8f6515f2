import type { Tier } from "../core/device/probe.ts";
import type { Tensor } from "../core/device/tensor.ts";
import { attentionBackward, attentionDelta, attentionForward } from "../kernels/attention/index.ts";
import type { AttentionOptions } from "../kernels/attention/options.ts";
import { openGpu } from "../runtime/device/open.ts";

const [tier, ...sizes] = process.argv.slice(2);
const numbers = sizes.map(Number);
const [samples = 16, length = 128, heads = 4, kvHeads = 2, headDim = 32] = numbers;
const gpu = await openGpu(tier === undefined ? {} : { tier: tier as Tier });
const half = gpu.computeDtype;
const rows = samples * length;

const filled = (columns: number, label: string): Tensor => {
  const data = half === "f16" ? new Float16Array(rows * columns) : new Float32Array(rows * columns);
  for (let i = 0; i < data.length; i++) data[i] = Math.random() * 2 - 1;
  return gpu.upload(data, [rows, columns], half, label);
};

const q = filled(heads * headDim, "q");
const k = filled(kvHeads * headDim, "k");
const v = filled(kvHeads * headDim, "v");
const dOut = filled(heads * headDim, "dOut");
const out = gpu.alloc(q.shape, half, "out");
const lse = gpu.alloc([rows, heads], "f32", "lse");
const delta = gpu.alloc([rows, heads], "f32", "delta");
const segments = gpu.upload(
  Uint32Array.from({ length: 2 * rows }, (_, i) => (Math.floor(i / 2 / length) + (i % 2)) * length),
  [rows, 2],
  "u32",
  "segments",
);
const options: AttentionOptions = {
  segments,
  heads,
  kvHeads,
  headDim,
  scale: headDim ** -0.5,
  softcap: 50,
  window: 0,
  maxSeqlen: length,
};

/** Prints one line: the best of five timings of four runs each; `products` is how many matrix products there are. */
async function measure(name: string, products: number, run: () => void): Promise<number> {
  const REPEATS = 4;
  run();
  await gpu.idle();
  let [wall, cpu] = [Infinity, Infinity];
  for (let round = 0; round < 5; round++) {
    const [start, usage] = [performance.now(), process.cpuUsage()];
    for (let i = 0; i < REPEATS; i++) run();
    await gpu.idle();
    const used = process.cpuUsage(usage);
    wall = Math.min(wall, (performance.now() - start) / 1e3 / REPEATS);
    cpu = Math.min(cpu, (used.user + used.system) / 1e6 / REPEATS);
  }
  const flops = products * 2 * headDim * ((length * (length + 1)) / 2) * heads * samples;
  console.log(
    `${name.padEnd(20)} ${(wall * 1e3).toFixed(2).padStart(9)} ms ${(flops / wall / 1e9).toFixed(2).padStart(9)} GFLOP/s` +
      `   ${(cpu * 1e3).toFixed(2).padStart(9)} CPU ms ${(flops / cpu / 1e9).toFixed(2).padStart(7)} per CPU second`,
  );
  return cpu;
}

console.log(`${gpu.info.adapter.description || gpu.info.adapter.device}, tier ${gpu.tier}`);
console.log(`${samples} samples of ${length}, H ${heads}, K ${kvHeads}, D ${headDim}; the causal half counted`);
const tensors = { q, k, v, out, lse, dOut };
let total = await measure("forward", 2, () => attentionForward(gpu, tensors, options));
total += await measure("delta", 1 / length, () => attentionDelta(gpu, dOut, out, delta, headDim));
for (const [part, of, products] of [
  ["queries", q, 3],
  ["keys", k, 3],
  ["values", v, 2],
] as const) {
  const gradient = gpu.alloc(of.shape, half, part);
  total += await measure(part, products, () => attentionBackward(gpu, tensors, delta, { [part]: gradient }, options));
}
console.log(
  `forward and backward ${(total * 1e3).toFixed(1)} CPU ms; 4 layers, 50 steps ${(total * 200).toFixed(1)} CPU s`,
);
gpu.destroy();
