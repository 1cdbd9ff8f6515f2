import type { Tier } from "../../core/device/probe.ts";
import { readAdapterConfig } from "../../core/formats/peft.ts";
import type { AdapterPlugin } from "../../core/plugin/adapter.ts";
import type { ModelLoader } from "../../core/plugin/model.ts";
import { gemma2, lora } from "../../plugins/index.ts";
import type { Sample } from "../../runtime/data/pack.ts";
import { fileHost, openFolder } from "../../runtime/files/folder.ts";
import { openSession, type Session } from "../../runtime/session/session.ts";
import { tinyCheckpoint } from "./reference.ts";

/** The provider that tests run on; see gpu.ts. */
const provider = (process.env["QLORA_TEST_GPU"] ?? "auto") as "auto" | "bun-webgpu" | "webgpu";

/** The tiny Gemma-2 with a PEFT adapter on it, fresh tensors poisoned. */
export async function adapterSession(tier: Tier, adapterDir: string, dropout?: number): Promise<Session> {
  const config = await readAdapterConfig(openFolder(adapterDir));
  const adapter = lora.fromConfig(dropout === undefined ? config : { ...config, lora_dropout: dropout });
  return pluginSession(tier, gemma2({ checkpoint: tinyCheckpoint }).create(fileHost), adapter, adapterDir);
}

/** Any model with any adapter, whose values are read from a folder; fresh tensors poisoned. */
export async function pluginSession(
  tier: Tier,
  source: ModelLoader,
  adapter: AdapterPlugin,
  adapterDir?: string,
  numLabels = 3,
): Promise<Session> {
  const session = await openSession({
    source,
    adapter,
    device: { gpu: provider, tier },
    numLabels,
    seed: 1,
    initAdapter: adapterDir,
  });
  session.gpu.poison = true;
  return session;
}

/** Samples from lists of ids. */
export function samplesFrom(
  rows: readonly { readonly input_ids: readonly number[]; readonly label: number }[],
): Sample[] {
  return rows.map((row, index) => ({ index, inputIds: Uint32Array.from(row.input_ids), label: row.label }));
}
