import { checkEventOptions, type EventOptions } from "../runtime/run/train-types.ts";
import { type EvaluateRequest, type EvaluateResult, evaluateAdapter } from "./inference.ts";
import { resolveContext } from "./shipped.ts";

/**
 * Metrics of a trained adapter.
 * @throws QloraError of every kind
 * @example const { metrics, samples } = await evaluate({ run, files });
 */
export async function evaluate(request: EvaluateRequest, options: EventOptions = {}): Promise<EvaluateResult> {
  const { onEvent } = checkEventOptions(options);
  return evaluateAdapter(request, resolveContext(), onEvent);
}
