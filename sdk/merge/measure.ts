/** How far merged weights are from the adapter on its 4-bit base: both are run. */
import type { Tensor } from "../../core/device/tensor.ts";
import { UploadPace } from "../../core/device/upload-pace.ts";
import { readFloats, openCheckpoint } from "../../core/formats/checkpoint.ts";
import { f32ToF16 } from "../../core/formats/half.ts";
import { defineOptions } from "../../core/options/options.ts";
import { defineAdapter } from "../../core/plugin/adapter.ts";
import { denseLinear } from "../../kernels/lora-linear/dense.ts";
import type { TokenizedDataset } from "../../runtime/data/dataset-tokenizer.ts";
import type { RunListener } from "../../runtime/events.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import type { AdapterRun } from "../../runtime/inference/adapter-run.ts";
import { type AdapterSession, openAdapterSession } from "../../runtime/inference/adapter-session.ts";
import { headTensor } from "../../runtime/session/base-headers.ts";
import { openSession } from "../../runtime/session/session.ts";
import { computeLogits } from "../../runtime/training/evaluate.ts";

/** |logit of the merged weights - logit of the adapter on the base|, over all rows and classes. */
export interface LogitDifference {
  readonly rows: number;
  readonly max: number;
  readonly mean: number;
}

/** A linear of a merged checkpoint on the GPU. */
interface DenseLinear {
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
}

/** What the first run settles for the second. */
type Planned = Pick<AdapterSession, "settings" | "limits">;

/** Bytes of whole linears that may be on their way to the GPU. */
const FLUSH_BYTES = 256 * 2 ** 20;

/**
 * Runs rows twice: the base with its adapter, then the base with every linear replaced by that of the merged checkpoint, and
 * with its score head. The other tensors of the two checkpoints are the same bytes.
 * @param folders of the trained adapter and of the merged checkpoint
 * @param maxLength most tokens of a row
 */
export async function measureDifference(
  run: AdapterRun,
  data: TokenizedDataset,
  folders: { readonly adapter: string; readonly merged: string },
  maxLength: number,
  onEvent?: RunListener,
): Promise<LogitDifference> {
  const unmerged = async (): Promise<Planned & { readonly logits: Float32Array }> => {
    const values = folders.adapter;
    const opened = await openAdapterSession(run, { values, maxLength, data: [data], onEvent });
    const { settings, limits } = opened;
    using session = opened.session;
    const logits = await computeLogits(session, data, limits, "running the adapter on its base", onEvent);
    return { settings, limits, logits };
  };
  const merged = async ({ settings, limits }: Planned): Promise<Float32Array> => {
    const dense = new Map<string, DenseLinear>();
    const { source, device, numLabels, allowNonFinite } = run;
    using session = await openSession({
      source,
      adapter: mergedLinears(dense),
      device,
      placement: { ...settings, keepDequantized: false }, // the merged linears take the place of the base's
      numLabels,
      seed: 0,
      initAdapter: folders.merged,
      allowNonFinite,
      onEvent,
    });
    const { gpu, outline } = session;
    await using checkpoint = await openCheckpoint(openFolder(folders.merged));
    const pace = new UploadPace(gpu, FLUSH_BYTES);
    for (const { name, outFeatures, inFeatures } of outline.linears) {
      const values = await readFloats(checkpoint, `${name}.weight`, [outFeatures, inFeatures]);
      // A half holds the seven bits after a bf16's point exactly.
      const stored = gpu.computeDtype === "f16" ? f32ToF16(values) : values;
      const weight = gpu.upload(stored, [outFeatures, inFeatures], gpu.computeDtype, name, "weights");
      const biased = checkpoint.tensors.has(`${name}.bias`);
      const bias = biased ? await readFloats(checkpoint, `${name}.bias`, [outFeatures]) : undefined;
      dense.set(name, { weight, bias: bias && gpu.upload(bias, [outFeatures], "f32", `${name}.bias`, "weights") });
      await pace.add(stored.byteLength);
    }
    return await computeLogits(session, data, limits, "running the merged weights", onEvent);
  };
  const before = await unmerged();
  return { rows: data.size, ...differenceOf(before.logits, await merged(before)) };
}

/** A NaN on either side shows in both figures. */
function differenceOf(before: Float32Array, after: Float32Array): { readonly max: number; readonly mean: number } {
  let [max, sum] = [0, 0];
  before.forEach((value, i) => {
    const difference = Math.abs(after[i]! - value);
    max = Math.max(max, difference);
    sum += difference;
  });
  return { max, mean: sum / before.length };
}

/** In the place of an adapter: linears of a merged checkpoint, filled in before the first forward pass, and its head. */
function mergedLinears(dense: ReadonlyMap<string, DenseLinear>) {
  return defineAdapter({
    name: "merged",
    options: defineOptions({}),
    reads: () => false,
    optionsFrom: () => ({}),
    create: async (_, { head }) => ({
      parameters: [],
      adapt: (spec, weight) => ({
        spec,
        weight,
        forward(tape, x) {
          const linear = dense.get(spec.name)!;
          return denseLinear(tape, x, linear.weight, linear.bias);
        },
      }),
      save: () => Promise.reject(new Error("merged linears are not saved")),
      async load(folder) {
        await using checkpoint = await openCheckpoint(folder);
        const values = new Map<string, Float32Array<ArrayBuffer>>();
        for (const { name, shape } of head) values.set(name, await readFloats(checkpoint, headTensor(name), shape));
        return values;
      },
    }),
  })();
}
