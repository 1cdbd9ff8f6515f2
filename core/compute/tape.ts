/**
 * The tape remembers which ops ran, and runs their backward passes in reverse.
 *
 * Ownership of gradients, the one rule:
 * - An op's `backward` owns the gradients of its outputs. It may hand one on as the gradient of one input (a residual
 *   connection does; the same tensor never serves two inputs), else the tape frees it.
 * - For each input that needs a gradient it returns one tensor of the input's shape and dtype: a fresh one, written
 *   with `=`; or, where `existing[i]` is given, that tensor, added to with `+=`. If it ignores `existing` and returns a
 *   fresh one, the tape adds the two.
 * - Gradients of parameters are never returned: they are added (`+=`) into `parameter.grad`, which lives outside.
 * - An input that needs no gradient (frozen, or before the first adapter) gets none, ever.
 *
 * Release of transients, the same on every tier and in evaluation as in training:
 * - What an op saves is kept for its backward: callers release its inputs and outputs as soon as no other op is to read them.
 * - After `release` no op may read, save or return the tensor. One that does is an error that names both, even where the memory
 *   happens to be there still because another op, on this tier, has saved the same tensor.
 */
import type { Gpu } from "../device/gpu.ts";
import { describe, type DType, type Tensor } from "../device/tensor.ts";
import { accumulate } from "./accumulate.ts";

/** What `forward` gives back. */
export interface Forward {
  readonly outputs: readonly Tensor[];
  /** Tensors that `backward` will read: any of the inputs, the outputs or private ones. Others may be freed. */
  readonly saved?: readonly Tensor[];
}

/** What `backward` may read. */
export interface BackwardContext<A> {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly saved: readonly Tensor[];
  readonly attrs: A;
  /** Gradients of the outputs; undefined where no later op used that output. */
  readonly dOutputs: readonly (Tensor | undefined)[];
  /** Which inputs need a gradient. */
  readonly needs: readonly boolean[];
  /** Gradients that the inputs already have from later ops. */
  readonly existing: readonly (Tensor | undefined)[];
}

/** Hand-written forward and backward of one step of a model. `A` holds weights, parameters and numbers. */
export interface Op<A> {
  readonly name: string;
  forward(tape: Tape, inputs: readonly Tensor[], attrs: A): Forward;
  /** Gradients of the inputs, in order; undefined where `needs` is false. */
  backward(tape: Tape, context: BackwardContext<A>): readonly (Tensor | undefined)[];
  /** Whether these attributes hold parameters that train: the op is then recorded whatever its inputs need. */
  trains?(attrs: A): boolean;
}

interface Node {
  readonly name: string;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly saved: readonly Tensor[];
  readonly needs: readonly boolean[];
  readonly run: (
    dOutputs: readonly (Tensor | undefined)[],
    existing: readonly (Tensor | undefined)[],
  ) => readonly (Tensor | undefined)[];
}

/** Settings of a tape. */
export interface TapeOptions {
  /** False for evaluation: nothing is kept for backward. Default true. */
  readonly recording?: boolean;
  /** Called with each tensor's gradient once it is complete (tests, activation probes). */
  readonly onGradient?: (tensor: Tensor, gradient: Tensor) => void;
  /** Called when the parameters of this block of the model, and of those after it, have got all of their gradients. */
  readonly onBlock?: ((block: number) => void) | undefined;
}

/**
 * One forward pass and its backward pass.
 * @example
 * const tape = new Tape(gpu);
 * const x = gpu.upload(Float32Array.of(1, 2, 40), [3], "f32", "x");
 * tape.requireGradient(x);
 * const y = softcap(tape, x, 30);
 * const dY = tape.like(y);
 * gpu.write(dY, Float32Array.of(1, 1, 1));
 * const [dX] = tape.backward([[y, dY]], [x]);
 * console.log(await gpu.readFloats(dX!)); // 1 - tanh(x / 30)^2
 * gpu.free(dX!);
 * tape.close();
 */
export class Tape {
  readonly gpu: Gpu;
  readonly #options: TapeOptions;
  readonly #nodes: Node[] = [];
  /** How many holders a transient has: its scope, and each node that saved it. */
  readonly #holders = new Map<Tensor, number>();
  readonly #needGradient = new Set<Tensor>();
  /** Inputs of the model's blocks. */
  readonly #blocks = new Map<Tensor, number>();
  #scope = new Set<Tensor>();
  /** What the caller, or an op's forward, has said to be done with. */
  readonly #released = new WeakSet<Tensor>();

  constructor(gpu: Gpu, options: TapeOptions = {}) {
    this.gpu = gpu;
    this.#options = options;
  }

  get recording(): boolean {
    return this.#options.recording ?? true;
  }

  /** A transient of the current scope. */
  alloc(shape: readonly number[], dtype: DType, label: string): Tensor {
    const tensor = this.gpu.alloc(shape, dtype, label, "activations");
    this.#holders.set(tensor, 1);
    this.#scope.add(tensor);
    return tensor;
  }

  /** A gradient-shaped transient: same shape and dtype as `tensor`. Inside `backward`, results are owned by the tape. */
  like(tensor: Tensor, label = `d(${tensor.label})`): Tensor {
    return this.alloc(tensor.shape, tensor.dtype, label);
  }

  /** Marks an input of the tape as needing a gradient. */
  requireGradient(tensor: Tensor): void {
    this.#needGradient.add(tensor);
  }

  /** Says that a block of the model reads `h`: with `h`'s gradient the block is done. */
  startBlock(block: number, h: Tensor): void {
    this.#blocks.set(h, block);
  }

  needsGradient(tensor: Tensor): boolean {
    return this.#needGradient.has(tensor);
  }

  /** Says that the caller is done with a transient: its memory goes back unless an op saved it, and no later op may read it. */
  release(...tensors: readonly Tensor[]): void {
    for (const tensor of tensors) {
      if (!this.#scope.delete(tensor)) continue;
      this.#released.add(tensor);
      this.#drop(tensor);
    }
  }

  /** Runs `body`; transients made inside it are released at its end, except those it returns. */
  scope<T extends readonly Tensor[]>(body: () => T): T {
    const outer = this.#scope;
    this.#scope = new Set();
    try {
      const kept = body();
      for (const tensor of kept) if (this.#scope.delete(tensor)) outer.add(tensor);
      return kept;
    } finally {
      for (const tensor of this.#scope) this.#drop(tensor);
      this.#scope = outer;
    }
  }

  /** Runs an op, remembering it where something will need its gradient. */
  run<A>(op: Op<A>, inputs: readonly Tensor[], attrs: A): readonly Tensor[] {
    this.#expectHeld(op.name, "reads", inputs);
    const { outputs, saved = [] } = op.forward(this, inputs, attrs);
    this.#expectHeld(op.name, "saves", saved);
    this.#expectHeld(op.name, "returns", outputs);
    const needs = inputs.map((tensor) => this.#needGradient.has(tensor));
    if (!this.recording || !(needs.includes(true) || op.trains?.(attrs) === true)) {
      for (const tensor of saved) if (!inputs.includes(tensor) && !outputs.includes(tensor)) this.release(tensor);
      return outputs;
    }
    for (const tensor of saved) this.#hold(tensor);
    for (const tensor of saved) if (!inputs.includes(tensor) && !outputs.includes(tensor)) this.release(tensor);
    for (const tensor of outputs) this.#needGradient.add(tensor);
    this.#nodes.push({
      name: op.name,
      inputs,
      outputs,
      saved,
      needs,
      run: (dOutputs, existing) => op.backward(this, { inputs, outputs, saved, attrs, dOutputs, needs, existing }),
    });
    return outputs;
  }

  /**
   * Runs a part of the model keeping only its inputs; backward runs it again and then backward through it.
   * `body` must compute the same values each time it runs (dropout draws from counters, so it does).
   */
  checkpoint(
    name: string,
    inputs: readonly Tensor[],
    body: (tape: Tape, inputs: readonly Tensor[]) => readonly Tensor[],
  ): readonly Tensor[] {
    this.#expectHeld(name, "reads", inputs);
    if (!this.recording) return this.scope(() => body(this, inputs));
    const silent = new Tape(this.gpu, { ...this.#options, recording: false });
    const outputs = silent.#detach(() => body(silent, inputs));
    for (const tensor of outputs) {
      this.#holders.set(tensor, 1);
      this.#scope.add(tensor);
      this.#needGradient.add(tensor);
    }
    const needs = inputs.map((tensor) => this.#needGradient.has(tensor));
    for (const tensor of inputs) this.#hold(tensor);
    this.#nodes.push({
      name,
      inputs,
      outputs,
      saved: inputs,
      needs,
      run: (dOutputs) => {
        const replay = new Tape(this.gpu, this.#options);
        inputs.forEach((tensor, i) => needs[i] === true && replay.requireGradient(tensor));
        const again = replay.scope(() => body(replay, inputs));
        const seeds: [Tensor, Tensor][] = [];
        again.forEach((tensor, i) => {
          const gradient = dOutputs[i];
          if (gradient === undefined) return;
          this.#disown(gradient);
          replay.#adopt(gradient);
          seeds.push([tensor, gradient]);
        });
        const found = replay.backward(seeds, inputs);
        replay.close();
        return found.map((gradient) => {
          if (gradient !== undefined) this.#adopt(gradient);
          return gradient;
        });
      },
    });
    return outputs;
  }

  /**
   * Runs every recorded op backward, last first.
   * @param seeds outputs with their gradients, which the tape takes over
   * @param wanted tensors whose gradients to return (the caller owns them); others are freed
   */
  backward(seeds: readonly (readonly [Tensor, Tensor])[], wanted: readonly Tensor[] = []): (Tensor | undefined)[] {
    const gradients = new Map<Tensor, Tensor>(seeds);
    for (let node = this.#nodes.pop(); node !== undefined; node = this.#nodes.pop()) {
      const dOutputs = node.outputs.map((tensor) => gradients.get(tensor));
      for (const tensor of node.outputs) gradients.delete(tensor);
      if (dOutputs.some((gradient) => gradient !== undefined)) this.#backwardNode(node, dOutputs, gradients);
      for (const tensor of node.saved) this.#drop(tensor);
    }
    const found = wanted.map((tensor) => gradients.get(tensor));
    for (const gradient of found) if (gradient !== undefined) this.#disown(gradient);
    for (const gradient of gradients.values()) if (this.#holders.has(gradient)) this.release(gradient);
    return found;
  }

  #backwardNode(node: Node, dOutputs: readonly (Tensor | undefined)[], gradients: Map<Tensor, Tensor>): void {
    node.outputs.forEach((tensor, i) => {
      const gradient = dOutputs[i];
      if (gradient !== undefined) this.#options.onGradient?.(tensor, gradient);
      const block = this.#blocks.get(tensor);
      if (block !== undefined) this.#options.onBlock?.(block);
    });
    const existing = node.inputs.map((tensor) => gradients.get(tensor));
    const outer = this.#scope;
    this.#scope = new Set();
    const results = node.run(dOutputs, existing);
    for (const [i, tensor] of node.inputs.entries()) {
      const gradient = results[i];
      if (gradient === undefined) continue;
      if (node.needs[i] !== true)
        throw new Error(`op ${node.name} gave a gradient for its frozen input ${describe(tensor)}`);
      if (gradient.dtype !== tensor.dtype || gradient.shape.join() !== tensor.shape.join()) {
        throw new Error(`op ${node.name}: gradient ${describe(gradient)} does not match input ${describe(tensor)}`);
      }
      this.#scope.delete(gradient);
      const before = gradients.get(tensor);
      if (before === undefined) gradients.set(tensor, gradient);
      else if (before !== gradient) {
        accumulate(this.gpu, before, gradient);
        this.#scope.add(gradient);
      }
      outer.add(gradient);
      if (before !== undefined && before !== gradient) outer.delete(gradient);
    }
    for (const tensor of this.#scope) this.#drop(tensor);
    this.#scope = outer;
    for (const gradient of dOutputs) if (gradient !== undefined && !results.includes(gradient)) this.release(gradient);
  }

  /**
   * Frees what is left: outputs, gradients nobody took, and nodes that were never run backward.
   * @throws Error if a tensor is still held, which means that its memory would leak
   */
  close(): void {
    for (const node of this.#nodes.splice(0)) for (const tensor of node.saved) this.#drop(tensor);
    for (const tensor of this.#scope) this.#drop(tensor);
    this.#scope = new Set();
    const [leaked] = this.#holders.keys();
    if (leaked !== undefined) throw new Error(`${this.#holders.size} tensors leaked, first ${describe(leaked)}`);
  }

  /** Runs `body` in a scope of its own and gives its results away. */
  #detach(body: () => readonly Tensor[]): readonly Tensor[] {
    const kept = this.scope(body);
    for (const tensor of kept) this.#disown(tensor);
    return kept;
  }

  /** @throws Error naming the op and the tensor where one was released: its memory may be another's by now */
  #expectHeld(name: string, does: "reads" | "saves" | "returns", tensors: readonly Tensor[]): void {
    const gone = tensors.find((tensor) => this.#released.has(tensor));
    if (gone === undefined) return;
    const when =
      does === "reads" ? `after the last op that reads it, ${name} included` : "in no forward that hands it on";
    throw new Error(`op ${name} ${does} ${describe(gone)}, which was released before: release it ${when}`);
  }

  #adopt(tensor: Tensor): void {
    this.#holders.set(tensor, 1);
    this.#scope.add(tensor);
  }

  #disown(tensor: Tensor): void {
    this.#holders.delete(tensor);
    this.#scope.delete(tensor);
  }

  /** A tensor from outside the tape (a weight, a batch's ids) is held by nobody here and never freed by it. */
  #hold(tensor: Tensor): void {
    const count = this.#holders.get(tensor);
    if (count !== undefined) this.#holders.set(tensor, count + 1);
  }

  #drop(tensor: Tensor): void {
    const count = this.#holders.get(tensor);
    if (count === undefined) return;
    if (count > 1) {
      this.#holders.set(tensor, count - 1);
      return;
    }
    this.#holders.delete(tensor);
    this.gpu.free(tensor);
  }
}
