/** Compares a model with an adapter to what peft and transformers recorded of it: logits, loss and every gradient. */
import { describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readAdapterConfig } from "../../core/formats/peft.ts";
import type { AdapterFactory } from "../../core/plugin/adapter.ts";
import type { ModelLoader } from "../../core/plugin/model.ts";
import type { Task } from "../../core/plugin/task.ts";
import { taskOptions } from "../../runtime/config/task-options.ts";
import type { DataRow } from "../../runtime/data/formats/index.ts";
import type { Sample } from "../../runtime/data/pack.ts";
import { openFolder, openSafetensors, writeFiles } from "../../runtime/files/folder.ts";
import type { Session } from "../../runtime/session/session.ts";
import { readLogits } from "../../runtime/training/forward.ts";
import { accumulateGradients } from "../../runtime/training/step.ts";
import { taskKinds } from "../../runtime/training/tasks/index.ts";
import { expectClose, relativeL2 } from "./close.ts";
import { tiers } from "./gpu.ts";
import { goldenPath } from "./reference.ts";
import { pluginSession } from "./session.ts";

interface Reference {
  readonly base_model: string;
  readonly samples: readonly { readonly input_ids: readonly number[]; readonly label: number | readonly number[] }[];
  readonly logits: readonly (readonly number[])[];
  readonly loss: number;
}

const LIMITS = {
  f32: { logits: 1e-4, loss: 2e-5, gradient: 1e-3 },
  f16: { logits: 6e-3, loss: 6e-3, gradient: 2e-2 },
  matrix: { logits: 6e-3, loss: 6e-3, gradient: 2e-2 },
} as const;

/** What is compared. */
export interface ParityOptions {
  /** Folder below `folder`. */
  readonly name: string;
  /** Folder below tests/golden/data. Default: plugins. */
  readonly folder?: string;
  /** The reference whose adapter it was made with. Default: its own, whose files are compared too. */
  readonly adapterOf?: string;
  readonly adapter: AdapterFactory;
  /** @param data tests/golden/data/plugins, or the folder named above */
  readonly source: (data: string) => ModelLoader;
  /** The adapter's name of a gradient that the reference calls otherwise. */
  readonly gradientName?: (name: string) => string;
  /** What the reference's `problem_type` says. Default: classification. */
  readonly task?: Exclude<Task, "reward">;
}

/** Declares the tests of one reference in every tier that the device offers. */
export function parityTests({
  name,
  folder: parent = "plugins",
  adapter,
  source,
  gradientName = (key) => key,
  adapterOf = name,
  task = "classification",
}: ParityOptions): void {
  const data = goldenPath(parent);
  const folder = join(data, name);
  const adapterFolder = join(data, adapterOf, "adapter");
  const read = async (): Promise<Reference> =>
    JSON.parse(await readFile(join(folder, "reference.json"), "utf8")) as Reference;

  if (adapterOf === name) {
    test(`${name}: the files that it writes are peft's, byte for byte`, async () => {
      const from = adapterFolder;
      const { logits, base_model: baseModel } = await read();
      const { linears, head } = await source(data).outline(logits[0]!.length);
      const plugin = adapter.fromConfig(await readAdapterConfig(openFolder(from)));
      const live = await plugin.create({ linears, head, baseModel, seed: 1 });
      const to = await mkdtemp(join(tmpdir(), `qlora-${name}-`));
      try {
        await writeFiles(to, await live.save(await live.load(openFolder(from))));
        for (const file of ["adapter_config.json", "adapter_model.safetensors"]) {
          expect(Buffer.compare(await readFile(join(to, file)), await readFile(join(from, file))), file).toBe(0);
        }
      } finally {
        await rm(to, { recursive: true });
      }
    });
  }

  const kind = taskKinds[task];
  const rowsOf = ({ samples }: Reference): DataRow[] =>
    samples.map(({ input_ids: ids, label }, i) => {
      const origin = {
        kind: "ids",
        id: String(i),
        file: "reference.json",
        line: 1,
        inputIds: Uint32Array.from(ids),
      } as const;
      if (task === "classification") return { ...origin, label: label as number };
      return { ...origin, label: undefined, values: [label].flat() };
    });
  const samplesOf = (reference: Reference): Sample[] =>
    rowsOf(reference).map(({ label }, index) => {
      return { index, label, inputIds: Uint32Array.from(reference.samples[index]!.input_ids) };
    });

  for (const tier of tiers) {
    const limits = LIMITS[tier];
    const open = async (): Promise<{ readonly reference: Reference; readonly session: Session }> => {
      const reference = await read();
      const config = await readAdapterConfig(openFolder(adapterFolder));
      expect(adapter.reads(config)).toBe(true);
      const plugin = adapter.fromConfig(config);
      const labels = reference.logits[0]!.length;
      return { reference, session: await pluginSession(tier, source(data), plugin, adapterFolder, labels) };
    };

    describe(`${name}, tier ${tier}`, () => {
      test("logits and loss", async () => {
        const opened = await open();
        using session = opened.session;
        const { logits: wanted, loss: wantedLoss } = opened.reference;
        const labels = wanted[0]!.length;
        const logits = await readLogits(session, samplesOf(opened.reference));
        const flat = wanted.flat();
        const worst = Math.max(...flat.map((want, i) => Math.abs(logits[i]! - want)));
        const { loss } = kind.score(logits, rowsOf(opened.reference), labels);
        const off = Math.abs(loss - wantedLoss);
        console.log(`${name} ${tier}: logits ${worst.toExponential(1)}, loss ${off.toExponential(1)} off`);
        expectClose(logits, flat, { atol: limits.logits }, "logits");
        expect(off).toBeLessThanOrEqual(limits.loss);
      }, 180_000);

      for (const checkpointing of ["none", "block"] as const) {
        test(`the gradient of every parameter, checkpointing ${checkpointing}`, async () => {
          const opened = await open();
          using session = opened.session;
          const lossScale = tier === "f32" ? 1 : 1024;
          const settings = { limits: { maxTokens: 512 }, checkpointing, lossScale, stepKey: 0 } as const;
          const samples = samplesOf(opened.reference);
          const taskLoss = kind.loss?.(rowsOf(opened.reference), taskOptions.parse({ task }));
          const losses = await accumulateGradients(session, samples, { ...settings, taskLoss });
          const mean = (await session.gpu.readFloats(losses)).reduce((sum, loss) => sum + loss, 0) / samples.length;
          expect(Math.abs(mean - opened.reference.loss)).toBeLessThanOrEqual(limits.loss);
          session.gpu.free(losses);
          const gradients = await session.parameters.readGradients();
          await using golden = await openSafetensors(join(folder, "gradients.safetensors"));
          expect([...gradients.keys()].sort()).toEqual([...golden.tensors.keys()].map(gradientName).sort());
          const errors: [string, number][] = [];
          for (const key of golden.tensors.keys()) {
            const want = new Float32Array((await golden.read(key)).buffer);
            const got = gradients.get(gradientName(key))!.map((v) => v / lossScale);
            errors.push([key, relativeL2(got, want)]);
          }
          const [worst, error] = errors.reduce((a, b) => (b[1] <= a[1] ? a : b));
          console.log(`${name} ${tier}: worst gradient ${worst} ${error.toExponential(1)} relative L2`);
          expect(error).toBeLessThanOrEqual(limits.gradient);
        }, 180_000);
      }
    });
  }
}
