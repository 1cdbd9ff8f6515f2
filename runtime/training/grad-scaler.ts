/** Dynamic loss scaling with the constants of torch.amp.GradScaler. */

/** Everything that a scaler's future depends on; plain JSON. */
export interface GradScalerState {
  readonly scale: number;
  readonly growthFactor: number;
  readonly backoffFactor: number;
  readonly growthInterval: number;
  /** Clean steps since the scale last changed. */
  readonly growthTracker: number;
}

/** A new scaler's state. */
export const initialGradScalerState: GradScalerState = {
  scale: 65536,
  growthFactor: 2,
  backoffFactor: 0.5,
  growthInterval: 2000,
  growthTracker: 0,
};

/** The loss scale of the next backward pass: halved after an overflow, doubled after 2000 clean steps in a row. */
export class GradScaler {
  #state: GradScalerState;

  /** @param state what `state` gave before, to go on from there */
  constructor(state: GradScalerState = initialGradScalerState) {
    this.#state = state;
  }

  /** What the loss is multiplied by. */
  get scale(): number {
    return this.#state.scale;
  }

  get state(): GradScalerState {
    return this.#state;
  }

  /** Call once per optimizer step. @param overflow whether a gradient was not finite, so that the step was skipped */
  update(overflow: boolean): void {
    const { scale, growthFactor, backoffFactor, growthInterval, growthTracker } = this.#state;
    if (overflow) {
      this.#state = { ...this.#state, scale: scale * backoffFactor, growthTracker: 0 };
    } else if (growthTracker + 1 < growthInterval) {
      this.#state = { ...this.#state, growthTracker: growthTracker + 1 };
    } else {
      const grown = scale * growthFactor;
      // The scale is an f32 in torch and on the GPU: it stays where the next one would be infinite.
      this.#state = { ...this.#state, scale: Number.isFinite(Math.fround(grown)) ? grown : scale, growthTracker: 0 };
    }
  }
}
