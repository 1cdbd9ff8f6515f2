/** From a checkpoint to the GPU in pieces: the host holds one piece, and no more than a few are on their way. */
import type { Gpu } from "./device/gpu.ts";
import { missingTensor, type TensorSource } from "./safetensors.ts";
import type { Tensor } from "./tensor.ts";
import { UploadPace } from "./upload-pace.ts";

/** Bytes read at a time; a multiple of four. */
const PIECE_BYTES = 16 * 2 ** 20;

/** Told of bytes read and in total. */
export type LoadProgress = (done: number, total: number) => void;

/** Moves tensors of one checkpoint to one GPU. */
export class TensorStream {
  readonly source: TensorSource;
  readonly #gpu: Gpu;
  readonly #total: number;
  readonly #onProgress: LoadProgress | undefined;
  readonly #pace: UploadPace;
  #piece: Uint8Array<ArrayBuffer> | undefined;
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
    const length = bytes ?? info.end - info.begin - from;
    for (let at = 0; at < length; at += PIECE_BYTES) {
      const size = Math.min(PIECE_BYTES, length - at);
      if (!this.#gpu.paper) {
        this.#piece ??= new Uint8Array(PIECE_BYTES);
        const piece = this.#piece.subarray(0, size);
        await this.source.readInto(name, piece, from + at);
        this.#gpu.write(target, piece, at);
      }
      await this.account(size);
    }
  }

  /** Fills host memory with the tensor `name`. @throws ModelError as {@link copy} */
  async fill(name: string, target: Uint8Array): Promise<void> {
    for (let at = 0; at < target.length; at += PIECE_BYTES) {
      const piece = target.subarray(at, at + PIECE_BYTES);
      if (!this.#gpu.paper) await this.source.readInto(name, piece, at);
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
    this.#piece = undefined;
    this.#onProgress?.(this.#total, this.#total);
  }

  #report(bytes: number): void {
    this.#done += bytes;
    this.#onProgress?.(Math.min(this.#done, this.#total), this.#total);
  }
}
