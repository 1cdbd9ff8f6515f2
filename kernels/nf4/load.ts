import type { DenseWeight, FrozenWeight, LinearSpec, QuantizedWeight } from "../../core/compute/linear.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { expectFloats } from "../../core/formats/checkpoint.ts";
import { isQuantized, readPlainAbsmax, readQuantFrame } from "../../core/formats/nf4-checkpoint.ts";
import type { TensorStream } from "../../core/formats/tensor-stream.ts";
import { ROUNDING } from "./index.ts";

/** Where the weight of a linear comes from. */
export type WeightSpec = Pick<LinearSpec, "name" | "outFeatures" | "inFeatures">;

/**
 * Streams the weight `<name>.weight` to the GPU as it lies in the checkpoint, in 4 bits or as floats; nothing is unpacked.
 * @throws ModelError TENSOR_MISSING, SAFETENSORS_INVALID or CHECKPOINT_INVALID naming the tensor
 */
export function loadWeight(gpu: Gpu, stream: TensorStream, spec: WeightSpec): Promise<FrozenWeight> {
  return isQuantized(stream.source, `${spec.name}.weight`) ? load4bit(gpu, stream, spec) : loadDense(gpu, stream, spec);
}

const DTYPE = { F32: "f32", F16: "f16", BF16: "bf16" } as const;

async function loadDense(gpu: Gpu, stream: TensorStream, spec: WeightSpec): Promise<DenseWeight> {
  const { name, outFeatures, inFeatures } = spec;
  const key = `${name}.weight`;
  const shape = [outFeatures, inFeatures];
  const { dtype } = expectFloats(stream.source, key, shape);
  const values = gpu.alloc(shape, DTYPE[dtype], name, "weights");
  await stream.copy(key, values);
  return { kind: "dense", name, outFeatures, inFeatures, values };
}

async function load4bit(
  gpu: Gpu,
  stream: TensorStream,
  { name, outFeatures, inFeatures }: WeightSpec,
): Promise<QuantizedWeight> {
  const key = `${name}.weight`;
  const { source } = stream;
  const { quantType, blockSize, dtype, nested } = await readQuantFrame(source, key, [outFeatures, inFeatures]);
  const words = async (tensor: string, part: string): Promise<Tensor> => {
    const { begin, end } = source.tensors.get(tensor)!;
    const target = gpu.alloc([Math.ceil((end - begin) / 4)], "u32", `${name}.${part}`, "weights");
    await stream.copy(tensor, target);
    return target;
  };
  const floats = async (values: Float32Array, part: string): Promise<Tensor> => {
    await stream.account(values.byteLength);
    return gpu.upload(values, [values.length], "f32", `${name}.${part}`, "weights");
  };
  const codes = await words(key, "codes");
  const rounding = ROUNDING[dtype];
  const shared = { kind: quantType, name, outFeatures, inFeatures, blockSize, codes, rounding } as const;
  if (nested === undefined) {
    return { ...shared, absmax: await floats(await readPlainAbsmax(source, key), "absmax"), nested: undefined };
  }
  const absmax = await words(`${key}.absmax`, "absmax");
  const values = Float32Array.of(...nested.nestedMap, nested.nestedOffset, ...nested.nestedAbsmax);
  return { ...shared, absmax, nested: await floats(values, "nested absmax") };
}
