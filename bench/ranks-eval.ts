// Rows a second of a forward pass at 9B over real lengths, on as many ranks as mpirun starts:
// [mpirun -n 2] bun bench/ranks-eval.ts lengths.json [rows] [shape]
import { readFileSync } from "node:fs";
import { lora } from "../plugins/index.ts";
import type { TokenizedDataset } from "../runtime/data/dataset-tokenizer.ts";
import { openGpu } from "../runtime/device/open.ts";
import { openRankDevice } from "../runtime/device/rank-device.ts";
import { openWorld } from "../runtime/distributed/index.ts";
import { openSession } from "../runtime/session/session.ts";
import { computeLogits } from "../runtime/training/evaluate.ts";
import { benchSource } from "../sdk/bench-source.ts";

const [file, count = "512", shape = "gemma2-9b"] = process.argv.slice(2);
const world = await openWorld();
const lengths = JSON.parse(readFileSync(file!, "utf8")) as number[];
const rows = Uint32Array.from({ length: Number(count) }, (_, i) => lengths[i % lengths.length]!);
const ids = (row: number): Uint32Array =>
  Uint32Array.from({ length: rows[row]! }, (_, i) => 5 + ((row * 7919 + i * 104729) % 200));
const data: TokenizedDataset = {
  dataset: { rows: [], files: [] },
  size: rows.length,
  fromCache: false,
  fingerprint: "",
  get: (row) => Promise.resolve(ids(row)),
  ready: (wanted) => Promise.resolve(Array.from(wanted, ids)),
  done: () => Promise.resolve({ lengths: rows, fullLengths: rows, cuts: new Uint32Array(rows.length) }),
};
const device = await openRankDevice(undefined, world);
const gpu = await openGpu({ gpu: process.env["QLORA_TEST_GPU"] === "auto" ? "auto" : "webgpu" });
await device.check(gpu.info);
const source = benchSource({ shape: shape as "gemma2-9b" });
const adapter = lora({ rank: 64, alpha: 32, targetModules: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"] });
using session = await openSession({ source, adapter, device: {}, gpu, numLabels: 3, seed: 1 });
const limits = { maxTokens: 8192, maxSamples: 64 };
await computeLogits(session, data, limits, "warming up", undefined, { world });
await world.barrier({ what: "the start" });
const from = performance.now();
const logits = await computeLogits(session, data, limits, "evaluating", undefined, { world });
const seconds = (performance.now() - from) / 1000;
if (world.rank === 0) {
  const tokens = rows.reduce((sum, length) => sum + length, 0);
  const hash = Bun.hash(new Uint8Array(logits.buffer)).toString(16);
  console.log(
    JSON.stringify({
      ranks: world.size,
      rows: rows.length,
      seconds,
      rowsPerSecond: rows.length / seconds,
      tokensPerSecond: tokens / seconds,
      hash,
    }),
  );
}
await world.close({ what: "the end" });
process.exit(0);
