/** bitsandbytes' NF4 weights of a checkpoint, element by element, written from the format for tests of what reads them. */
import type { TensorSource } from "../../core/formats/safetensors.ts";

/** What one element is made of: `level * (map * nested + offset)`, in whatever arithmetic. */
export interface Nf4Element {
  /** Of the code book. */
  readonly level: number;
  /** The block's absmax in eight bits: its value in the nested map, that of 256 blocks, and the mean taken off. */
  readonly map: number;
  readonly nested: number;
  readonly offset: number;
}

/** Every element of the weight `name`, through `value`. */
export async function readNf4(
  source: TensorSource,
  name: string,
  value: (element: Nf4Element) => number,
): Promise<Float64Array> {
  const floats = async (part: string) => new Float32Array((await source.read(`${name}.${part}`)).buffer);
  const [codes, absmax] = [await source.read(name), await source.read(`${name}.absmax`)];
  const [book, maps, nesteds] = [
    await floats("quant_map"),
    await floats("nested_quant_map"),
    await floats("nested_absmax"),
  ];
  const json = new TextDecoder().decode(await source.read(`${name}.quant_state.bitsandbytes__nf4`));
  const { shape, nested_offset: offset } = JSON.parse(json) as {
    readonly shape: readonly [number, number];
    readonly nested_offset: number;
  };
  return Float64Array.from({ length: shape[0] * shape[1] }, (_, i) => {
    const code = i % 2 === 0 ? codes[i >> 1]! >> 4 : codes[i >> 1]! & 15;
    const block = Math.floor(i / 64);
    return value({ level: book[code]!, map: maps[absmax[block]!]!, nested: nesteds[Math.floor(block / 256)]!, offset });
  });
}
