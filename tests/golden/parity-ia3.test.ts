/** (IA)^3 on the tiny Gemma-2 against peft (f32). */
import { expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readAdapterConfig } from "../../core/peft.ts";
import { gemma2, ia3 } from "../../plugins/index.ts";
import { parityTests } from "../support/parity.ts";
import { referenceDir, tinyCheckpoint } from "../support/reference.ts";

const source = () => gemma2({ checkpoint: tinyCheckpoint }).create();

parityTests({ name: "parity-ia3", adapter: ia3, source });

test.skipIf(referenceDir() === undefined)("the files that it writes are peft's", async () => {
  const from = join(referenceDir()!, "plugins", "parity-ia3", "adapter");
  const { linears, head } = await source().outline(3);
  const plugin = ia3.fromConfig(await readAdapterConfig(join(from, "adapter_config.json")));
  const adapter = await plugin.create({ linears, head, baseModel: "tiny-gemma2-nf4", seed: 1 });
  const to = await mkdtemp(join(tmpdir(), "qlora-ia3-"));
  try {
    await adapter.save(to, await adapter.load(from));
    for (const file of ["adapter_config.json", "adapter_model.safetensors"]) {
      expect(Buffer.compare(await readFile(join(to, file)), await readFile(join(from, file))), file).toBe(0);
    }
  } finally {
    await rm(to, { recursive: true });
  }
});
