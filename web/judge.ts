/** A trained judge on any GPU, from the files of an exported page: rows in, logits out, as `predict` gives them. */
import type { Gpu } from "../core/device/gpu.ts";
import { softmaxRows } from "../core/plugin/metric-rows.ts";
import type { BatchEncoder } from "../runtime/data/encode-batch.ts";
import { CUT, encodeRows, LOST_RESPONSE_A, LOST_RESPONSE_B } from "../runtime/data/truncation.ts";
import { averageSwapped } from "../runtime/inference/tta.ts";
import { loadSession, type Session, type Warmup } from "../runtime/session/load.ts";
import { readLogits } from "../runtime/training/forward.ts";
import { contentFor, exchanged } from "./content.ts";
import { openEncoder } from "./encoder.ts";
import type { RowTexts, SiteManifest } from "./manifest.ts";
import { judgeParts, type SiteFolders } from "./parts.ts";
import { type JudgePlan, PLACEMENT } from "./plan.ts";

/** What a judge says of a row. */
export interface Verdict {
  /** Of each class, in the manifest's order; of the row as it stands. */
  readonly logits: readonly number[];
  /** The mean of both orders where `swap` was asked for. */
  readonly probabilities: readonly number[];
  /** Tokens that were judged, and those that the row has. */
  readonly tokens: number;
  readonly fullTokens: number;
  /** Something was cut. */
  readonly cut: boolean;
  /** Answers of which nothing was left, by their letters. */
  readonly lost: readonly ("A" | "B")[];
}

/** What is told while a judge loads. */
export type OnProgress = (what: string, done: number, total: number) => void;

/** A judge on a GPU. */
export class Judge implements Disposable {
  readonly manifest: SiteManifest;
  readonly #session: Session;
  readonly #encoder: BatchEncoder;

  private constructor(manifest: SiteManifest, session: Session, encoder: BatchEncoder) {
    this.manifest = manifest;
    this.#session = session;
    this.#encoder = encoder;
  }

  /**
   * Loads a judge; it takes the GPU over.
   * @throws ModelError, DeviceError
   */
  static async open(
    gpu: Gpu,
    {
      manifest,
      folders,
      plan,
    }: { readonly manifest: SiteManifest; readonly folders: SiteFolders; readonly plan: JudgePlan },
    onProgress: OnProgress,
  ): Promise<Judge> {
    try {
      gpu.memory.limit = plan.memoryBytes; // buffers of other lengths are given back rather than kept beyond it
      const encoder = await openEncoder(folders.model, manifest);
      const { source, adapter } = await judgeParts(manifest, folders);
      const session = await loadSession(
        gpu,
        {
          source,
          adapter,
          numLabels: manifest.numLabels,
          seed: 0,
          placement: PLACEMENT,
          initAdapter: folders.adapter,
          kernels: warmup(gpu, plan, manifest.tokens.maxLength),
          onEvent: (event) => {
            if (event.type === "progress") onProgress(event.what, event.done, event.total);
          },
        },
        () => gpu.destroy(),
      );
      return new Judge(manifest, session, encoder);
    } catch (error) {
      gpu.destroy();
      throw error;
    }
  }

  /** Bytes of GPU memory that it holds now. */
  get memoryBytes(): number {
    const { used, pooled } = this.#session.gpu.memory.report();
    return used + pooled;
  }

  /**
   * Judges one row; with `swap` also with its answers exchanged, and averages, as `predict --tta swap`.
   * @throws DeviceError; ConfigError where the row leaves no room
   */
  async judge(texts: RowTexts, swap = false): Promise<Verdict> {
    const { manifest } = this;
    const { mirror } = manifest;
    const plain = await this.#logits(texts);
    const probabilities = this.#probabilities(plain.logits);
    if (!swap || mirror === undefined) return { ...plain, probabilities };
    const { logits } = await this.#logits(exchanged(manifest, texts));
    const row = (values: readonly number[]) => [{ id: "", values }];
    const mean = averageSwapped(row(probabilities), row(this.#probabilities(logits)), mirror, "this page");
    return { ...plain, probabilities: mean[0]!.values };
  }

  #probabilities(logits: readonly number[]): readonly number[] {
    return [...softmaxRows(Float32Array.from(logits), this.manifest.numLabels)];
  }

  async #logits(texts: RowTexts): Promise<Omit<Verdict, "probabilities">> {
    const { maxLength, truncation, promptMaxTokens } = this.manifest.tokens;
    const options = { maxLength, truncation, promptMaxTokens };
    const { ids, fullLengths, cuts } = await encodeRows(this.#encoder, [contentFor(this.manifest, texts)], options);
    const logits = await readLogits(this.#session, [{ index: 0, inputIds: ids, label: undefined }]);
    const bits = cuts[0]!;
    const lost = [
      ...(bits & LOST_RESPONSE_A ? (["A"] as const) : []),
      ...(bits & LOST_RESPONSE_B ? (["B"] as const) : []),
    ];
    return { logits: [...logits], tokens: ids.length, fullTokens: fullLengths[0]!, cut: (bits & CUT) !== 0, lost };
  }

  /** Frees the GPU. */
  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}

/** Kernels of the longest row while the weights load; a shorter row's own when it comes. */
function warmup(gpu: Gpu, plan: JudgePlan, maxLength: number): Warmup {
  return {
    compileFirst: async (onProgress) => gpu.compile(await plan.kernels(maxLength), { onProgress }),
    continue: () => {},
    prepare: async ({ lengths }) => gpu.compile(await plan.kernels(lengths.reduce((sum, length) => sum + length, 0))),
    stop: () => void gpu.stopCompiling(),
  };
}
