import { defineOptions, defineReporter, option, rewriteLogs } from "qlora/core";

const options = defineOptions({
  url: option("string", { optional: true, help: "gets the log as JSON (default: MY_PLUGIN_URL)" }),
});

/**
 * Sends a run's log to a server as JSON; the key is MY_PLUGIN_KEY of the environment. What throws comes again, so nothing is caught
 * here.
 * @example reportTo: [myPlugin({ url: "https://example.org/runs" })]
 */
export const myPlugin = defineReporter({
  name: "my-plugin",
  options,
  create({ url }, { request, env, secret }) {
    const server = url ?? env("MY_PLUGIN_URL") ?? "http://127.0.0.1:8080";
    let id = "";
    const send = async (event: string, content: object): Promise<void> => {
      const key = secret("MY_PLUGIN_KEY");
      const json = { id, event, ...content };
      await request(server, key === undefined ? { json } : { headers: { authorization: `Bearer ${key}` }, json });
    };
    return {
      async start({ name, config, before }) {
        id = typeof before?.["id"] === "string" ? before["id"] : crypto.randomUUID();
        await send("start", { name, config });
        return { id };
      },
      log: (entries, at) =>
        send("log", { at, entries: entries.map((entry) => ({ step: entry.step, ...rewriteLogs(entry) })) }),
      artefact: (file) => send("file", { name: file.name }),
      finish: (status) => send("finish", { status }),
    };
  },
});
