import {
  type Adapter,
  type AdapterContext,
  adapterFiles,
  defineAdapter,
  defineOptions,
  expandTargets,
  formatModelCard,
  type FrozenSpec,
  type InferOptions,
  type LinearSpec,
  loadAdapterTensors,
  matchTargets,
  option,
  type ParameterSpec,
  partOf,
  savedModuleKey,
} from "qlora/core";
import { formatVeraConfig, parseVeraConfig } from "./config.ts";
import { veraForward } from "./forward.ts";
import { torchUniform } from "./torch-random.ts";

const options = defineOptions({
  rank: option("number.integer >= 1", {
    default: 256,
    help: "rank r of the shared projections; higher than a LoRA's, since only r + out features train of a linear",
  }),
  targetModules: option("string | string[]", {
    default: ["q_proj", "v_proj"],
    help: "linears to adapt by the end of their name, 'all-linear', or a regular expression",
  }),
  layersToTransform: option("number.integer[]", { optional: true, help: "layers to adapt (default: all)" }),
  dropout: option("0 <= number < 1", { default: 0, help: "share of the branch's input dropped in training" }),
  dInitial: option("number", { default: 0.1, help: "first value of lambda_d; 0.1 or less serves" }),
  projectionPrngKey: option("number.integer >= 0", { default: 0, help: "seed of the shared projections A and B" }),
  saveProjection: option("boolean", {
    default: true,
    help: "keep A and B in the adapter's file; otherwise they are drawn again by projectionPrngKey",
  }),
});

/**
 * VeRA with PEFT's semantics and files: one pair of random matrices A and B, frozen and shared by all linears, and two trained
 * vectors of each linear: y = W x + lambda_b * (B (lambda_d * (A dropout(x)))).
 * Kopiczko et al. 2023 (arXiv 2310.11454); huggingface/peft, tuners/vera/model.py and layer.py.
 * @example adapter: vera({ rank: 256, targetModules: ["q_proj", "v_proj"] })
 */
export const vera = defineAdapter({
  name: "vera",
  options,
  reads: (config) => config["peft_type"] === "VERA",
  optionsFrom(json) {
    const { r: rank, veraDropout, layersToTransform, ...rest } = parseVeraConfig(json);
    return { rank, dropout: veraDropout, ...rest, ...(layersToTransform === undefined ? {} : { layersToTransform }) };
  },
  create: async (o, context) => createVera(o, context),
});

/** What PEFT trains beside the vectors, and never adapts. */
const MODULES_TO_SAVE = ["classifier", "score"];

const PROJECTION_A = "base_model.vera_A";
const PROJECTION_B = "base_model.vera_B";
const keyOf = (linear: LinearSpec, part: "b" | "d"): string => savedModuleKey(linear.name, `vera_lambda_${part}`);

/** Kaiming-uniform bound as PEFT has it. */
const boundOf = (fanIn: number): number => Math.sqrt(3) * (Math.sqrt(2) / Math.sqrt(fanIn));

/** [rows,columns] to [columns,rows], row-major. */
function transpose(values: Float32Array, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) out[column * rows + row] = values[row * columns + column]!;
  return out;
}

function createVera(o: InferOptions<typeof options>, { linears, head, baseModel }: AdapterContext): Adapter {
  const { rank, projectionPrngKey, saveProjection } = o;
  const names = linears.map(({ name }) => name);
  const targets = { ...o, modulesToSave: MODULES_TO_SAVE };
  const matched = new Set(matchTargets(names, targets).matched);
  const adapted = linears.filter(({ name }) => matched.has(name));
  // The projections serve the widest linear; a narrower one takes the first columns of A and the first rows of B.
  const widest = Math.max(...adapted.map(({ inFeatures }) => inFeatures));
  const tallest = Math.max(...adapted.map(({ outFeatures }) => outFeatures));
  // B is drawn after A, from the same stream.
  const drawn = () => {
    const uniform = torchUniform(projectionPrngKey);
    const [boundA, boundB] = [boundOf(widest), boundOf(rank)];
    return {
      a: uniform(rank * widest, -boundA, boundA),
      b: uniform(tallest * rank, -boundB, boundB),
    };
  };
  // A lies transposed on the GPU, so that a linear's part of it is its first rows, as it is of B.
  const frozen: readonly FrozenSpec[] = [
    { name: PROJECTION_A, shape: [widest, rank], initial: () => transpose(drawn().a, rank, widest) },
    { name: PROJECTION_B, shape: [tallest, rank], initial: () => drawn().b },
  ];
  const parameters = adapted.flatMap((linear): ParameterSpec[] => {
    const { outFeatures } = linear;
    return [
      // Zeros: a fresh adapter changes nothing.
      { name: keyOf(linear, "b"), shape: [outFeatures], initial: () => new Float32Array(outFeatures) },
      { name: keyOf(linear, "d"), shape: [rank], initial: () => new Float32Array(rank).fill(o.dInitial) },
    ];
  });
  const shapes = [...parameters, ...head];
  const projections = [
    { name: PROJECTION_A, shape: [rank, widest] },
    { name: PROJECTION_B, shape: [tallest, rank] },
  ];
  return {
    parameters,
    frozen,
    adapt(spec, weight, set, device) {
      if (!matched.has(spec.name)) return { spec, weight };
      const part = (name: string, rows: number) => partOf(device.frozen.get(name), 0, [rows, rank], name);
      const forward = veraForward({
        a: part(PROJECTION_A, spec.inFeatures),
        b: part(PROJECTION_B, spec.outFeatures),
        lambdaD: set.get(keyOf(spec, "d")),
        lambdaB: set.get(keyOf(spec, "b")),
        dropout: o.dropout,
        site: names.indexOf(spec.name),
      });
      return { spec, weight, forward };
    },
    mergeWeight(spec, weight, values) {
      if (!matched.has(spec.name)) return;
      const { inFeatures, outFeatures } = spec;
      const [a, b] = [values.get(PROJECTION_A)!, values.get(PROJECTION_B)!];
      const [lambdaD, lambdaB] = [values.get(keyOf(spec, "d"))!, values.get(keyOf(spec, "b"))!];
      const row = new Float64Array(rank);
      for (let i = 0; i < outFeatures; i++) {
        for (let r = 0; r < rank; r++) row[r] = lambdaB[i]! * b[i * rank + r]! * lambdaD[r]!;
        for (let k = 0; k < inFeatures; k++) {
          let sum = 0;
          for (let r = 0; r < rank; r++) sum += row[r]! * a[k * rank + r]!;
          weight[i * inFeatures + k]! += sum;
        }
      }
    },
    async save(values) {
      const config = {
        ...o,
        r: rank,
        veraDropout: o.dropout,
        layersToTransform: o.layersToTransform,
        targetModules: expandTargets(names, targets),
      };
      const body = `VeRA adapter (r ${rank}) and score head of a sequence classifier, trained by qlora.`;
      const file = new Map(values).set(PROJECTION_A, transpose(values.get(PROJECTION_A)!, widest, rank));
      return adapterFiles({
        config: formatVeraConfig(config, baseModel),
        card: formatModelCard(baseModel, "vera", body),
        shapes: saveProjection ? [...shapes, ...projections] : shapes,
        values: file,
      });
    },
    async load(folder) {
      if (saveProjection) {
        const values = await loadAdapterTensors(folder, [...shapes, ...projections]);
        return values.set(PROJECTION_A, transpose(values.get(PROJECTION_A)!, rank, widest));
      }
      // As in PEFT: those of a file whose config says that they are not saved are passed over.
      const values = await loadAdapterTensors(folder, shapes, projections);
      for (const { name } of projections) values.delete(name);
      return values;
    },
  };
}
