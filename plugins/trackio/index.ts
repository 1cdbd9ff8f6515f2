import { defineOptions, defineReporter, isObject, option, PluginError, rewriteLogs } from "qlora/core";

const options = defineOptions(
  {
    server: option("string", {
      optional: true,
      help: "dashboard: a Space as user/name, or an address (default: TRACKIO_SERVER_URL, else TRACKIO_SPACE_ID)",
    }),
    project: option("string", { optional: true, help: "project (default: TRACKIO_PROJECT, else huggingface)" }),
  },
  ({ server = "" }) =>
    /^\w+:\/\/[^/]*@/.test(server)
      ? ["server: got an address with a user or a password, expected one without: it stands in run.json"]
      : [],
);

/**
 * A Trackio dashboard, a Space of the hub or a server of one's own, by its HTTP interface (`/api/bulk_log`, version 1 of it). HF_TOKEN goes to
 * Spaces (*.hf.space) alone, TRACKIO_WRITE_TOKEN to the server. Files are not sent: they are read from the hub there.
 * @example reportTo: [trackio({ server: "me/trackio", project: "lmsys" })]
 */
export const trackio = defineReporter({
  name: "trackio",
  options,
  create(given, { request, env, secret, now }) {
    let [name, config] = ["", {}];
    let sent = 0;
    const project = given.project ?? env("TRACKIO_PROJECT") ?? "huggingface";
    const server = (): string => {
      const spec = given.server ?? env("TRACKIO_SERVER_URL") ?? env("TRACKIO_SPACE_ID");
      if (spec !== undefined && /^https?:\/\//.test(spec)) return spec.replace(/\/+$/, "");
      const [user, space, ...more] = spec?.split("/") ?? [];
      if (user && space && more.length === 0)
        return `https://${`${user}-${space}`.toLowerCase().replaceAll(/[_.]/g, "-")}.hf.space`;
      throw new PluginError(
        "REPORTER_SERVER",
        `reporter trackio: server: got ${spec === undefined ? "nothing" : JSON.stringify(spec)}, expected a Space as user/name, or an address`,
        { hint: "Set TRACKIO_SPACE_ID, or TRACKIO_SERVER_URL for a server of your own." },
      );
    };
    const ask = async (api: string, kwargs: object): Promise<void> => {
      const url = server();
      const token = /^https:\/\/[^/]+\.hf\.space$/.test(url) ? secret("HF_TOKEN") : undefined;
      const write = secret("TRACKIO_WRITE_TOKEN");
      const headers = {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(write === undefined ? {} : { "x-trackio-write-token": write }),
      };
      const answer = await request(`${url}/api/${api}`, {
        headers,
        json: { args: [], kwargs: { ...kwargs, hf_token: token ?? null } },
      });
      const json = answer.json();
      const error = isObject(json) ? json["error"] : "no JSON object";
      if (error !== null && error !== undefined)
        throw new PluginError(
          "REPORTER_REFUSED",
          `reporter trackio: the server refused: ${typeof error === "string" ? error : JSON.stringify(error)}`,
        );
    };

    return {
      async start({ name: runName, config: runConfig, before }) {
        const version = (await request(`${server()}/version`, { headers: {} })).json();
        if (!isObject(version) || version["api_version"] !== 1) {
          const got = JSON.stringify(isObject(version) ? version["api_version"] : version);
          throw new PluginError(
            "REPORTER_SERVER",
            `reporter trackio: api_version: got ${got} from the server, expected 1`,
            {
              hint: "Update the dashboard (trackio sync does it for a Space).",
            },
          );
        }
        config = runConfig;
        // Names tell runs apart on the server, and every run's folder may be called output.
        name = typeof before?.["name"] === "string" ? before["name"] : `${runName}-${crypto.randomUUID().slice(0, 8)}`;
        return { name };
      },
      async log(entries, at) {
        const logs = entries.map((entry, i) => ({
          project,
          run: name,
          step: entry.step,
          metrics: rewriteLogs(entry),
          timestamp: new Date(now() * 1000).toISOString(),
          log_id: `${name}:${at + i}`, // the server takes each once
          config: at + i === 0 || sent === 0 ? config : null,
        }));
        await ask("bulk_log", { logs });
        sent += entries.length;
      },
      async artefact() {},
      async finish() {},
    };
  },
});
