/** labelSmoothingFactor and neftuneNoiseAlpha: against transformers' numbers, and in a run. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { train, trainer } from "../../index.ts";
import { lora } from "../../plugins/index.ts";
import { crossEntropySoft } from "../../kernels/cross-entropy/index.ts";
import { createTargets } from "../../runtime/training/targets.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, tensorOf, tiers } from "../support/gpu.ts";
import { runOp } from "../support/op.ts";
import { goldenPath } from "../support/reference.ts";
import { labelledRow } from "../support/row.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

interface Recorded {
  readonly epsilon: number;
  readonly logits: readonly (readonly number[])[];
  readonly labels: readonly number[];
  readonly loss: number;
  readonly gradient: readonly (readonly number[])[];
}
const recorded = JSON.parse(readFileSync(goldenPath("turn2", "label-smoothing.json"), "utf8")) as Recorded;

for (const tier of tiers) {
  test(`loss and gradient on the GPU are those of transformers' LabelSmoother, tier ${tier}`, async () => {
    const gpu = await gpuOf(tier);
    const { epsilon, logits, labels, loss, gradient } = recorded;
    const [rows, count] = [labels.map((label) => labelledRow(label)), labels.length];
    const options = { labelSmoothingFactor: epsilon, softLabelWeight: 1, softLabelTemperature: 1 };
    const [term] = createTargets({ rows }, options, 3)!.of(rows);
    const wanted = tensorOf(gpu, term!.values, [count, 3], "f32");
    const input = tensorOf(gpu, logits.flat(), [count, 3], "f32");
    const ran = await runOp(
      gpu,
      [input],
      (tape, t) => crossEntropySoft(tape, t, wanted, term!.temperature),
      new Array(count).fill(1 / count),
    );
    expect(ran.output.reduce((sum, value) => sum + value, 0) / count).toBeCloseTo(loss, 6);
    expectClose(ran.gradients[0]!, gradient.flat(), { atol: 1e-7 });
    gpu.free(wanted);
  });
}

describe.skipIf(tiers.length === 0)("in a run", () => {
  test("smoothing and noise change what is trained, not how it is evaluated; both resume to the byte", async () => {
    await using folder = await temporaryFolder();
    const config = (name: string, training: object) =>
      smallRun(folder.path, {
        adapter: lora({ rank: 2, targetModules: ["q_proj"], layersToTransform: [3] }),
        data: { maxLength: 24 },
        device: { tier: "f32" },
        training: {
          outputDir: join(folder.path, name),
          gradientAccumulationSteps: 1,
          maxSteps: 3,
          evalStrategy: "epoch",
          evalOnStart: true,
          ...training,
        },
      });
    const adapter = (name: string): string =>
      readFileSync(join(folder.path, name, "adapter_model.safetensors"), "base64");
    const both = { labelSmoothingFactor: 0.1, neftuneNoiseAlpha: 5 };
    const plain = await train(await config("plain", {}));
    const smooth = await train(await config("smooth", { labelSmoothingFactor: 0.1 }));
    const noisy = await train(await config("noisy", { neftuneNoiseAlpha: 5 }));
    const first = ({ history }: typeof plain): number => history.find((entry) => "eval_loss" in entry)!["eval_loss"]!;
    expect(first(smooth)).toBe(first(plain));
    expect(first(noisy)).toBe(first(plain));
    expect(new Set([plain, smooth, noisy].map(({ trainLoss }) => trainLoss)).size).toBe(3);

    await train(await config("straight", both));
    const stop = new AbortController();
    for await (const { step } of trainer(await config("halted", both), { signal: stop.signal }))
      if (step === 2) stop.abort();
    await train(await config("halted", { ...both, resumeFromCheckpoint: true }));
    expect(adapter("halted")).toBe(adapter("straight"));
    expect(adapter("straight")).not.toBe(adapter("plain"));
  }, 120_000);
});
