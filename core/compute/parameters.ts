import type { Gpu } from "../device/gpu.ts";
import { elementCount, partOf, type Tensor } from "../device/tensor.ts";
import { UploadPace } from "../device/upload-pace.ts";

/** A trainable tensor by name. */
export interface ParameterShape {
  /** Name in the adapter's file, e.g. `base_model.model.score.weight`. */
  readonly name: string;
  readonly shape: readonly number[];
}

/** A trainable tensor before it has memory. */
export interface ParameterSpec extends ParameterShape {
  /** First values, row-major; called once. */
  initial(): Float32Array<ArrayBuffer>;
}

/** A trainable f32 tensor and the gradient that backward passes add into. */
export interface Parameter {
  readonly name: string;
  readonly shape: readonly number[];
  readonly size: number;
  readonly value: Tensor;
  readonly grad: Tensor;
  /** Which slab it lies in, and its first element there. */
  readonly slab: Slab;
  readonly start: number;
}

/**
 * Parameters end to end in one buffer, each from a multiple of 256 elements on (what lies between is zero), so that
 * one dispatch clears, measures or updates all of them, and a blockwise optimizer's blocks never cross tensors.
 */
export interface Slab {
  readonly index: number;
  /** Elements, padding included; a multiple of 256. */
  readonly size: number;
  readonly value: Tensor;
  readonly grad: Tensor;
  readonly parameters: readonly Parameter[];
}

/** Alignment of a parameter's first element within its slab. */
export const PARAMETER_ALIGN = 256;

const aligned = (n: number): number => Math.ceil(n / PARAMETER_ALIGN) * PARAMETER_ALIGN;

/**
 * All trainable parameters of a run, in the adapter's order.
 * @example
 * const parameters = new ParameterSet(gpu, [{ name: "w", shape: [2, 3], initial: () => new Float32Array(6).fill(1) }]);
 * parameters.writeGradients(new Map([["w", new Float32Array(6)]]));
 * (await parameters.readValues()).get("w"); // six ones
 */
export class ParameterSet {
  readonly slabs: readonly Slab[];
  readonly parameters: readonly Parameter[];
  readonly #byName: ReadonlyMap<string, Parameter>;
  readonly #gpu: Gpu;

  /**
   * Allocates values and gradients (zero) for `specs`, unless there are `slabs` of them.
   * @throws RangeError for a repeated name or a wrong initial size
   */
  constructor(gpu: Gpu, specs: readonly ParameterSpec[], slabs: readonly Slab[] = filledSlabs(gpu, specs)) {
    this.#gpu = gpu;
    this.slabs = slabs;
    this.parameters = slabs.flatMap((slab) => slab.parameters);
    this.#byName = new Map(this.parameters.map((p) => [p.name, p]));
    if (this.#byName.size !== this.parameters.length) throw new RangeError("two parameters have the same name");
  }

  /** As the constructor, with few values on their way to the GPU at a time. */
  static async load(gpu: Gpu, specs: readonly ParameterSpec[]): Promise<ParameterSet> {
    const set = new ParameterSet(gpu, specs, makeSlabs(gpu, specs));
    const pace = new UploadPace(gpu);
    for (const bytes of fill(gpu, specs, set.slabs)) await pace.add(bytes);
    return set;
  }

  /** @throws RangeError for an unknown name */
  get(name: string): Parameter {
    const found = this.#byName.get(name);
    if (found === undefined) throw new RangeError(`no parameter ${name}`);
    return found;
  }

  /** Number of trainable elements. */
  get count(): number {
    return this.parameters.reduce((sum, p) => sum + p.size, 0);
  }

  /** Sets every gradient to zero. */
  zeroGrad(): void {
    for (const slab of this.slabs) this.#gpu.clear(slab.grad);
  }

  /** Values of every parameter, read back slab by slab. */
  async readValues(): Promise<Map<string, Float32Array<ArrayBuffer>>> {
    return this.#read((slab) => slab.value);
  }

  /** Gradients of every parameter, as they stand (scaled where a loss scale is in use). */
  async readGradients(): Promise<Map<string, Float32Array<ArrayBuffer>>> {
    return this.#read((slab) => slab.grad);
  }

  /**
   * Sets gradients to these values, by parameter name; others stay.
   * @throws RangeError for an unknown name or a wrong number of values
   */
  writeGradients(values: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
    this.#write(values, ({ grad }) => grad);
  }

  /** Sets parameters to these values, by name; others stay. @throws RangeError as `writeGradients` */
  writeValues(values: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
    this.#write(values, ({ value }) => value);
  }

  /** Gives the memory of values and gradients back; the set is dead afterwards. */
  free(): void {
    for (const { value, grad } of this.slabs) for (const tensor of [value, grad]) this.#gpu.free(tensor);
  }

  #write(values: ReadonlyMap<string, Float32Array<ArrayBuffer>>, pick: (parameter: Parameter) => Tensor): void {
    for (const [name, value] of values) {
      const parameter = this.get(name);
      const { size, shape } = parameter;
      if (value.length !== size) throw new RangeError(`${name}: ${value.length} values for [${shape.join(",")}]`);
      this.#gpu.write(pick(parameter), value);
    }
  }

  async #read(pick: (slab: Slab) => Tensor): Promise<Map<string, Float32Array<ArrayBuffer>>> {
    const values = new Map<string, Float32Array<ArrayBuffer>>();
    for (const slab of this.slabs) {
      const all = await this.#gpu.readFloats(pick(slab));
      for (const p of slab.parameters) values.set(p.name, all.slice(p.start, p.start + p.size));
    }
    return values;
  }
}

function filledSlabs(gpu: Gpu, specs: readonly ParameterSpec[]): Slab[] {
  const slabs = makeSlabs(gpu, specs);
  for (const _ of fill(gpu, specs, slabs));
  return slabs;
}

/** Clears the slabs and writes first values into them, one parameter at a time; yields the bytes of each. */
function* fill(gpu: Gpu, specs: readonly ParameterSpec[], slabs: readonly Slab[]): Generator<number> {
  for (const { value, grad } of slabs) for (const tensor of [value, grad]) gpu.clear(tensor);
  if (gpu.isMeta) return;
  const parameters = slabs.flatMap((slab) => slab.parameters);
  for (const [i, spec] of specs.entries()) {
    const values = spec.initial();
    const { name, shape, size, value } = parameters[i]!;
    if (values.length !== size)
      throw new RangeError(`${name}: ${values.length} initial values for [${shape.join(",")}]`);
    gpu.write(value, values);
    yield values.byteLength;
  }
}

function makeSlabs(gpu: Gpu, specs: readonly ParameterSpec[]): Slab[] {
  const slabs: Slab[] = [];
  const perSlab = Math.floor(gpu.device.limits.maxStorageBufferBindingSize / 4 / PARAMETER_ALIGN) * PARAMETER_ALIGN;
  let pending: ParameterSpec[] = [];
  let size = 0;
  const flush = (): void => {
    if (pending.length > 0) slabs.push(makeSlab(gpu, slabs.length, pending, size));
    pending = [];
    size = 0;
  };
  for (const spec of specs) {
    const count = elementCount(spec.shape);
    if (size + aligned(count) > perSlab) flush();
    pending.push(spec);
    size += aligned(count);
  }
  flush();
  return slabs;
}

function makeSlab(gpu: Gpu, index: number, specs: readonly ParameterSpec[], size: number): Slab {
  const value = gpu.alloc([size], "f32", `parameters ${index}`, "adapter");
  const grad = gpu.alloc([size], "f32", `gradients ${index}`, "gradients");
  const parameters: Parameter[] = [];
  const slab: Slab = { index, size, value, grad, parameters };
  let start = 0;
  for (const spec of specs) {
    const { name, shape } = spec;
    const size = elementCount(shape);
    const parts = { value: partOf(value, start, shape, name), grad: partOf(grad, start, shape, `grad ${name}`) };
    parameters.push({ name, shape, size, ...parts, slab, start });
    start += aligned(size);
  }
  return slab;
}
