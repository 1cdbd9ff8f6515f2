/** The packed SDK under Bun, Node and Deno: the tiny model trains, predicts and gives logits there, with the same numbers. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cpSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { findDeno } from "../support/deno.ts";
import { tiers } from "../support/gpu.ts";
import { installPacked, type Outside, runIn } from "../support/packed.ts";

interface Told {
  readonly version: string;
  readonly provider: string;
  readonly wrong: readonly string[];
  readonly numbers: {
    readonly losses: readonly number[];
    readonly metrics: Readonly<Record<string, number>>;
    readonly values: readonly (readonly number[])[];
    readonly logits: readonly (readonly number[])[];
  };
}

const SCRIPT = "tiny-run.mjs";
let outside: Outside;
let reference: Told["numbers"];

async function runTiny(name: string, ...command: readonly string[]): Promise<Told> {
  const folder = join(outside.folder, name);
  mkdirSync(folder);
  const { exit, stdout, stderr } = await runIn(outside.folder, [...command, SCRIPT, folder]);
  expect(exit, stderr).toBe(0);
  return JSON.parse(stdout) as Told;
}

/** A record names the runtime that made it. */
const recordOf = (name: string): object =>
  JSON.parse(readFileSync(join(outside.folder, name, "run", "run.json"), "utf8")) as object;

/** Every number of `found` within f32's rounding of the one of Bun's run. */
function expectSame(found: Told["numbers"]): void {
  const flat = ({ losses, metrics, values, logits }: Told["numbers"]): readonly number[] =>
    [losses, Object.values(metrics), ...values, ...logits].flat();
  expect(Object.keys(found.metrics)).toEqual(Object.keys(reference.metrics));
  const [got, expected] = [flat(found), flat(reference)];
  expect(got).toHaveLength(expected.length);
  for (const [i, value] of got.entries()) {
    expect(Math.abs(value - expected[i]!), `number ${i}`).toBeLessThanOrEqual(
      2e-5 * Math.max(1, Math.abs(expected[i]!)),
    );
  }
}

beforeAll(async () => {
  outside = await installPacked();
  cpSync(join(import.meta.dir, "fixtures", SCRIPT), join(outside.folder, SCRIPT));
  if (tiers.length === 0) return;
  const { provider, wrong, numbers } = await runTiny("bun", process.execPath);
  expect({ provider, wrong }).toEqual({ provider: "bun-webgpu", wrong: [] });
  expect(numbers.losses).toHaveLength(3);
  expect(numbers.metrics).toMatchObject({ eval_counted: 105 });
  expect(numbers.values).toHaveLength(4);
  reference = numbers;
});
afterAll(() => outside.remove());

const node = Bun.which("node");
test.skipIf(tiers.length === 0 || node === null)("Node", async () => {
  const { provider, wrong, numbers } = await runTiny("node", node!);
  expect({ provider, wrong }).toEqual({ provider: "webgpu", wrong: [] });
  expectSame(numbers);
  expect(recordOf("node")).toMatchObject({ node: expect.stringMatching(/^\d+\./) });
});

const deno = findDeno();
test.skipIf(tiers.length === 0 || deno === undefined)("Deno", async () => {
  const { provider, wrong, numbers } = await runTiny("deno", deno!, "run", "--allow-all", "--node-modules-dir=manual");
  expect({ provider, wrong }).toEqual({ provider: "webgpu", wrong: [] });
  expectSame(numbers);
  expect(recordOf("deno")).toMatchObject({ deno: expect.stringMatching(/^\d+\./) });
});

test.skipIf(node === null)("what only Bun can do is one error elsewhere", async () => {
  const code = `import { openGpu, watchRun } from "qlora";
    for (const call of [() => watchRun("run"), () => openGpu({ gpu: "bun-webgpu" })])
      await call().catch(({ code, message, hint }) => console.log(JSON.stringify({ code, message, hint })));`;
  const { stdout } = await runIn(outside.folder, [node!, "--input-type=module", "-e", code]);
  const [watch, gpu] = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as object);
  expect(watch).toMatchObject({
    code: "RUNTIME_UNSUPPORTED",
    message: expect.stringMatching(/^watchRun: got Node [\d.]+, expected Bun$/),
  });
  expect(gpu).toMatchObject({ code: "PROVIDER_UNAVAILABLE", hint: expect.stringContaining("webgpu") });
});
