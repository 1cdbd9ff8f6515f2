/**
 * Speed of tier `matrix`'s products at Gemma-2's widths, every result checked against f32 first.
 *
 * ```
 * bun bench/gemm-matrix.ts [--only main,variants,thin,operands] [--seconds 220]     also: relay, few, models
 * bun bench/gemm-matrix.ts --unchecked without the driver's bounds checks
 * bun bench/gemm-matrix.ts --check     validate the WGSL of all of it, without a GPU
 * ```
 * Prints a line a measurement, then tables; all of it as JSON to `$OUT/gemm-matrix.json` where OUT is set.
 */
import { parseArgs } from "node:util";
import type { Gpu } from "../core/device/gpu.ts";
import type { MatrixUnit } from "../kernels/matmul-matrix/index.ts";
import { validateKernels } from "../runtime/device/validate.ts";
import { Clock } from "./gemm/clock.ts";
import { benchGpu, collectingGpu } from "./gemm/device.ts";
import { operands, thinProducts } from "./gemm/lora.ts";
import { block, blockWithLora, fewTokens, product, relayVariants, variants } from "./gemm/products.ts";
import { Session } from "./gemm/session.ts";
import { printTables } from "./gemm/tables.ts";

const SECTIONS: Readonly<Record<string, (session: Session) => Promise<void>>> = {
  async main(session) {
    for (const tokens of [8192, 4096, 2048, 1024, 1900]) await block(session, "9b", tokens);
    for (const tokens of [8192, 2048]) await blockWithLora(session, tokens);
  },
  variants,
  async thin(session) {
    for (const tokens of [8192, 2048, 1900]) await thinProducts(session, tokens, tokens !== 1900);
  },
  operands,
  relay: relayVariants,
  few: fewTokens,
  async models(session) {
    for (const model of ["2b", "27b"] as const) for (const tokens of [4096, 2048]) await block(session, model, tokens);
  },
};

const { values } = parseArgs({
  options: {
    check: { type: "boolean", default: false },
    unchecked: { type: "boolean", default: false },
    only: { type: "string", default: "main,variants,thin,operands" },
    seconds: { type: "string", default: "220" },
  },
});
const wanted = values.only.split(",");
for (const name of wanted)
  if (!(name in SECTIONS)) throw new RangeError(`no section ${name}; there are ${Object.keys(SECTIONS).join(", ")}`);

const start = performance.now();
const elapsed = (): string => `${((performance.now() - start) / 1000).toFixed(1)} s`;
const runAll = async (session: Session): Promise<void> => {
  for (const name of wanted) await SECTIONS[name]!(session);
};

/** The kernels that everything asks for, collected without a device. */
async function collect(unit: MatrixUnit): Promise<Gpu["kernelSpecs"]> {
  const gpu = collectingGpu(unit);
  await runAll(new Session(gpu, undefined, Infinity));
  return gpu.kernelSpecs;
}

/** Validates their WGSL; the number of problems. */
async function validate(unit: MatrixUnit): Promise<number> {
  const specs = await collect(unit);
  const problems = await validateKernels(specs);
  for (const problem of problems) console.log(`INVALID ${problem}`);
  console.log(
    `${specs.size} kernels, ${problems.length} problems, unit ${unit.m} x ${unit.n} x ${unit.k}, ${elapsed()}`,
  );
  return problems.length;
}

/** A clock that has idled is slow: half a second of products first. */
async function warmUp(gpu: Gpu): Promise<void> {
  const session = new Session(gpu, new Clock(gpu), 60);
  for (const until = performance.now() + 600; performance.now() < until;) {
    await product(session, { section: "warm-up", name: "", tokens: 4096, columns: 14336, depths: [3584] });
  }
}

const unit: MatrixUnit = { m: 16, n: 16, k: 16, lanes: 32 };
if (values.check) {
  const problems = [await validate(unit)];
  if (wanted.length > 1) problems.push(await validate({ m: 8, n: 8, k: 8, lanes: 32 }));
  process.exit(problems.some((count) => count > 0) ? 1 : 0);
}

const gpu = await benchGpu(!values.unchecked);
const { info } = gpu;
console.log(
  `${info.adapter.description || info.adapter.device}, ${info.provider}, tier ${info.tier}, bounds checks ${values.unchecked ? "off" : "on"}`,
);
const specs = await collect(unit);
console.log(`${specs.size} kernels to compile ... ${elapsed()}`);
await gpu.compile(specs);
console.log(`compiled ${elapsed()}`);
await warmUp(gpu);
const seconds = Number(values.seconds) - (performance.now() - start) / 1000;
const session = new Session(gpu, new Clock(gpu), seconds);
await runAll(session);
for (const r of session.results) {
  const error = r.error === undefined ? "" : `  error ${r.error.toExponential(1)}`;
  console.log(
    `${r.section.padEnd(34)} ${r.name.padEnd(16)} ${String(r.tokens).padStart(5)} ${r.ms.toFixed(4).padStart(9)} ms ${r.rate.toFixed(0).padStart(5)} ${r.unit}${error}${r.wrong === undefined ? "" : `  WRONG: ${r.wrong}`}`,
  );
}
const out = process.env["OUT"];
if (out !== undefined)
  await Bun.write(
    `${out}/gemm-matrix.json`,
    JSON.stringify({ info, results: session.results, left: session.left }, undefined, 1),
  );
printTables(session);
console.log(`${session.results.length} measurements, ${session.left.length} left out for time, ${elapsed()}`);
process.exit(session.results.some((r) => r.wrong !== undefined) ? 1 : 0);
