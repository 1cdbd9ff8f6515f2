import type { Tier } from "../core/device/probe.ts";
import type { Tensor } from "../core/device/tensor.ts";
import { nf4CodeBook, quantize4bit } from "../core/formats/nf4.ts";
import { frozenForward, frozenInputGradient } from "../kernels/lora-linear/portable.ts";
import { matmulNN, matmulNT, matmulTN, variantOf } from "../kernels/matmul/index.ts";
import { dequantize, upload4bit } from "../kernels/nf4/index.ts";
import { openGpu } from "../runtime/device/open.ts";

const tokens = Number(process.argv[2] ?? 500);
const gpu = await openGpu(process.argv[3] === undefined ? {} : { tier: process.argv[3] as Tier });
const half = gpu.computeDtype;
const RANK = 64;

const filled = (shape: readonly [number, number], dtype: "f32" | "f16"): Tensor => {
  const n = shape[0] * shape[1];
  const data = dtype === "f16" ? new Float16Array(n) : new Float32Array(n);
  for (let i = 0; i < n; i++) data[i] = Math.random() - 0.5;
  return gpu.upload(data, shape, dtype, "bench");
};

/** Prints one line: the best of eight timings of four runs each. */
async function measure(name: string, flops: number, run: () => void): Promise<void> {
  const REPEATS = 4;
  run();
  await gpu.idle();
  let [wall, cpu] = [Infinity, Infinity];
  for (let round = 0; round < 8; round++) {
    const [start, usage] = [performance.now(), process.cpuUsage()];
    for (let i = 0; i < REPEATS; i++) run();
    await gpu.idle();
    const used = process.cpuUsage(usage);
    wall = Math.min(wall, (performance.now() - start) / 1e3 / REPEATS);
    cpu = Math.min(cpu, (used.user + used.system) / 1e6 / REPEATS);
  }
  const software = variantOf(gpu) === "direct" ? `   ${(flops / cpu / 1e9).toFixed(2).padStart(6)} per CPU second` : "";
  console.log(`${name.padEnd(44)} ${(flops / wall / 1e9).toFixed(2).padStart(8)} GFLOP/s${software}`);
}

console.log(`${gpu.info.adapter.description || gpu.info.adapter.device}, tier ${gpu.tier}, ${tokens} tokens`);
const rowKeys = gpu.upload(
  Uint32Array.from({ length: tokens }, () => Math.random() * 2 ** 32),
  [tokens],
  "u32",
  "row keys",
);
for (const [name, out, columns] of [
  ["q_proj, o_proj", 128, 128],
  ["k_proj, v_proj", 64, 128],
  ["gate_proj, up_proj", 512, 128],
  ["down_proj", 128, 512],
] as const) {
  const { codes, absmax } = quantize4bit(Float32Array.from({ length: out * columns }, () => Math.random() - 0.5));
  const weight = upload4bit(
    gpu,
    { shape: [out, columns], dtype: "bfloat16", codes, codeBook: nf4CodeBook, absmax },
    name,
  );
  const x = filled([tokens, columns], half);
  const y = filled([tokens, out], half);
  const u = filled([tokens, RANK], half);
  const a = filled([RANK, columns], "f32");
  const b = filled([out, RANK], "f32");
  const [gradA, gradB] = [filled([RANK, columns], "f32"), filled([out, RANK], "f32")];
  const scratch = filled([out, columns], half);
  const dropout = { rowKeys, site: 1, seed: 2, p: 0.05 };
  const base = 2 * tokens * out * columns;
  const [down, up] = [2 * tokens * RANK * columns, 2 * tokens * RANK * out];
  console.log(`${name}: [${out},${columns}]`);
  await measure("  dequantize (operations: one a weight)", out * columns, () => dequantize(gpu, weight, scratch));
  await measure("  x W^T, with dequantization", base, () => frozenForward(gpu, x, weight, y));
  await measure("  dY W, with dequantization", base, () => frozenInputGradient(gpu, y, weight, x));
  await measure("  x A^T", down, () => matmulNT(gpu, x, a, u));
  await measure("  dropout(x) A^T", down, () => matmulNT(gpu, x, a, u, { dropout: { ...dropout, on: "a" } }));
  await measure("  y += s u B^T", up, () => matmulNT(gpu, u, b, y, { scale: 0.5, accumulate: true }));
  await measure("  s dY B", up, () => matmulNN(gpu, y, b, u, { scale: 0.5 }));
  await measure("  dB += s dY^T u", up, () => matmulTN(gpu, y, u, gradB, { scale: 0.5, accumulate: true }));
  await measure("  dA += dU^T dropout(x)", down, () =>
    matmulTN(gpu, u, x, gradA, { accumulate: true, dropout: { ...dropout, on: "b" } }),
  );
  await measure("  dX += mask (dU A)", down, () =>
    matmulNN(gpu, u, a, x, { accumulate: true, dropout: { ...dropout, on: "c" } }),
  );
}
gpu.destroy();
