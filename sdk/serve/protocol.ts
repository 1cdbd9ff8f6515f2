/** What goes over the wire: vLLM's `/classify`, with comparisons beside texts and probabilities by name. */
import { QloraError } from "../../core/errors.ts";
import { formatValue } from "../../core/options/describe.ts";
import { didYouMean } from "../../core/util/suggest.ts";
import type { Dataset } from "../../runtime/data/dataset.ts";
import type { DataRow } from "../../runtime/data/formats/index.ts";

/** A comparison to judge. */
export interface Comparison {
  readonly prompt: string;
  readonly response_a: string;
  readonly response_b: string;
}

/** What `/classify` and `/score` are asked. */
export interface ClassifyRequest {
  /** Name of an adapter; default: the first one. */
  readonly model?: string | undefined;
  readonly input: readonly (string | Comparison)[];
  /** "swap": the mean with A and B exchanged, of comparisons. */
  readonly tta: "none" | "swap";
}

/** One judged row. */
export interface ClassifyItem {
  readonly index: number;
  /** Name of the most probable class. */
  readonly label: string;
  /** In the order of the classes. */
  readonly probs: readonly number[];
  readonly num_classes: number;
  /** The same by the classes' names. */
  readonly probabilities: Readonly<Record<string, number>>;
  /** Whether the row was longer than the model was trained to read. */
  readonly truncated: boolean;
}

/** The score of one row. */
export interface ScoreItem {
  readonly index: number;
  readonly object: "score";
  readonly score: number;
  readonly truncated: boolean;
}

/** Tokens that were read. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly total_tokens: number;
  readonly completion_tokens: 0;
}

/** The error of a request, which says the status it is answered with. */
export class HttpError extends QloraError {
  readonly status: number;
  constructor(status: number, code: string, message: string, details?: { hint?: string; cause?: unknown }) {
    super(code, message, details);
    this.status = status;
  }
}

const bad = (message: string, hint?: string): HttpError =>
  new HttpError(400, "BAD_REQUEST", message, hint === undefined ? {} : { hint });

const KEYS = ["model", "input", "tta"];
const FIELDS = ["prompt", "response_a", "response_b"] as const;

/** @throws HttpError 400 naming what is wrong */
export function parseClassify(body: unknown, maxRows: number): ClassifyRequest {
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw bad(`the body: got ${formatValue(body)}, expected a JSON object`, 'For example {"input": "a text"}.');
  const unknown = Object.keys(body).find((key) => !KEYS.includes(key));
  if (unknown !== undefined) {
    // What vLLM's clients send along and means nothing here is named, not passed over.
    throw bad(`${unknown}: unknown key${didYouMean(unknown, KEYS)}`, `Known keys: ${KEYS.join(", ")}.`);
  }
  const { model, input, tta = "none" } = body as Record<string, unknown>;
  if (model !== undefined && typeof model !== "string")
    throw bad(`model: got ${formatValue(model)}, expected the name of an adapter`);
  if (tta !== "none" && tta !== "swap") throw bad(`tta: got ${formatValue(tta)}, expected "none" or "swap"`);
  const rows = Array.isArray(input) ? (input as unknown[]) : [input];
  if (rows.length === 0) throw bad("input: got an empty list, expected a text or a comparison");
  if (rows.length > maxRows)
    throw new HttpError(413, "TOO_MANY_ROWS", `input: got ${rows.length} rows, expected at most ${maxRows}`);
  const several = Array.isArray(input);
  const items = rows.map((row, i) => parseRow(row, several ? `input[${i}]` : "input"));
  if (tta === "swap") {
    const text = items.findIndex((item) => typeof item === "string");
    if (text >= 0) throw bad(`tta: got "swap", but input[${text}] is a text, which has no answers to exchange`);
  }
  return { model, input: items, tta };
}

function parseRow(row: unknown, where: string): string | Comparison {
  if (typeof row === "string") return row.toWellFormed();
  const expected = `expected a string, or an object with ${FIELDS.join(", ")}`;
  if (typeof row !== "object" || row === null || Array.isArray(row))
    throw bad(`${where}: got ${formatValue(row)}, ${expected}`);
  const given = row as Record<string, unknown>;
  const unknown = Object.keys(given).find((key) => !(FIELDS as readonly string[]).includes(key));
  if (unknown !== undefined) throw bad(`${where}.${unknown}: unknown key${didYouMean(unknown, FIELDS)}, ${expected}`);
  const text = (key: (typeof FIELDS)[number]): string => {
    const value = given[key];
    if (typeof value === "string") return value.toWellFormed();
    throw bad(`${where}.${key}: got ${formatValue(value)}, expected a string`);
  };
  return { prompt: text("prompt"), response_a: text("response_a"), response_b: text("response_b") };
}

/** Rows as data files would give them. */
export function datasetOf(input: ClassifyRequest["input"]): Dataset {
  const rows = input.map((item, i): DataRow => {
    const base = { id: String(i), file: "request", line: i + 1, label: undefined };
    if (typeof item === "string") return { ...base, kind: "text", text: item };
    return {
      ...base,
      kind: "arena",
      prompt: item.prompt,
      responseA: item.response_a,
      responseB: item.response_b,
    };
  });
  return { files: ["request"], rows };
}

/** The body of an error, as OpenAI's and vLLM's servers write it. */
export function errorBody(status: number, error: unknown): object {
  const known = error instanceof QloraError ? error : undefined;
  // What is not ours to tell may hold paths and texts of others.
  const message = known === undefined ? "the server failed; its own log says why" : known.message;
  const hint = known?.hint;
  return {
    error: { message, ...(hint === undefined ? {} : { hint }), type: typeOf(status), code: known?.code ?? "INTERNAL" },
  };
}

function typeOf(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

/** @throws HttpError 404 naming the adapters */
export function chooseAdapter<T extends { readonly name: string }>(
  adapters: readonly T[],
  name: string | undefined,
): T {
  if (name === undefined) return adapters[0]!;
  const found = adapters.find((adapter) => adapter.name === name);
  if (found !== undefined) return found;
  const names = adapters.map((adapter) => adapter.name);
  throw new HttpError(404, "MODEL_UNKNOWN", `model: got ${JSON.stringify(name)}, expected ${names.join(" or ")}`);
}
