import type { GateActivation } from "./index.ts";

const K = Math.sqrt(2 / Math.PI);

/** gate, up [N,F] -> activation(gate) * up, in f64. */
export function gegluReference(
  gate: ArrayLike<number>,
  up: ArrayLike<number>,
  activation: GateActivation,
): Float64Array {
  return Float64Array.from(gate, (g, i) => activate(g, activation) * up[i]!);
}

/** Gradients of `gegluReference` for dY [N,F]. */
export function gegluBackwardReference(
  gate: ArrayLike<number>,
  up: ArrayLike<number>,
  activation: GateActivation,
  dY: ArrayLike<number>,
): { dGate: Float64Array; dUp: Float64Array } {
  return {
    dGate: Float64Array.from(gate, (g, i) => dY[i]! * up[i]! * slope(g, activation)),
    dUp: Float64Array.from(gate, (g, i) => dY[i]! * activate(g, activation)),
  };
}

function activate(x: number, activation: GateActivation): number {
  if (activation === "silu") return x / (1 + Math.exp(-x));
  return 0.5 * x * (1 + Math.tanh(K * (x + 0.044715 * x ** 3)));
}

function slope(x: number, activation: GateActivation): number {
  if (activation === "silu") {
    const s = 1 / (1 + Math.exp(-x));
    return s * (1 + x * (1 - s));
  }
  const t = Math.tanh(K * (x + 0.044715 * x ** 3));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * K * (1 + 3 * 0.044715 * x * x);
}
