/** `qlora serve`: a trained adapter, or several on one base, over HTTP. */
import { timingSafeEqual } from "node:crypto";
import { ConfigError, QloraError } from "../../core/errors.ts";
import { defineOptions, option } from "../../core/options/options.ts";
import { defineRequest } from "../../core/options/request.ts";
import type { RunListener } from "../../runtime/events.ts";
import { requireBun } from "../../runtime/host.ts";
import { isLoopback, listen, NO_URL, requestUrl, respond, respondJson } from "../../runtime/http/local.ts";
import { type InferenceRequest, inferenceRequest } from "../../runtime/inference/adapter-run.ts";
import { resolveContext } from "../shipped.ts";
import { judged } from "./answer.ts";
import { Batcher, QUEUE_FULL } from "./batcher.ts";
import { type Judge, openJudge } from "./judge.ts";
import { openApi } from "./openapi.ts";
import { renderServePage } from "./page.ts";
import { ServerMetrics } from "./prometheus.ts";
import { chooseAdapter, datasetOf, errorBody, HttpError, parseClassify } from "./protocol.ts";

/** Options of `qlora serve`. */
export const serveOptions = defineOptions({
  host: option("string", { default: "127.0.0.1", help: "address to listen on; any but loopback needs an API key" }),
  port: option("0 <= number.integer <= 65535", { default: 8000, help: "port; 0 takes any that is free" }),
  maxRows: option("number.integer > 0", { default: 1024, help: "most rows of a request" }),
  maxBodyBytes: option("number.integer > 0", { default: 8 * 1024 * 1024, help: "most bytes of a request's body" }),
  maxQueueTokens: option("number.integer > 0", {
    default: 1 << 20,
    help: "most tokens that wait; further requests are answered with 429",
  }),
});

/** What is served, and how. */
export interface ServeRequest extends Omit<InferenceRequest, "files" | "task" | "labelColumns"> {
  /** Further adapters on the same base, by folder; requests name them by the folders' last parts. */
  readonly adapters?: readonly string[] | undefined;
  /** Address to listen on; default 127.0.0.1. Any but loopback needs `apiKey`. */
  readonly host?: string | undefined;
  /** Default 8000; 0 takes any that is free. */
  readonly port?: number | undefined;
  /** Bearer token that requests must bring. */
  readonly apiKey?: string | undefined;
  /** Most rows of a request; default 1024. */
  readonly maxRows?: number | undefined;
  /** Most bytes of a request's body; default 8 MiB. */
  readonly maxBodyBytes?: number | undefined;
  /** Most tokens that wait; further requests are answered with 429. Default 1,048,576. */
  readonly maxQueueTokens?: number | undefined;
}

/** A server that judges. */
export interface JudgeServer extends AsyncDisposable {
  readonly url: string;
  /** Names of the adapters. */
  readonly models: readonly string[];
  /** Answers what has arrived, refuses what comes after, and frees the GPU. */
  stop(): Promise<void>;
}

const { files: _, labelColumns: __, ...ofAdapter } = inferenceRequest;

const check = defineRequest<ServeRequest>("serve", {
  ...ofAdapter,
  adapters: "string[]?",
  host: "string?",
  port: `${serveOptions.shape.port.definition}?`,
  apiKey: "string?",
  maxRows: `${serveOptions.shape.maxRows.definition}?`,
  maxBodyBytes: `${serveOptions.shape.maxBodyBytes.definition}?`,
  maxQueueTokens: `${serveOptions.shape.maxQueueTokens.definition}?`,
});

/** Seconds that a client is asked to wait where the queue's pace is not known yet. */
const RETRY_SECONDS = 1;

/**
 * Serves a trained adapter over HTTP until it is stopped: `POST /classify` (vLLM's), `/score`, `/v1/models`, `/health`,
 * `/metrics`, `/openapi.json` and a page at `/`.
 * @throws ConfigError for an address others can reach without a key; QloraError PORT_UNAVAILABLE; what opening the adapter throws
 * @example
 * await using server = await serve({ run: "output", port: 0 });
 * const answer = await fetch(`${server.url}classify`, { method: "POST", body: JSON.stringify({ input: "a text" }) });
 */
export async function serve(
  request: ServeRequest,
  options: { readonly onEvent?: RunListener | undefined } = {},
): Promise<JudgeServer> {
  const { adapters = [], apiKey, ...asked } = check(request);
  requireBun("serve");
  const settings = serveOptions.parse(
    Object.fromEntries(
      Object.keys(serveOptions.shape).flatMap((key) => {
        const value = (asked as Record<string, unknown>)[key];
        return value === undefined ? [] : [[key, value]];
      }),
    ),
    "serve",
  );
  requireSafe(settings.host, apiKey);
  const judge = await openJudge(asked, adapters, resolveContext(), options.onEvent);
  try {
    return openServer(judge, { ...settings, apiKey }, options.onEvent);
  } catch (error) {
    await judge[Symbol.asyncDispose]();
    throw error;
  }
}

function requireSafe(host: string, apiKey: string | undefined): void {
  if (apiKey === "") throw new ConfigError("SERVE_KEY_EMPTY", "apiKey: got an empty text, expected a secret");
  if (apiKey !== undefined || isLoopback(host)) return;
  const message = `host: ${host} can be reached from other machines, and there is no API key`;
  throw new ConfigError("SERVE_KEY_MISSING", message, {
    hint: "Set QLORA_API_KEY (or apiKey), which clients then send as Authorization: Bearer; or listen on 127.0.0.1.",
  });
}

interface Settings {
  readonly host: string;
  readonly port: number;
  readonly maxRows: number;
  readonly maxBodyBytes: number;
  readonly maxQueueTokens: number;
  readonly apiKey: string | undefined;
}

function openServer(judge: Judge, settings: Settings, onEvent: RunListener | undefined): JudgeServer {
  const { apiKey } = settings;
  let stopping = false;
  let broken: unknown;
  const batcher: Batcher = new Batcher({
    limits: judge.limits,
    maxQueueTokens: settings.maxQueueTokens,
    run: (adapter, rows) => judge.run(adapter, rows),
    onBatch: (stats) => metrics.batch(stats),
  });
  const metrics = new ServerMetrics([
    { name: "qlora_queue_rows", help: "Rows that wait.", value: () => batcher.state.rows },
    { name: "qlora_queue_tokens", help: "Tokens that wait.", value: () => batcher.state.tokens },
    { name: "qlora_gpu_memory_bytes", help: "GPU memory in use.", value: () => judge.session.gpu.memory.report().used },
  ]);
  void judge.session.gpu.device.lost.then((info) => {
    broken = info;
  });

  const answer = async (request: Request, path: string): Promise<Response> => {
    if (path === "/health") return healthy();
    if (!authorized(request, apiKey, path)) {
      const error = new HttpError(401, "UNAUTHORIZED", "expected Authorization: Bearer with the server's key");
      return respondJson(errorBody(401, error), 401, { "www-authenticate": "Bearer" });
    }
    if (path === "/classify" || path === "/score") return judgeRequest(request, path);
    if (request.method !== "GET" && request.method !== "HEAD")
      throw new HttpError(405, "METHOD_UNKNOWN", `${path}: got ${request.method}, expected GET`);
    if (path === "/") return respond(renderServePage(judge, apiKey !== undefined), "text/html; charset=utf-8");
    if (path === "/openapi.json") return respondJson(openApi(apiKey !== undefined));
    if (path === "/v1/models") return respondJson(models(judge));
    if (path === "/metrics") return respond(metrics.text(), "text/plain; version=0.0.4; charset=utf-8");
    throw new HttpError(404, "PATH_UNKNOWN", `${path}: nothing here`, { hint: "See /openapi.json." });
  };

  const healthy = (): Response => {
    if (broken !== undefined) return respond("the GPU is lost\n", TEXT, 503);
    return stopping ? respond("stopping\n", TEXT, 503) : respond("ok\n", TEXT);
  };

  const judgeRequest = async (request: Request, path: "/classify" | "/score"): Promise<Response> => {
    if (request.method !== "POST")
      throw new HttpError(405, "METHOD_UNKNOWN", `${path}: got ${request.method}, expected POST`);
    if (stopping) throw new HttpError(503, "STOPPING", "the server is stopping");
    requireHead(judge, path);
    const asked = parseClassify(await readJson(request), settings.maxRows);
    const adapter = chooseAdapter(judge.adapters, asked.model);
    const dataset = datasetOf(asked.input);
    if (path === "/score" && asked.tta === "swap")
      throw new HttpError(400, "BAD_REQUEST", 'tta: got "swap", which is of probabilities');
    const result = await judged(judge, batcher, { adapter, dataset, asked, signal: request.signal });
    const created = Math.floor(Date.now() / 1000);
    const head = { id: `${path.slice(1)}-${crypto.randomUUID()}`, object: "list", created, model: adapter.name };
    const data = path === "/classify" ? result.items : result.scores;
    return respondJson({ ...head, data, usage: result.usage });
  };

  const handle = async (request: Request): Promise<Response> => {
    const from = performance.now();
    const path = pathOf(request, settings.host);
    try {
      if (path instanceof HttpError) throw path;
      const response = await answer(request, path);
      metrics.request(KNOWN.has(path) ? path : "other", response.status, (performance.now() - from) / 1000);
      return response;
    } catch (error) {
      const status = statusOf(error);
      if (status >= 500 && status !== 503) onEvent?.({ type: "warning", message: told(error) });
      const known = typeof path === "string" && KNOWN.has(path);
      metrics.request(known ? path : "other", status, (performance.now() - from) / 1000);
      const retry: Record<string, string> = status === 429 ? { "retry-after": String(RETRY_SECONDS) } : {};
      return respondJson(errorBody(status, error), status, retry);
    }
  };

  const server = listen(settings.port, handle, {
    hostname: settings.host,
    maxRequestBodySize: settings.maxBodyBytes,
    error: (error) => respondJson(errorBody(500, error), 500),
  });
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> =>
    (stopped ??= (async () => {
      stopping = true;
      // Bun lets what it has begun to answer end, and closes connections that are idle.
      await Promise.all([server.stop(), batcher.idle()]);
      await judge[Symbol.asyncDispose]();
    })());
  const host = settings.host.includes(":") && !settings.host.startsWith("[") ? `[${settings.host}]` : settings.host;
  return {
    url: `http://${host}:${server.port}/`,
    models: judge.adapters.map(({ name }) => name),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

const KNOWN = new Set(["/", "/classify", "/score", "/health", "/metrics", "/openapi.json", "/v1/models"]);

const TEXT = "text/plain; charset=utf-8";

/** The path, once the request is one that this server is meant for. */
function pathOf(request: Request, host: string): string | HttpError {
  const url = requestUrl(request);
  if (url === undefined) return new HttpError(400, "BAD_REQUEST", NO_URL);
  const { hostname, pathname } = url;
  // On loopback any other name is a page of somebody else's that resolves to this machine.
  if (isLoopback(host) && !isLoopback(hostname))
    return new HttpError(403, "HOST_UNKNOWN", `${hostname} is not this machine`);
  // Pages of other sites may send requests whose answers they cannot read; they would still cost the GPU's time.
  const origin = request.headers.get("origin");
  if (origin !== null && (!URL.canParse(origin) || new URL(origin).host !== url.host))
    return new HttpError(403, "ORIGIN_UNKNOWN", `${origin}: requests from pages of other sites are not answered`);
  return pathname;
}

/** The page itself holds no secret: it asks its reader for the key. */
function authorized(request: Request, apiKey: string | undefined, path: string): boolean {
  if (apiKey === undefined || path === "/") return true;
  const [scheme, token = ""] = (request.headers.get("authorization") ?? "").split(/\s+/, 2);
  const [got, want] = [Buffer.from(token), Buffer.from(apiKey)];
  return scheme?.toLowerCase() === "bearer" && got.length === want.length && timingSafeEqual(got, want);
}

function requireHead({ numLabels }: Judge, path: "/classify" | "/score"): void {
  if ((numLabels === 1) === (path === "/score")) return;
  const other = path === "/score" ? "/classify" : "/score";
  const message = `${path}: this adapter has ${numLabels === 1 ? "one logit" : `${numLabels} classes`}`;
  throw new HttpError(400, "HEAD_UNFIT", message, { hint: `Ask ${other}.` });
}

async function readJson(request: Request): Promise<unknown> {
  try {
    return await request.json();
  } catch (cause) {
    if (request.signal.aborted) throw new QloraError("INTERRUPTED", "the client has gone", { cause });
    throw new HttpError(400, "BAD_REQUEST", `the body is no JSON (${(cause as Error).message})`, { cause });
  }
}

const models = ({ adapters, baseModel, maxLength }: Judge): object => ({
  object: "list",
  data: adapters.map(({ name }) => ({
    id: name,
    object: "model",
    created: STARTED,
    owned_by: "qlora",
    root: baseModel,
    max_model_len: maxLength,
  })),
});

const STARTED = Math.floor(Date.now() / 1000);

function statusOf(error: unknown): number {
  if (error instanceof HttpError) return error.status;
  if (error instanceof QloraError && error.code === QUEUE_FULL) return 429;
  // Nobody reads it; nginx' number for it.
  if (error instanceof QloraError && error.code === "INTERRUPTED") return 499;
  return 500;
}

const told = (error: unknown): string => (error instanceof Error ? error.message : String(error));
