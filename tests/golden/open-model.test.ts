/** What scripts read of an opened model, against transformers + peft (f32). */
import { expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readAdapterConfig } from "../../core/formats/peft.ts";
import { defineConfig, openModel } from "../../index.ts";
import { adamW8bit, gemma2, lora } from "../../plugins/index.ts";
import { openFolder, openSafetensors } from "../../runtime/files/folder.ts";
import { expectClose, relativeL2 } from "../support/close.ts";
import { tiers } from "../support/gpu.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";
import { testProvider } from "../support/run.ts";

test.skipIf(tiers.length === 0)(
  "openModel: hidden states of every block, logits, and the ids of a text",
  async () => {
    const folder = goldenPath("parity-tiny");
    const adapter = join(folder, "adapter");
    const config = defineConfig({
      model: gemma2({ checkpoint: tinyCheckpoint }),
      adapter: lora.fromConfig(await readAdapterConfig(openFolder(adapter))),
      optimizer: adamW8bit(),
      device: { gpu: testProvider, tier: "f32" },
    });
    using model = await openModel(config, { adapter });
    const { samples, logits } = JSON.parse(await readFile(join(folder, "reference.json"), "utf8")) as {
      readonly samples: readonly { readonly input_ids: readonly number[] }[];
      readonly logits: readonly (readonly number[])[];
    };
    const ids = samples.slice(0, 3).map((sample) => Uint32Array.from(sample.input_ids));
    const got = await model.logits(ids);
    expectClose(Float32Array.from(got.flatMap((row) => [...row])), logits.slice(0, 3).flat(), { atol: 1e-4 }, "logits");

    await using golden = await openSafetensors(join(folder, "hidden_states_sample0.safetensors"));
    for (let block = 0; block < 4; block++) {
      const want = new Float32Array((await golden.read(`hidden_states.${block}`)).buffer);
      // packed as the second sample: it stands alone all the same
      const [, states] = await model.hiddenStates([ids[1]!, ids[0]!], block);
      expect(states!.length).toBe(want.length);
      expect(relativeL2(states!, want)).toBeLessThanOrEqual(1e-5);
    }
    expect(model.hiddenStates(ids, 5)).rejects.toThrow("hiddenStates: got block 5, expected 0 to 4");
    const [first] = await model.encode(["The sky is blue."]);
    expect([first![0], first!.at(-1)]).toEqual([2, 1]); // bos and eos
  },
  120_000,
);
