import { defineOptions, defineReporter, isObject, option, PluginError, type ReporterRequest } from "qlora/core";

const options = defineOptions(
  {
    trackingUri: option("string", { optional: true, help: "server, http or https (default: MLFLOW_TRACKING_URI)" }),
    experiment: option("string", {
      optional: true,
      help: "experiment, made where there is none (default: MLFLOW_EXPERIMENT_NAME, else Default)",
    }),
    logModel: option("boolean", { default: false, help: "upload the trained adapter's files too, beside report.html" }),
  },
  ({ trackingUri = "" }) =>
    /^\w+:\/\/[^/]*@/.test(trackingUri)
      ? ["trackingUri: got an address with a user or a password, expected one without: it stands in run.json"]
      : [],
);

/** What a server takes at once. Source: mlflow/utils/validation.py. */
const MAX_METRICS = 1000;
const MAX_PARAMS = 100;
const MAX_PARAM_VALUE = 6000;

const STATUS = { finished: "FINISHED", interrupted: "KILLED", failed: "FAILED" } as const;

/**
 * An MLflow server, by its REST interface: the config as parameters, the log's numbers as metrics under transformers' names, and
 * report.html as an artifact where the server takes artifacts itself (`mlflow server --serve-artifacts`, the default). Keys are
 * MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
 * @example reportTo: [mlflow({ trackingUri: "http://127.0.0.1:5000", experiment: "lmsys" })]
 */
export const mlflow = defineReporter({
  name: "mlflow",
  options,
  create(given, { request, env, secret, now }) {
    let run: { readonly id: string; readonly artifacts: string } | undefined;

    const server = (): string => {
      const uri = given.trackingUri ?? env("MLFLOW_TRACKING_URI");
      if (uri !== undefined && /^https?:\/\/[^/]*@/.test(uri)) {
        throw new PluginError(
          "REPORTER_SERVER",
          "reporter mlflow: MLFLOW_TRACKING_URI: got an address with a user or a password, expected one without",
          { hint: "Give them as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD." },
        );
      }
      if (uri !== undefined && /^https?:\/\//.test(uri)) return uri.replace(/\/+$/, "");
      throw new PluginError(
        "REPORTER_SERVER",
        `reporter mlflow: MLFLOW_TRACKING_URI: got ${uri === undefined ? "nothing" : JSON.stringify(uri)}, expected the address of a server`,
        { hint: "Start one with mlflow server, and give http://127.0.0.1:5000, say." },
      );
    };
    const authorization = (): Readonly<Record<string, string>> => {
      const token = secret("MLFLOW_TRACKING_TOKEN");
      if (token !== undefined) return { authorization: `Bearer ${token}` };
      const [user, password] = [env("MLFLOW_TRACKING_USERNAME"), secret("MLFLOW_TRACKING_PASSWORD")];
      return user === undefined || password === undefined
        ? {}
        : { authorization: `Basic ${btoa(`${user}:${password}`)}` };
    };
    const ask = async (
      path: string,
      rest: ReporterRequest,
    ): Promise<{ status: number; json: Readonly<Record<string, unknown>> }> => {
      const answer = await request(`${server()}/api/2.0/${path}`, { headers: authorization(), ...rest });
      const json = answer.text === "" ? {} : answer.json();
      return { status: answer.status, json: isObject(json) ? json : {} };
    };
    const post = async (path: string, json: object): Promise<Readonly<Record<string, unknown>>> =>
      (await ask(`mlflow/${path}`, { json })).json;
    const experimentId = async (): Promise<string> => {
      const name = given.experiment ?? env("MLFLOW_EXPERIMENT_NAME") ?? "Default";
      const path = `mlflow/experiments/get-by-name?experiment_name=${encodeURIComponent(name)}`;
      const found = await ask(path, { expect: [404] });
      if (found.status !== 404) return text(part(found.json, "experiment"), "experiment_id");
      return text(await post("experiments/create", { name }), "experiment_id");
    };
    const started = (): { readonly id: string; readonly artifacts: string } => {
      if (run !== undefined) return run;
      throw new PluginError("REPORTER_NOT_STARTED", "reporter mlflow: got an entry before start");
    };

    return {
      async start({ name, config, before }) {
        if (typeof before?.["id"] === "string" && typeof before["artifacts"] === "string") {
          run = { id: before["id"], artifacts: before["artifacts"] };
          await post("runs/update", { run_id: run.id, status: "RUNNING" });
          return run;
        }
        const made = await post("runs/create", {
          experiment_id: await experimentId(),
          run_name: name,
          start_time: milliseconds(now()),
        });
        const info = part(part(made, "run"), "info");
        run = { id: text(info, "run_id"), artifacts: text(info, "artifact_uri") };
        const params = parameters(config);
        for (let at = 0; at < params.length; at += MAX_PARAMS)
          await post("runs/log-batch", { run_id: run.id, params: params.slice(at, at + MAX_PARAMS) });
        return run;
      },
      async log(entries) {
        const timestamp = milliseconds(now());
        const metrics = entries.flatMap(({ step, ...values }) =>
          Object.entries(values).map(([key, value]) => ({ key, value, timestamp, step })),
        );
        for (let at = 0; at < metrics.length; at += MAX_METRICS)
          await post("runs/log-batch", { run_id: started().id, metrics: metrics.slice(at, at + MAX_METRICS) });
      },
      async artefact(file) {
        if (file.type !== "report" && !given.logModel) return;
        const { artifacts } = started();
        // Any other store (s3://, a path) is the client's to write, with keys of its own.
        const folder = /^mlflow-artifacts:(?:\/\/[^/]*)?\/(.*)$/.exec(artifacts)?.[1];
        if (folder === undefined) return;
        const path = [...folder.split("/"), file.name]
          .filter((word) => word !== "")
          .map(encodeURIComponent)
          .join("/");
        await ask(`mlflow-artifacts/artifacts/${path}`, { method: "PUT", body: await file.read() });
      },
      async finish(status) {
        await post("runs/update", { run_id: started().id, status: STATUS[status], end_time: milliseconds(now()) });
      },
    };
  },
});

const milliseconds = (seconds: number): number => Math.round(seconds * 1000);

/** A config's values by their paths; of one that is longer than a server takes, its beginning. */
function parameters(config: Readonly<Record<string, unknown>>, prefix = ""): { key: string; value: string }[] {
  return Object.entries(config).flatMap(([name, value]) => {
    const key = `${prefix}${name}`;
    if (isObject(value)) return parameters(value, `${key}.`);
    if (value === undefined) return [];
    const shown = typeof value === "string" ? value : JSON.stringify(value);
    return [{ key, value: shown.slice(0, MAX_PARAM_VALUE) }];
  });
}

function part(json: Readonly<Record<string, unknown>>, key: string): Readonly<Record<string, unknown>> {
  const value = json[key];
  return isObject(value) ? value : {};
}

function text(json: Readonly<Record<string, unknown>>, key: string): string {
  const value = json[key];
  if (typeof value === "string") return value;
  throw new PluginError("REPORTER_ANSWER", `reporter mlflow: got an answer without ${key}, expected MLflow's`);
}
