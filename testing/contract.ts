import { norm } from "./finite-differences.ts";

/** One named promise of a contract: `for (const { name, run } of checks) test(name, run)`, whatever runs your tests. */
export interface Check {
  readonly name: string;
  /** @throws ContractError saying what broke; other errors are the plugin's own */
  readonly run: () => Promise<void>;
}

/** A plugin broke its contract; the message says what was seen and what was expected. */
export class ContractError extends Error {
  override readonly name = "ContractError";
}

/** @throws ContractError with `message` unless `condition` holds */
export function expectThat(condition: boolean, message: string): asserts condition {
  if (!condition) throw new ContractError(message);
}

const likely = (cause: string | undefined): string => (cause === undefined ? "" : `. Likely: ${cause}`);

/**
 * Fails unless every element has the same bits, naming the first that differs; NaN equals itself.
 * @param cause what an author most likely did, where they do not
 */
export function expectSameBits(got: ArrayLike<number>, want: ArrayLike<number>, what: string, cause?: string): void {
  expectThat(got.length === want.length, `${what}: ${got.length} elements, expected ${want.length}${likely(cause)}`);
  for (let i = 0; i < want.length; i++) {
    const same = Object.is(got[i], want[i]);
    expectThat(same, `${what}: element ${i} is ${got[i]}, expected ${want[i]}${likely(cause)}`);
  }
}

/** Fails naming the first element that is infinite or NaN. */
export function expectFinite(values: ArrayLike<number>, what: string): void {
  for (let i = 0; i < values.length; i++) {
    expectThat(Number.isFinite(values[i]), `${what}: element ${i} is ${values[i]}, expected a finite number`);
  }
}

/** Fails naming a parameter whose gradient is all zeros, or not finite. */
export function expectReached(gradients: ReadonlyMap<string, Float32Array>): void {
  for (const [name, gradient] of gradients) {
    expectFinite(gradient, `the gradient of ${name}`);
    expectThat(
      gradient.some((g) => g !== 0),
      `no gradient reaches ${name}`,
    );
  }
}

const rootMeanSquare = (values: ArrayLike<number>): number => norm(values) / Math.sqrt(values.length);

/**
 * ||got - want|| / ||want||; 0 where both are zero, Infinity where only `want` is, NaN where anything is NaN.
 * @param like values of the size that `want` is a sample of, where `want` itself may be small by chance
 */
export function relativeError(got: ArrayLike<number>, want: ArrayLike<number>, like: ArrayLike<number> = want): number {
  const error = rootMeanSquare(Float64Array.from(want, (value, i) => got[i]! - value));
  return error === 0 ? 0 : error / rootMeanSquare(like);
}

/** Gives the relative error, and fails where it is above `limit`; `like` is as `relativeError` has it. */
export function expectNear(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  limit: number,
  what: string,
  like: ArrayLike<number> = want,
  cause?: string,
): number {
  expectThat(got.length === want.length, `${what}: ${got.length} elements, expected ${want.length}`);
  const error = relativeError(got, want, like);
  if (error <= limit) return error;
  let worst = 0;
  for (let i = 0; i < want.length; i++) {
    if (!(Math.abs(got[i]! - want[i]!) <= Math.abs(got[worst]! - want[worst]!))) worst = i;
  }
  throw new ContractError(
    `${what}: relative error ${error.toExponential(2)}, allowed ${limit}; worst at ${worst}: ${got[worst]}, expected ${want[worst]}${likely(cause)}`,
  );
}

/** Calls `run` and gives what it throws, or fails where it does not. */
export function errorOf(run: () => unknown, what: string): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new ContractError(`${what}: nothing was thrown`);
}

/**
 * Fails unless `run` throws qlora's ModelError (of whichever copy) whose message names all of `names`.
 * @param what what was done, for the message
 */
export async function expectModelError(run: () => unknown, names: readonly string[], what: string): Promise<void> {
  let error: unknown;
  try {
    await run();
  } catch (thrown) {
    error = thrown;
  }
  expectThat(error !== undefined, `${what}: nothing was thrown, expected a ModelError`);
  if (!(error instanceof Error)) throw new ContractError(`${what}: threw no Error, expected a ModelError`);
  expectThat(error.name === "ModelError", `${what}: threw ${error.name}: ${error.message}; expected a ModelError`);
  for (const name of names)
    expectThat(error.message.includes(name), `${what}: the error does not say ${name}: ${error.message}`);
}
