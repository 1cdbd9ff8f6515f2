import { describe, expect, test } from "bun:test";
import { uploadBatch } from "../../core/compute/batch.ts";
import { openCheckpoint, readModelConfig } from "../../core/formats/checkpoint.ts";
import { loadTokenTable } from "../../kernels/embedding/table.ts";
import { parseGemma2Config } from "../../plugins/gemma2/config.ts";
import { packSamples } from "../../runtime/data/pack.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import { gpuOf, tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";

describe.skipIf(tiers.length === 0)("the token table", () => {
  test("gives the same bits from the host and from the GPU", async () => {
    const gpu = await gpuOf("f32");
    await using files = await openCheckpoint(openFolder(tinyCheckpoint));
    const config = parseGemma2Config(await readModelConfig(openFolder(tinyCheckpoint)), "config.json");
    const inputIds = Uint32Array.from([2, 4095, 17, 17, 0, 1234, 1]);
    const batch = uploadBatch(gpu, packSamples([{ index: 0, inputIds, label: 0 }]), 0);
    const rows: Float32Array[] = [];
    for (const place of ["device", "host"] as const) {
      const table = await loadTokenTable(gpu, files, { ...config, scale: Math.sqrt(config.hiddenSize), place });
      const out = gpu.alloc([inputIds.length, config.hiddenSize], "f32", "hidden", "data");
      table.lookup(batch, out);
      rows.push(await gpu.readFloats(out));
      table.free();
      gpu.free(out);
    }
    batch.free();
    expect(rows[1]!.every((v) => Number.isFinite(v)) && rows[1]!.some((v) => v !== 0)).toBe(true);
    expect(rows[1]).toEqual(rows[0]);
  });
});
