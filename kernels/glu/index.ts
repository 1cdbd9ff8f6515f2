import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import type { Kernel } from "../../core/device/pipelines.ts";
import { elementCount, expectTensor, type Tensor } from "../../core/device/tensor.ts";
import { vectorSource, type Width, widthOf } from "../vector.ts";
import activationCode from "./activation.wgsl" with { type: "text" };
import backwardCode from "./backward.wgsl" with { type: "text" };
import forwardCode from "./forward.wgsl" with { type: "text" };

/** Activation of the gate; `gelu_tanh` is transformers' `gelu_pytorch_tanh`. */
export type GateActivation = "gelu_tanh" | "silu";

interface GegluAttrs {
  readonly activation: GateActivation;
}

// z(x) of x * sigmoid(z(x)), and its derivative; 2 sqrt(2/pi) = 1.5957691…
const ARGUMENT: Readonly<Record<GateActivation, string>> = {
  gelu_tanh: `
fn argument(x: FV) -> FV { return 1.5957691216057308f * x * (1.0f + 0.044715f * x * x); }
fn argument_slope(x: FV) -> FV { return 1.5957691216057308f * (1.0f + 0.134145f * x * x); }
`,
  silu: `
fn argument(x: FV) -> FV { return x; }
fn argument_slope(x: FV) -> FV { return FV(1.0); }
`,
};

function kernelOf(
  gpu: Gpu,
  name: "forward" | "backward",
  activation: GateActivation,
  dtype: string,
  width: Width,
): Kernel {
  const type = dtype === "f16" ? "f16" : "f32";
  return gpu.kernel(`geglu/${name}/${activation}/${type}/${width}`, () => ({
    code:
      vectorSource(width, "X") +
      activationCode +
      ARGUMENT[activation] +
      (name === "forward" ? forwardCode : backwardCode),
    bindings: name === "forward" ? ["read", "read", "write"] : ["read", "read", "write", "write"],
    uniforms: { size: "u32" },
    types: { X: type },
  }));
}

const op: Op<GegluAttrs> = {
  name: "glu",
  forward(tape, [gate, up], { activation }) {
    const y = tape.alloc(gate!.shape, gate!.dtype, activation);
    const width = widthOf(elementCount(y.shape));
    const size = elementCount(y.shape) / width;
    const kernel = kernelOf(tape.gpu, "forward", activation, y.dtype, width);
    tape.gpu.dispatch(kernel, [gate!, up!, y], { size }, gridFor(size / 256));
    return { outputs: [y], saved: [gate!, up!] };
  },
  backward(tape, { saved, attrs, dOutputs, needs }) {
    const [gate, up] = saved;
    const dY = dOutputs[0]!;
    const dGate = tape.like(gate!);
    const width = widthOf(elementCount(dY.shape));
    const size = elementCount(dY.shape) / width;
    const kernel = kernelOf(tape.gpu, "backward", attrs.activation, dY.dtype, width);
    tape.gpu.dispatch(kernel, [gate!, up!, dY, dGate], { size }, gridFor(size / 256));
    return [needs[0] === true ? dGate : undefined, needs[1] === true ? dY : undefined];
  },
};

/**
 * The gated activation of a feed-forward layer, computed in f32: activation(gate) * up. gate, up [N,F] -> [N,F], all of
 * one dtype. Backward gives both gradients in one pass, up's in the memory of the incoming one.
 * Source: Shazeer 2020 (arXiv 2002.05202); GELU in Hendrycks and Gimpel's tanh form.
 */
export function glu(tape: Tape, gate: Tensor, up: Tensor, activation: GateActivation = "gelu_tanh"): Tensor {
  expectTensor(gate, [-1, -1], "f32", "f16");
  expectTensor(up, gate.shape, gate.dtype);
  return tape.run(op, [gate, up], { activation })[0]!;
}
