import type { LinearSpec, Nf4Weight } from "../../core/compute/linear.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { readNf4Frame, readPlainAbsmax } from "../../core/formats/nf4-checkpoint.ts";
import type { TensorStream } from "../../core/formats/tensor-stream.ts";
import { ROUNDING } from "./index.ts";

/**
 * Streams the weight `<name>.weight` to the GPU as it lies in the checkpoint; nothing is unpacked.
 * @throws ModelError TENSOR_MISSING, SAFETENSORS_INVALID or CHECKPOINT_INVALID naming the tensor
 */
export async function loadNf4(
  gpu: Gpu,
  stream: TensorStream,
  { name, outFeatures, inFeatures }: LinearSpec,
): Promise<Nf4Weight> {
  const key = `${name}.weight`;
  const { source } = stream;
  const { dtype, nested } = await readNf4Frame(source, key, [outFeatures, inFeatures]);
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
  const shared = { kind: "nf4", name, outFeatures, inFeatures, codes, rounding: ROUNDING[dtype] } as const;
  if (nested === undefined) {
    const absmax = await floats(await readPlainAbsmax(source, key), "absmax");
    return { ...shared, absmax, nested: undefined, nestedOffset: 0 };
  }
  const absmax = await words(`${key}.absmax`, "absmax");
  const values = Float32Array.of(...nested.nestedMap, ...nested.nestedAbsmax);
  return { ...shared, absmax, nested: await floats(values, "nested absmax"), nestedOffset: nested.nestedOffset };
}
