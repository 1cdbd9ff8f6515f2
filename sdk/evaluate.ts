import {
  checkInferenceOptions,
  type EvaluateRequest,
  type EvaluateResult,
  evaluateAdapter,
  type InferenceOptions,
} from "./inference.ts";
import { resolveContext } from "./shipped.ts";

/**
 * Metrics of a trained adapter.
 * @throws QloraError of every kind
 * @example const { metrics, samples } = await evaluate({ run, files });
 */
export async function evaluate(request: EvaluateRequest, options: InferenceOptions = {}): Promise<EvaluateResult> {
  return evaluateAdapter(request, resolveContext(), checkInferenceOptions(options));
}
