import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tinyCheckpoint } from "../support/reference.ts";
import { joinHeader, splitHeader } from "./support.ts";

/** A tensor of a checkpoint that is being taken apart. */
export interface LooseTensor {
  dtype: string;
  shape: number[];
  bytes: Buffer;
}

/** Tensors by name, to be changed at will. */
export type LooseTensors = Map<string, LooseTensor>;

/** The tensors of the tiny checkpoint. */
export function looseTensors(): LooseTensors {
  const { json, data } = splitHeader(readFileSync(join(tinyCheckpoint, "model.safetensors")));
  const entries = Object.entries(json).filter(([name]) => name !== "__metadata__");
  return new Map(
    entries.map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [begin, end],
        },
      ]) => [name, { dtype, shape, bytes: Buffer.from(data.subarray(begin, end)) }],
    ),
  );
}

/** A safetensors file of these tensors, with a valid header whatever they are. */
export function packTensors(tensors: LooseTensors): Buffer {
  const header: Record<string, object> = {};
  let offset = 0;
  for (const [name, { dtype, shape, bytes }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, (offset += bytes.byteLength)] };
  }
  return joinHeader(header, Buffer.concat([...tensors.values()].map(({ bytes }) => bytes)));
}

/** config.json of the tiny checkpoint, to be changed at will. */
export function looseConfig(): Record<string, unknown> {
  return JSON.parse(readFileSync(join(tinyCheckpoint, "config.json"), "utf8"));
}

/**
 * Writes the tiny checkpoint into `dir` with its tensors, its config or its file's bytes changed, to see what becomes
 * of it. Returns `dir`.
 */
export function corruptCheckpoint(
  dir: string,
  change: {
    readonly tensors?: (tensors: LooseTensors) => void;
    readonly config?: (config: Record<string, unknown>) => void;
    readonly bytes?: (bytes: Buffer) => Uint8Array;
  },
): string {
  mkdirSync(dir, { recursive: true });
  const tensors = looseTensors();
  change.tensors?.(tensors);
  const bytes = packTensors(tensors);
  writeFileSync(join(dir, "model.safetensors"), change.bytes?.(bytes) ?? bytes);
  const config = looseConfig();
  change.config?.(config);
  writeFileSync(join(dir, "config.json"), JSON.stringify(config));
  return dir;
}

/** Rewrites the quant_state JSON of a weight; `undefined` takes a key out. */
export function changeQuantState(tensors: LooseTensors, weight: string, change: Record<string, unknown>): void {
  const tensor = tensors.get(`${weight}.quant_state.bitsandbytes__nf4`)!;
  const state = { ...(JSON.parse(tensor.bytes.toString()) as object), ...change };
  tensor.bytes = Buffer.from(JSON.stringify(state));
  tensor.shape = [tensor.bytes.byteLength];
}

/** Writes the tiny checkpoint into `dir` as `count` shards with their index. Returns `dir`. */
export function shardCheckpoint(dir: string, count: number): string {
  mkdirSync(dir, { recursive: true });
  const shards = Array.from({ length: count }, (): LooseTensors => new Map());
  const weightMap: Record<string, string> = {};
  let i = 0;
  const file = (k: number) => `model-0000${k + 1}-of-0000${count}.safetensors`;
  for (const [name, tensor] of looseTensors()) {
    shards[i % count]!.set(name, tensor);
    weightMap[name] = file(i++ % count);
  }
  for (const [k, shard] of shards.entries()) writeFileSync(join(dir, file(k)), packTensors(shard));
  writeFileSync(join(dir, "model.safetensors.index.json"), JSON.stringify({ metadata: {}, weight_map: weightMap }));
  writeFileSync(join(dir, "config.json"), JSON.stringify(looseConfig()));
  return dir;
}
