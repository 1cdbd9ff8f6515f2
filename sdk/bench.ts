import { ConfigError } from "../core/errors.ts";
import { adamW8bit } from "../plugins/adamw8bit/index.ts";
import { lora } from "../plugins/lora/index.ts";
import { type DeviceOptions, deviceOptions } from "../runtime/config/device-options.ts";
import { checkEventOptions, type EventOptions } from "../runtime/run/train-types.ts";
import { type BenchCommandOptions, benchOptions } from "./bench-options.ts";
import { benchSource, writeSyntheticCheckpoint } from "./bench-source.ts";
import { type BenchResult, benchSteps } from "./bench-steps.ts";
import { readLengths } from "./lengths.ts";

/** Modules of the notebook's adapter, and their like where queries, keys and values are one. */
const BENCH_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "qkv_proj", "gate_up_proj"];

/** Times training steps; undefined where it only wrote a checkpoint. @throws QloraError of every kind */
export async function bench(
  options: Partial<BenchCommandOptions> & { readonly device?: Partial<DeviceOptions> | undefined },
  hooks: EventOptions = {},
): Promise<BenchResult | undefined> {
  const { device: onDevice = {}, ...steps } = options;
  const asked = benchOptions.parse(steps, "bench");
  const device = deviceOptions.parse(onDevice, "device");
  const { onEvent } = checkEventOptions(hooks);
  if (asked.writeCheckpoint !== undefined) {
    if (asked.shape === "tiny")
      throw new ConfigError(
        "BENCH_SHAPE",
        "writeCheckpoint: the tiny checkpoint ships with qlora; name another --shape",
      );
    await writeSyntheticCheckpoint(asked.writeCheckpoint, asked.shape, asked);
    return undefined;
  }
  const lengths = asked.lengths === undefined ? [asked.tokens] : await readLengths(asked.lengths);
  return benchSteps({
    source: benchSource(asked),
    adapter: lora({ rank: asked.rank, alpha: 32, dropout: asked.dropout, targetModules: BENCH_TARGETS }),
    optimizer: adamW8bit(),
    device,
    lengths,
    samplesPerStep: asked.batch,
    tokenBudget: asked.tokenBudget,
    memory: asked.memory,
    steps: asked.steps,
    warmup: asked.warmup,
    checkpointing: asked.gradientCheckpointing,
    profile: asked.profile,
    onEvent,
  });
}
