/**
 * The errors of qlora. A message says what is wrong, where, what was found and what was expected; `hint` says what
 * to do next. `code` is stable and may be matched by scripts.
 */

/** What an error may carry beside its message. */
export interface ErrorDetails {
  /** The next step for the reader, as one sentence. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** Longest message and hint, in characters: a file of one line of megabytes is quoted by what refuses it. */
const MAX_MESSAGE = 3000;
const MAX_HINT = 1000;

/** A text with its middle left out where it is too long. */
function bounded(text: string, most: number): string {
  const left = text.length - most;
  return left <= 0 ? text : `${text.slice(0, most - 250)} … (${left + 50} characters left out) … ${text.slice(-200)}`;
}

const STAMP = Symbol.for("qlora.error");

/**
 * Base of every error that qlora throws on purpose. A plugin may bring a copy of qlora of its own: `instanceof` knows the
 * errors of every copy, by a stamp and the names of their classes.
 */
export class QloraError extends Error {
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (typeof value !== "object" || value === null || !(STAMP in value)) return false;
    for (let at: unknown = Object.getPrototypeOf(value); at !== null; at = Object.getPrototypeOf(at)) {
      if ((at as object).constructor.name === this.name) return true;
    }
    return false;
  }

  readonly [STAMP] = true;
  override readonly name: string = "QloraError";
  /** Stable identifier such as `CONFIG_INVALID` or `CHECKPOINT_TENSOR_MISSING`. */
  readonly code: string;
  readonly hint: string | undefined;

  constructor(code: string, message: string, details: ErrorDetails = {}) {
    super(bounded(message, MAX_MESSAGE), details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.hint = details.hint === undefined ? undefined : bounded(details.hint, MAX_HINT);
  }
}

/** A configuration or a command line that cannot be run; exit code 2. */
export class ConfigError extends QloraError {
  override readonly name = "ConfigError";
  /** Every problem found, in order; the message lists them all. */
  readonly problems: readonly string[];

  constructor(code: string, problems: string | readonly string[], details: ErrorDetails = {}) {
    const list = typeof problems === "string" ? [problems] : problems;
    super(
      code,
      list.length === 1 ? list[0]! : `${list.length} problems:\n${list.map((p) => `  - ${p}`).join("\n")}`,
      details,
    );
    this.problems = list.map((problem) => bounded(problem, MAX_MESSAGE));
  }
}

/** A row or a file of data that cannot be used; names the file and the line. */
export class DataError extends QloraError {
  override readonly name = "DataError";
  readonly file: string;
  /** 1-based line in `file`, where one line is to blame. */
  readonly line: number | undefined;

  constructor(code: string, message: string, where: { file: string; line?: number }, details: ErrorDetails = {}) {
    super(code, `${where.file}${where.line === undefined ? "" : `:${where.line}`}: ${message}`, details);
    this.file = where.file;
    this.line = where.line;
  }
}

/** A checkpoint or an adapter that does not hold what the model needs; names the tensor. */
export class ModelError extends QloraError {
  override readonly name = "ModelError";
}

/** No usable GPU, a lost device, or a limit that the work exceeds. */
export class DeviceError extends QloraError {
  override readonly name = "DeviceError";
}

/** A plugin that cannot be found, loaded or used. */
export class PluginError extends QloraError {
  override readonly name = "PluginError";
}
