/** Rows of a request judged: tokens, logits of the queue, probabilities by name. */
import { QloraError } from "../../core/errors.ts";
import { softmaxRows } from "../../core/plugin/metric-rows.ts";
import type { Dataset } from "../../runtime/data/dataset.ts";
import { fixedClasses } from "../../runtime/data/formats/index.ts";
import { swapResponses } from "../../runtime/data/swap.ts";
import { averageSwapped } from "../../runtime/inference/tta.ts";
import type { ProbabilityRow } from "../probabilities.ts";
import type { Batcher } from "./batcher.ts";
import type { Judge, ServedAdapter } from "./judge.ts";
import type { ClassifyItem, ClassifyRequest, ScoreItem, Usage } from "./protocol.ts";

/** A request that has been read. */
export interface Work {
  readonly adapter: ServedAdapter;
  readonly dataset: Dataset;
  readonly asked: ClassifyRequest;
  readonly signal: AbortSignal;
}

/** Its answer: items of classes, or scores of one logit. */
export interface Judged {
  readonly items: readonly ClassifyItem[];
  readonly scores: readonly ScoreItem[];
  readonly usage: Usage;
}

/** @throws QloraError as `Batcher.submit`; PROBABILITIES_NOT_FINITE */
export async function judged(
  judge: Judge,
  batcher: Batcher,
  { adapter, dataset, asked, signal }: Work,
): Promise<Judged> {
  const views = asked.tta === "swap" ? [dataset, swapResponses(dataset)] : [dataset];
  const tokens = await Promise.all(views.map((view) => judge.tokenize(view)));
  const ids = tokens.flatMap((view) => view.ids);
  const logits = await batcher.submit(adapter.name, ids, signal);
  const { numLabels } = judge;
  const rows = dataset.rows.length;
  const names = classNames(adapter, dataset, numLabels);
  const mirror = fixedClasses(dataset.rows)?.mirror?.labels;
  const truncated = (row: number): boolean =>
    tokens.some(({ lengths }) => lengths.fullLengths[row]! > lengths.lengths[row]!);
  const prompt = ids.reduce((sum, { length }) => sum + length, 0);
  const usage: Usage = { prompt_tokens: prompt, total_tokens: prompt, completion_tokens: 0 };
  if (numLabels === 1) {
    const scores = dataset.rows.map((_, index): ScoreItem => ({
      index,
      object: "score",
      score: finite(logits[index]!)[0]!,
      truncated: truncated(index),
    }));
    return { items: [], scores, usage };
  }
  const table = (from: number): ProbabilityRow[] =>
    dataset.rows.map(({ id }, i) => ({ id, values: [...softmaxRows(finite(logits[from + i]!), numLabels)] }));
  const plain = table(0);
  const averaged =
    mirror === undefined || views.length === 1 ? plain : averageSwapped(plain, table(rows), mirror, "request");
  const items = averaged.map(({ values: probs }, index): ClassifyItem => {
    return {
      index,
      label: names[probs.indexOf(Math.max(...probs))]!,
      probs,
      num_classes: numLabels,
      probabilities: Object.fromEntries(names.map((name, i) => [name, probs[i]!])),
      truncated: truncated(index),
    };
  });
  return { items, scores: [], usage };
}

/** JSON has no NaN, and an answer of nulls would be taken for one. */
function finite(logits: Float32Array): Float32Array {
  if (logits.every(Number.isFinite)) return logits;
  throw new QloraError("PROBABILITIES_NOT_FINITE", "the model's logits are not finite", {
    hint: "Where --tier f32 gives the same, the adapter itself is broken: take an earlier checkpoint.",
  });
}

/** Names of the classes: as trained, else the arena's own, else numbers as transformers writes them. */
function classNames({ labelNames }: ServedAdapter, { rows }: Dataset, numLabels: number): readonly string[] {
  if (labelNames !== undefined) return labelNames;
  const fixed = fixedClasses(rows)?.columns;
  if (fixed?.length === numLabels) return fixed;
  return Array.from({ length: numLabels }, (_, i) => `LABEL_${i}`);
}
