import {
  checkInferenceOptions,
  type InferenceOptions,
  type PredictRequest,
  type PredictResult,
  predictWithAdapter,
} from "./inference.ts";
import { resolveContext } from "./shipped.ts";

/**
 * Probabilities, or logits, of every row.
 * @throws QloraError of every kind
 * @example
 * const table = await predict({ run, files, tta: "swap" });
 * await writeFileAtomic(`${outputDir}/predictions.csv`, formatProbabilities(table));
 */
export async function predict(request: PredictRequest, options: InferenceOptions = {}): Promise<PredictResult> {
  return predictWithAdapter(request, resolveContext(), checkInferenceOptions(options));
}
