/** From a checkpoint to the GPU in pieces, read from the file straight into memory that the GPU copies from. */
import type { Gpu } from "../device/gpu.ts";
import { PIECE_BYTES, Staging } from "../device/staging.ts";
import type { Tensor } from "../device/tensor.ts";
import { UploadPace } from "../device/upload-pace.ts";
import { missingTensor, type TensorSource } from "./safetensors.ts";

/** Told of bytes read and in total. */
export type LoadProgress = (done: number, total: number) => void;

/** Moves tensors of one checkpoint to one GPU; holds 32 MiB of host memory until `finish` or the end of its scope. */
export class TensorStream {
  readonly source: TensorSource;
  readonly #gpu: Gpu;
  readonly #total: number;
  readonly #onProgress: LoadProgress | undefined;
  readonly #pace: UploadPace;
  readonly #staging: Staging;
  #done = 0;

  /**
   * @param wanted which tensors will be loaded, for the progress; default: all
   */
  constructor(
    gpu: Gpu,
    source: TensorSource,
    onProgress?: LoadProgress,
    wanted: (name: string) => boolean = () => true,
  ) {
    this.#gpu = gpu;
    this.#pace = new UploadPace(gpu);
    this.#staging = new Staging(gpu);
    this.source = source;
    this.#onProgress = onProgress;
    this.#total = [...source.tensors].reduce(
      (sum, [name, { begin, end }]) => (wanted(name) ? sum + end - begin : sum),
      0,
    );
  }

  /**
   * Copies a part of the tensor `name`, as the file stores it, to the beginning of `target`.
   * @param from first byte of the part; @param bytes its length, default: to the end
   * @throws ModelError where the tensor is missing or the file has shrunk
   */
  async copy(name: string, target: Tensor, from = 0, bytes?: number): Promise<void> {
    const info = this.source.tensors.get(name);
    if (info === undefined) throw missingTensor(this.source.pathOf(name), name);
    await this.#copy(this.source, name, target, from, bytes ?? info.end - info.begin - from);
  }

  /** The same for who looks for NaN and infinite values by other means. */
  async copyUnchecked(name: string, target: Tensor, from: number, bytes: number): Promise<void> {
    await this.#copy(this.source.unchecked ?? this.source, name, target, from, bytes);
  }

  async #copy(source: TensorSource, name: string, target: Tensor, from: number, length: number): Promise<void> {
    for (let at = 0; at < length; at += PIECE_BYTES) {
      const size = Math.min(PIECE_BYTES, length - at);
      if (!this.#gpu.isMeta) {
        await this.#staging.write(target, at, size, (piece) => source.readInto(name, piece, from + at));
      }
      this.#report(size);
    }
  }

  /** Fills host memory with the tensor `name`. @throws ModelError as {@link copy} */
  async fill(name: string, target: Uint8Array): Promise<void> {
    for (let at = 0; at < target.length; at += PIECE_BYTES) {
      const piece = target.subarray(at, at + PIECE_BYTES);
      if (!this.#gpu.isMeta) await this.source.readInto(name, piece, at);
      this.#report(piece.length);
    }
  }

  /** Counts bytes that were uploaded by other means, and waits where too many are on their way. */
  async account(bytes: number): Promise<void> {
    await this.#pace.add(bytes);
    this.#report(bytes);
  }

  /** Waits for everything, and tells that all is loaded. @throws DeviceError where an upload failed */
  async finish(): Promise<void> {
    await this.#gpu.idle();
    this.#staging.free();
    this.#onProgress?.(this.#total, this.#total);
  }

  /** Gives the host memory back where loading ended before `finish`. */
  [Symbol.dispose](): void {
    this.#staging.free();
  }

  #report(bytes: number): void {
    this.#done += bytes;
    this.#onProgress?.(Math.min(this.#done, this.#total), this.#total);
  }
}
