/** W&B, MLflow and Trackio, against servers that stand in for theirs: what is sent where, in which form. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ReporterPlugin } from "../../core/plugin/reporter.ts";
import { mlflow, trackio, wandb } from "../../plugins/index.ts";
import type { RunEvent } from "../../runtime/events.ts";
import type { LogEntry } from "../../runtime/folder/trainer-state.ts";
import { openReporting } from "../../runtime/reporting/index.ts";
import { reporterContract } from "../../testing/reporter.ts";
import { temporaryFolder } from "../support/run.ts";
import { type Answer, type Seen, type StandInServer, startServer } from "./server.ts";

const KEY = "s3cret/key+with=marks";
const ENTRIES: readonly LogEntry[] = [
  { step: 10, epoch: 0.5, loss: 1.25, grad_norm: Number.NaN },
  { step: 10, epoch: 0.5, eval_loss: 1.125 },
  { step: 20, epoch: 1, train_loss: 1.1 },
];
const config = {
  model: { name: "gemma2", options: { checkpoint: "gemma" } },
  training: { learningRate: 1e-4, seed: 42 },
};

let server: StandInServer;
let answer: (seen: Seen) => Answer = () => ({});
beforeEach(async () => {
  answer = () => ({});
  server = await startServer((seen) => answer(seen));
});
afterEach(() => server[Symbol.asyncDispose]());

interface Reported {
  readonly warnings: string[];
  readonly lacking: readonly string[];
}

/** A run of ENTRIES, in one start. */
async function report(
  folder: string,
  plugin: ReporterPlugin,
  env: Readonly<Record<string, string>>,
  entries: readonly LogEntry[] = ENTRIES,
): Promise<Reported> {
  const events: RunEvent[] = [];
  const log: LogEntry[] = [];
  await writeFile(join(folder, "report.html"), "<html>curves</html>");
  const reporting = await openReporting({
    plugins: [plugin],
    outputDir: folder,
    runName: "my-run",
    loggingDir: undefined,
    config,
    entries: log,
    firstStep: 1,
    onEvent: (event) => events.push(event),
    onFailure: () => "",
    patience: { timeout: 5000, retryDelay: 1 },
    cooldown: 0,
    env,
  });
  for (const entry of entries) {
    log.push(entry);
    reporting.wake();
  }
  const lacking = await reporting.conclude("finished");
  return { warnings: events.flatMap((event) => (event.type === "warning" ? [event.message] : [])), lacking };
}

const bodies = (path: string): Seen["json"][] =>
  server.seen.filter((seen) => seen.path.endsWith(path)).map(({ json }) => json);

describe("wandb", () => {
  const env = (): Record<string, string> => ({ WANDB_API_KEY: KEY, WANDB_BASE_URL: server.url, WANDB_ENTITY: "me" });
  const graphql = ({ path, json, method }: Seen): Answer => {
    if (method === "PUT") return {};
    if (!path.endsWith("/graphql")) return {};
    const { name, project, entity, files } = json["variables"] as Record<string, unknown>;
    if (String(json["query"]).includes("upsertBucket")) {
      const bucket = { id: "UnVuOg==", name, displayName: "x", project: { name: project, entity: { name: entity } } };
      return { json: { data: { upsertBucket: { bucket, inserted: true } } } };
    }
    const made = (files as string[]).map((file) => ({ name: file, uploadUrl: `${server.url}/signed/${file}?sig=abc` }));
    return { json: { data: { createRunFiles: { runID: "x", uploadHeaders: ["x-amz: 1"], files: made } } } };
  };

  test("makes the run, streams each entry as a line at its offset, and uploads the report", async () => {
    await using folder = await temporaryFolder();
    answer = graphql;
    expect(await report(folder.path, wandb({ project: "lmsys", tags: ["fold-0"] }), env())).toEqual({
      warnings: [],
      lacking: [],
    });
    const [upsert] = bodies("/graphql");
    const variables = upsert!["variables"] as Record<string, unknown>;
    expect(variables).toMatchObject({ displayName: "my-run", project: "lmsys", entity: "me", tags: ["fold-0"] });
    expect(variables["name"]).toMatch(/^[0-9a-z]{8}$/);
    expect(JSON.parse(String(variables["config"]))).toEqual({
      model: { value: config.model },
      training: { value: config.training },
    });
    const streamed = server.seen.filter(
      ({ path }) => path === `/files/me/lmsys/${String(variables["name"])}/file_stream`,
    );
    const files = streamed.flatMap(({ json }) =>
      json["files"] === undefined ? [] : [json["files"] as Record<string, { offset: number; content: string[] }>],
    );
    const lines: unknown[] = [];
    for (const { "wandb-history.jsonl": history } of files) {
      expect(history!.offset).toBe(lines.length);
      lines.push(...history!.content.map((line) => JSON.parse(line) as unknown));
    }
    expect(lines).toMatchObject([
      { _step: 0, "train/loss": 1.25, "train/grad_norm": "NaN", "train/epoch": 0.5, "train/global_step": 10 },
      { _step: 1, "eval/loss": 1.125, "train/global_step": 10 },
      { _step: 2, "train/train_loss": 1.1, "train/global_step": 20 },
    ]);
    expect(streamed.at(-1)!.json).toEqual({ complete: true, exitcode: 0, dropped: 0, uploaded: [] });
    for (const { headers, method } of server.seen)
      expect(headers.authorization).toBe(method === "PUT" ? undefined : `Basic ${btoa(`api:${KEY}`)}`);
    const put = server.seen.find(({ method }) => method === "PUT")!;
    expect([put.path, put.body.toString(), put.headers["x-amz"]]).toEqual([
      "/signed/report.html?sig=abc",
      "<html>curves</html>",
      "1",
    ]);
  });

  test("keeps its contract", async () => {
    const stand = (_url: string, request: { readonly json?: unknown; readonly method?: string }): { json: unknown } => {
      const { json = {} } = graphql({
        path: "/graphql",
        json: (request.json ?? { variables: {} }) as Seen["json"],
        method: "POST",
        headers: {},
        body: Buffer.alloc(0),
      });
      return { json };
    };
    const answered = (url: string, request: { readonly json?: unknown }): { json?: unknown } =>
      url.endsWith("/graphql") ? stand(url, request) : {};
    for (const { run } of reporterContract(wandb(), { env: { WANDB_ENTITY: "me" }, answer: answered })) await run();
  });

  test("without a key, the run goes on and is told once", async () => {
    await using folder = await temporaryFolder();
    const { WANDB_API_KEY: _, ...rest } = env();
    const { warnings, lacking } = await report(folder.path, wandb(), rest);
    expect(warnings).toEqual([
      "reporter wandb: WANDB_API_KEY is not set. Set it to the key that wandb.ai/authorize shows",
    ]);
    expect(lacking).toEqual(["wandb"]);
    expect(server.seen).toEqual([]);
  });

  test("what the server refuses is told without the key, even where the server repeats it", async () => {
    await using folder = await temporaryFolder();
    answer = ({ headers }) => ({ status: 401, text: `no such key ${KEY}, as ${String(headers.authorization)}` });
    const { warnings } = await report(folder.path, wandb(), env());
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain("answered 401 to POST /graphql: no such key ***");
    expect(warnings[0]).not.toContain(KEY);
    expect(warnings[0]).not.toContain(btoa(`api:${KEY}`));
  });

  test("a server that comes back gets each entry once, and the run under the same name", async () => {
    await using folder = await temporaryFolder();
    answer = () => ({ drop: true });
    expect((await report(folder.path, wandb({ project: "p" }), env())).lacking).toEqual(["wandb"]);
    server.seen.length = 0;
    answer = graphql;
    expect(await report(folder.path, wandb({ project: "p" }), env())).toEqual({ warnings: [], lacking: [] });
    const lines = bodies("/file_stream").flatMap(({ files }) =>
      files === undefined ? [] : (files as Record<string, { content: string[] }>)["wandb-history.jsonl"]!.content,
    );
    expect(lines).toHaveLength(3);
  });

  test("a .env file of the folder does not say where a key of the environment goes", async () => {
    const { reporterContext } = await import("../../runtime/reporting/context.ts");
    const dotEnv = new Map([["WANDB_BASE_URL", ".env"]]);
    const { context } = reporterContext({ name: "wandb", folder: ".", env: env(), dotEnv });
    expect(() => context.secret("WANDB_API_KEY")).toThrow(
      "WANDB_BASE_URL comes from .env of this folder, so WANDB_API_KEY is not sent there",
    );
  });

  test("a redirect is refused: the key goes to the address given alone", async () => {
    await using folder = await temporaryFolder();
    answer = () => ({ status: 302, headers: { location: "http://elsewhere.example/graphql" } });
    const { warnings } = await report(folder.path, wandb(), env());
    expect(warnings[0]).toContain("redirects POST /graphql to http://elsewhere.example, where no key is sent");
  });
});

describe("mlflow", () => {
  const rest = ({ path }: Seen): Answer => {
    if (path.includes("get-by-name")) return { status: 404, json: { error_code: "RESOURCE_DOES_NOT_EXIST" } };
    if (path.endsWith("experiments/create")) return { json: { experiment_id: "7" } };
    if (path.endsWith("runs/create"))
      return { json: { run: { info: { run_id: "r1", artifact_uri: "mlflow-artifacts:/7/r1/artifacts" } } } };
    return {};
  };
  const env = (): Record<string, string> => ({ MLFLOW_TRACKING_URI: server.url, MLFLOW_TRACKING_TOKEN: KEY });

  test("makes the experiment and the run, logs parameters and metrics, uploads the report, ends the run", async () => {
    await using folder = await temporaryFolder();
    answer = rest;
    expect(await report(folder.path, mlflow({ experiment: "lm sys" }), env())).toEqual({ warnings: [], lacking: [] });
    const asked = server.seen.map(({ method, path }) => `${method} ${path}`);
    expect(asked.slice(0, 4)).toEqual([
      "GET /api/2.0/mlflow/experiments/get-by-name?experiment_name=lm%20sys",
      "POST /api/2.0/mlflow/experiments/create",
      "POST /api/2.0/mlflow/runs/create",
      "POST /api/2.0/mlflow/runs/log-batch",
    ]);
    expect(bodies("runs/create")[0]).toMatchObject({ experiment_id: "7", run_name: "my-run" });
    const batches = bodies("runs/log-batch");
    expect(batches[0]).toEqual({
      run_id: "r1",
      params: [
        { key: "model.name", value: "gemma2" },
        { key: "model.options.checkpoint", value: "gemma" },
        { key: "training.learningRate", value: "0.0001" },
        { key: "training.seed", value: "42" },
      ],
    });
    const metrics = batches.flatMap(
      ({ metrics: some = [] }) => some as { key: string; value: unknown; step: number; timestamp: number }[],
    );
    expect(metrics.map(({ key, value, step }) => [key, value, step])).toEqual([
      ["epoch", 0.5, 10],
      ["loss", 1.25, 10],
      ["grad_norm", "NaN", 10],
      ["epoch", 0.5, 10],
      ["eval_loss", 1.125, 10],
      ["epoch", 1, 20],
      ["train_loss", 1.1, 20],
    ]);
    expect(metrics[0]!.timestamp).toBeGreaterThan(1.6e12);
    const put = server.seen.find(({ method }) => method === "PUT")!;
    expect([put.path, put.body.toString()]).toEqual([
      "/api/2.0/mlflow-artifacts/artifacts/7/r1/artifacts/report.html",
      "<html>curves</html>",
    ]);
    expect(bodies("runs/update").at(-1)).toMatchObject({ run_id: "r1", status: "FINISHED" });
    for (const { headers } of server.seen) expect(headers.authorization).toBe(`Bearer ${KEY}`);
  });

  test("keeps its contract", async () => {
    const contract = reporterContract(mlflow(), {
      env: { MLFLOW_TRACKING_URI: "http://127.0.0.1:1" },
      answer: (url) => rest({ path: url, method: "", headers: {}, json: {}, body: Buffer.alloc(0) }),
    });
    for (const { run } of contract) await run();
  });

  test("an address with a password is refused, and not printed", async () => {
    await using folder = await temporaryFolder();
    expect(() => mlflow({ trackingUri: "http://me:pa55@host" })).toThrow("got an address with a user or a password");
    const { warnings } = await report(folder.path, mlflow(), { MLFLOW_TRACKING_URI: "http://me:pa55@127.0.0.1:9" });
    expect(warnings[0]).toContain("MLFLOW_TRACKING_URI: got an address with a user or a password");
    expect(warnings[0]).not.toContain("pa55");
  });
});

describe("trackio", () => {
  const api = ({ path }: Seen): Answer =>
    path === "/version" ? { json: { api_version: 1 } } : { json: { data: null } };
  const env = (): Record<string, string> => ({
    TRACKIO_SERVER_URL: server.url,
    TRACKIO_WRITE_TOKEN: KEY,
    HF_TOKEN: "hf_mine",
  });

  test("logs in bulk, each entry with an id, and sends the hub's token to no other server", async () => {
    await using folder = await temporaryFolder();
    answer = api;
    expect(await report(folder.path, trackio({ project: "lmsys" }), env())).toEqual({ warnings: [], lacking: [] });
    const logs = bodies("/api/bulk_log").flatMap(({ kwargs }) => (kwargs as { logs: Record<string, unknown>[] }).logs);
    expect(logs.map(({ project, step, metrics }) => [project, step, metrics])).toEqual([
      ["lmsys", 10, { "train/epoch": 0.5, "train/loss": 1.25, "train/grad_norm": "NaN" }],
      ["lmsys", 10, { "train/epoch": 0.5, "eval/loss": 1.125 }],
      ["lmsys", 20, { "train/epoch": 1, "train/train_loss": 1.1 }],
    ]);
    expect(logs[0]!["config"]).toEqual(config);
    expect(new Set(logs.map(({ run }) => run)).size).toBe(1);
    expect(String(logs[0]!["run"])).toMatch(/^my-run-[0-9a-f]{8}$/);
    expect(new Set(logs.map(({ log_id: id }) => id)).size).toBe(3);
    const sent = server.seen.map(({ headers, body }) => JSON.stringify(headers) + body.toString());
    expect(sent.some((text) => text.includes("hf_mine"))).toBe(false);
    expect(server.seen.at(-1)!.headers["x-trackio-write-token"]).toBe(KEY);
  });

  test("keeps its contract", async () => {
    const contract = reporterContract(trackio(), {
      env: { TRACKIO_SPACE_ID: "me/my_space" },
      answer: (url) => {
        expect(url).toStartWith("https://me-my-space.hf.space/");
        return url.endsWith("/version") ? { json: { api_version: 1 } } : { json: { data: null } };
      },
    });
    for (const { run } of contract) await run();
  });

  test("another version of the interface is told", async () => {
    await using folder = await temporaryFolder();
    answer = () => ({ json: { api_version: 2 } });
    const { warnings } = await report(folder.path, trackio(), env());
    expect(warnings[0]).toContain("api_version: got 2 from the server, expected 1");
  });
});
