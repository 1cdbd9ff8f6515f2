/** Logits, loss, gradients and hidden states of the tiny checkpoint against transformers + peft (f32). */
import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { uploadBatch } from "../../core/compute/batch.ts";
import { Tape } from "../../core/compute/tape.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { negativeLogLikelihood } from "../../core/plugin/metric-rows.ts";
import { packSamples } from "../../runtime/data/pack.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { readLogits } from "../../runtime/training/forward.ts";
import { accumulateGradients } from "../../runtime/training/step.ts";
import { expectClose, relativeL2 } from "../support/close.ts";
import { tiers } from "../support/gpu.ts";
import { goldenPath } from "../support/reference.ts";
import { adapterSession, samplesFrom } from "../support/session.ts";

interface Reference {
  readonly samples: readonly { readonly input_ids: readonly number[]; readonly label: number }[];
  readonly logits: readonly (readonly number[])[];
  readonly loss: number;
}

const LIMITS = {
  f32: { logits: 1e-4, loss: 2e-5, gradient: 1e-3, hidden: 1e-5 },
  f16: { logits: 6e-3, loss: 6e-3, gradient: 2e-2, hidden: 2e-3 },
  matrix: { logits: 6e-3, loss: 6e-3, gradient: 2e-2, hidden: 2e-3 },
} as const;

for (const tier of tiers) {
  const limits = LIMITS[tier];
  const folder = goldenPath("parity-tiny");
  const load = async (): Promise<Reference> =>
    JSON.parse(await readFile(join(folder, "reference.json"), "utf8")) as Reference;

  describe(`parity-tiny, tier ${tier}`, () => {
    test("logits and loss", async () => {
      const reference = await load();
      using session = await adapterSession(tier, join(folder, "adapter"));
      const logits = await readLogits(session, samplesFrom(reference.samples));
      expectClose(logits, reference.logits.flat(), { atol: limits.logits }, "logits");
      const loss =
        reference.samples.reduce(
          (sum, { label }, i) => sum + negativeLogLikelihood(logits.subarray(3 * i, 3 * i + 3), label),
          0,
        ) / 8;
      expect(Math.abs(loss - reference.loss)).toBeLessThanOrEqual(limits.loss);
    }, 60_000);

    test("the gradient of every parameter", async () => {
      const reference = await load();
      using session = await adapterSession(tier, join(folder, "adapter"));
      const lossScale = tier === "f32" ? 1 : 1024;
      const settings = { limits: { maxTokens: 512 }, checkpointing: "none", lossScale, stepKey: 0 } as const;
      session.gpu.free(await accumulateGradients(session, samplesFrom(reference.samples), settings));
      const gradients = await session.parameters.readGradients();
      await using golden = await openSafetensors(join(folder, "gradients.safetensors"));
      expect([...gradients.keys()].sort()).toEqual([...golden.tensors.keys()].sort());
      const errors = new Map<string, number>();
      for (const [name, gradient] of gradients) {
        const want = new Float32Array((await golden.read(name)).buffer);
        errors.set(
          name,
          relativeL2(
            gradient.map((v) => v / lossScale),
            want,
          ),
        );
      }
      const worst = [...errors].sort((a, b) => b[1] - a[1])[0]!;
      console.log(`parity-tiny ${tier}: worst gradient ${worst[0]} ${worst[1].toExponential(1)} relative L2`);
      for (const [name, error] of errors)
        if (!(error <= limits.gradient)) throw new Error(`${name}: relative L2 error ${error}`);
    }, 60_000);

    test("hidden states of every layer", async () => {
      const reference = await load();
      using session = await adapterSession(tier, join(folder, "adapter"));
      const { gpu, model } = session;
      const batch = uploadBatch(gpu, packSamples(samplesFrom(reference.samples).slice(0, 1)), 0);
      const tape = new Tape(gpu, { recording: false });
      const copies: Tensor[] = [];
      const onHidden = (hidden: Tensor): void => {
        const copy = gpu.alloc(hidden.shape, "f32", "hidden copy", "data");
        gpu.copy(hidden, copy);
        copies.push(copy);
      };
      model.forward(tape, batch, { checkpointing: "none", training: false, onHidden });
      await using golden = await openSafetensors(join(folder, "hidden_states_sample0.safetensors"));
      expect(copies.length).toBe(5);
      // transformers lists the last state after the final norm; the four before it are the embedding and three blocks.
      for (const [i, copy] of copies.slice(0, 4).entries()) {
        const want = new Float32Array((await golden.read(`hidden_states.${i}`)).buffer);
        const error = relativeL2(await gpu.readFloats(copy), want);
        if (!(error <= limits.hidden)) throw new Error(`hidden state ${i}: relative L2 error ${error}`);
      }
      tape.close();
      batch.free();
    }, 60_000);
  });
}
