/** What the rows of a kept prediction were made of. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { ADAPTER_WEIGHTS_FILE } from "../core/formats/peft.ts";
import type { DataOptions } from "../runtime/config/data-options.ts";
import type { Dataset } from "../runtime/data/dataset.ts";
import { fingerprintDataset } from "../runtime/data/fingerprint.ts";
import { digestFile } from "../runtime/files/stat.ts";
import type { TrainedAdapter } from "../runtime/folder/find-adapter.ts";
import type { AdapterRun } from "../runtime/inference/adapter-run.ts";
import type { PartialIdentity } from "./partial.ts";

/** What the rows of a prediction depend on, so that those of two commands can stand in one file. */
export async function identityOf(
  { directory, config }: TrainedAdapter,
  run: AdapterRun,
  dataset: Dataset,
  data: DataOptions,
): Promise<PartialIdentity> {
  const tokens = tokenOptions(data);
  const { template } = run;
  return {
    adapter: (await digestFile(join(directory, ADAPTER_WEIGHTS_FILE))).sha256,
    adapterConfig: digest(config),
    baseModel: run.baseModel,
    data: fingerprintDataset(dataset),
    options: JSON.stringify(
      template === undefined ? tokens : { ...tokens, template: [template.name, template.options] },
    ),
    tier: run.device.tier,
  };
}

/** A run's data options without those that say which rows are meant: the rest decides which ids a text becomes. */
export function tokenOptions(data: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(data).filter(([key]) => !ROWS.includes(key)));
}

const ROWS = ["trainFiles", "evalFiles", "cacheDir", "nSplits", "foldIdx", "foldBy", "groupBy", "format"];

/** sha256 of a value's JSON. */
export const digest = (value: unknown): string => createHash("sha256").update(JSON.stringify(value)).digest("hex");
