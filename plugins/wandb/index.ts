import {
  defineOptions,
  defineReporter,
  isObject,
  option,
  PluginError,
  type ReporterFile,
  rewriteLogs,
} from "qlora/core";
import { CREATE_RUN_FILES, UPSERT_BUCKET } from "./queries.ts";

const options = defineOptions(
  {
    project: option("string", {
      optional: true,
      help: "project (default: WANDB_PROJECT, else huggingface, as transformers has it)",
    }),
    entity: option("string", { optional: true, help: "user or team (default: WANDB_ENTITY, else that of the key)" }),
    group: option("string", { optional: true, help: "group of the run (default: WANDB_RUN_GROUP)" }),
    tags: option("string[]", { default: [], help: "tags of the run" }),
    baseUrl: option("string", { optional: true, help: "server (default: WANDB_BASE_URL, else https://api.wandb.ai)" }),
    logModel: option("boolean", { default: false, help: "upload the trained adapter's files too, beside report.html" }),
  },
  ({ baseUrl = "" }) =>
    /^\w+:\/\/[^/]*@/.test(baseUrl)
      ? ["baseUrl: got an address with a user or a password, expected one without: it stands in run.json"]
      : [],
);

/** The run on the server. */
interface Place {
  readonly id: string;
  readonly entity: string;
  readonly project: string;
}

/**
 * Weights & Biases, by the HTTP interface of its own client: the run with its config, its curves under transformers' tags, and
 * report.html among its files. The key is WANDB_API_KEY of the environment; WANDB_MODE=offline sends nothing until `qlora sync`.
 * @example reportTo: [wandb({ project: "lmsys" })]
 */
export const wandb = defineReporter({
  name: "wandb",
  options,
  create(given, { request, env, secret, now }) {
    const server = (given.baseUrl ?? env("WANDB_BASE_URL") ?? "https://api.wandb.ai").replace(/\/+$/, "");
    let place: Place | undefined;
    let startedAt = now();

    /** Sent with every request; W&B takes the key as the password of the user "api". */
    const authorization = (): Readonly<Record<string, string>> => {
      const key = secret("WANDB_API_KEY");
      if (key === undefined) {
        throw new PluginError("REPORTER_KEY_MISSING", "reporter wandb: WANDB_API_KEY is not set", {
          hint: "Set it to the key that wandb.ai/authorize shows.",
        });
      }
      return { authorization: `Basic ${btoa(`api:${key}`)}` };
    };
    const ask = async (query: string, variables: object): Promise<Readonly<Record<string, unknown>>> => {
      const answer = await request(`${server}/graphql`, { headers: authorization(), json: { query, variables } });
      const json = answer.json();
      const { data, errors } = isObject(json) ? json : {};
      if (isObject(data) && (!Array.isArray(errors) || errors.length === 0)) return data;
      throw refused(Array.isArray(errors) ? (errors as readonly unknown[]) : []);
    };
    const stream = async (content: object): Promise<void> => {
      const { entity, project, id } = placed(place);
      const path = [entity, project, id].map(encodeURIComponent).join("/");
      await request(`${server}/files/${path}/file_stream`, { headers: authorization(), json: content });
    };
    const upload = async (file: ReporterFile): Promise<void> => {
      const { entity, project, id } = placed(place);
      const made = await ask(CREATE_RUN_FILES, { entity, project, run: id, files: [file.name] });
      const { url, headers } = uploadOf(made["createRunFiles"], file.name);
      // The address is signed for this file, so the key stays here.
      const at = url.startsWith("/") ? `${server}${url}` : url;
      await request(at, { method: "PUT", headers, body: await file.read() });
      await stream({ complete: false, failed: false, dropped: 0, uploaded: [file.name] });
    };

    return {
      async start({ name, config, before }) {
        if (env("WANDB_MODE") === "offline")
          throw new PluginError("REPORTER_OFFLINE", "reporter wandb: WANDB_MODE is offline");
        const id = typeof before?.["id"] === "string" ? before["id"] : runId();
        startedAt = typeof before?.["startedAt"] === "number" ? before["startedAt"] : now();
        const data = await ask(UPSERT_BUCKET, {
          name: id,
          displayName: name,
          project: given.project ?? env("WANDB_PROJECT") ?? "huggingface",
          entity: given.entity ?? env("WANDB_ENTITY"),
          groupName: given.group ?? env("WANDB_RUN_GROUP"),
          tags: given.tags,
          config: JSON.stringify(Object.fromEntries(Object.entries(config).map(([key, value]) => [key, { value }]))),
        });
        place = placeOf(data["upsertBucket"]);
        return { ...place, startedAt };
      },
      async log(entries, at) {
        const rows = entries.map((entry, i) => ({
          ...rewriteLogs(entry),
          "train/global_step": entry.step,
          _step: at + i,
          _timestamp: now(),
          _runtime: now() - startedAt,
        }));
        await stream({
          files: {
            "wandb-history.jsonl": { offset: at, content: rows.map(line) },
            "wandb-summary.json": { offset: 0, content: [line(Object.assign({}, ...rows) as object)] },
          },
          dropped: 0,
        });
      },
      async artefact(file) {
        if (file.type === "report" || given.logModel) await upload(file);
      },
      finish: (status) => stream({ complete: true, exitcode: status === "finished" ? 0 : 1, dropped: 0, uploaded: [] }),
    };
  },
});

/** A line of a file that W&B streams, with its client's words for what JSON has no number for. */
const line = (row: object): string =>
  JSON.stringify(row, (_, value: unknown) =>
    typeof value === "number" && !Number.isFinite(value) ? String(value) : value,
  );

/** Eight letters and digits, as W&B's client makes them. */
const runId = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => (byte % 36).toString(36)).join("");

function placed(place: Place | undefined): Place {
  if (place !== undefined) return place;
  throw new PluginError("REPORTER_NOT_STARTED", "reporter wandb: got an entry before start");
}

function refused(errors: readonly unknown[]): PluginError {
  const messages = errors.flatMap((error) => (isObject(error) ? [String(error["message"])] : []));
  return new PluginError(
    "REPORTER_REFUSED",
    `reporter wandb: the server refused: ${messages.join("; ") || "no data in its answer"}`,
    { hint: "Check WANDB_API_KEY, the entity and the project." },
  );
}

function placeOf(upserted: unknown): Place {
  const { bucket } = isObject(upserted) ? upserted : {};
  const { name, project } = isObject(bucket) ? bucket : {};
  const { name: projectName, entity } = isObject(project) ? project : {};
  const { name: entityName } = isObject(entity) ? entity : {};
  if (typeof name === "string" && typeof projectName === "string" && typeof entityName === "string")
    return { id: name, project: projectName, entity: entityName };
  throw new PluginError(
    "REPORTER_ANSWER",
    "reporter wandb: got an answer without the run's name, project and entity, expected W&B's upsertBucket",
  );
}

/** Where a file goes, and the headers that its address was signed with. */
function uploadOf(made: unknown, name: string): { readonly url: string; readonly headers: Record<string, string> } {
  const { files, uploadHeaders } = isObject(made) ? made : {};
  const found = (Array.isArray(files) ? (files as readonly unknown[]) : []).find(
    (file) => isObject(file) && file["name"] === name,
  );
  const url = isObject(found) ? found["uploadUrl"] : undefined;
  if (typeof url !== "string")
    throw new PluginError("REPORTER_ANSWER", `reporter wandb: got no address for ${name}, expected one`);
  const lines = Array.isArray(uploadHeaders) ? uploadHeaders.filter((header) => typeof header === "string") : [];
  const headers = lines.map((header) => {
    const colon = header.indexOf(":");
    return [header.slice(0, colon).trim(), header.slice(colon + 1).trim()] as const;
  });
  return { url, headers: Object.fromEntries(headers) };
}
