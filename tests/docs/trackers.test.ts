/** docs/trackers.md: its config typechecks, and its commands run outside the repository against a stand-in MLflow. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Answer, type Seen, type StandInServer, startServer } from "../reporters/server.ts";
import { startTakingHub } from "../hub/push-server.ts";
import { tiers } from "../support/gpu.ts";
import { typescriptCompiler } from "../support/packages.ts";
import { installPacked, type Outside, runIn } from "../support/packed.ts";

const root = join(import.meta.dir, "../..");
const read = (page: string): string => readFileSync(join(root, "docs", page), "utf8");
const page = read("trackers.md");
const blocks = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}[^\\n]*\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map(([, block]) => block!);
const commands = blocks(page, "sh").flatMap((block) => block.trim().split("\n"));

const mlflow = ({ path }: Seen): Answer => {
  if (path.includes("get-by-name")) return { json: { experiment: { experiment_id: "1" } } };
  if (!path.endsWith("runs/create")) return {};
  return { json: { run: { info: { run_id: "r", artifact_uri: "mlflow-artifacts:/1/r/artifacts" } } } };
};

let outside: Outside;
let server: StandInServer;
beforeAll(async () => {
  server = await startServer(mlflow);
  outside = await installPacked();
  // The config, the rows and the compiler's settings are those of docs/plugins.md.
  for (const [, file, text] of read("plugins.md").matchAll(
    /^```\w+ file=(qlora\.config\.ts|rows\.jsonl|tsconfig\.json)\n([\s\S]*?)^```$/gm,
  ))
    writeFileSync(join(outside.folder, file!), text!);
  writeFileSync(join(outside.folder, "trackers.config.ts"), blocks(page, "ts")[0]!);
}, 60_000);
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  outside.remove();
});

const compiler = typescriptCompiler();
test.skipIf(compiler === undefined)(
  "its config typechecks",
  async () => {
    expect(blocks(page, "ts")).toHaveLength(1);
    const ran = await runIn(outside.folder, [process.execPath, compiler!, "-p", "."]);
    expect(ran).toEqual({ exit: 0, stdout: "", stderr: "" });
  },
  120_000,
);

test.skipIf(tiers.length === 0)(
  "its commands, in order",
  async () => {
    expect(commands).toHaveLength(4);
    await using hub = await startTakingHub("me/gemma-2-9b-judge", "hf_test");
    const env = { MLFLOW_TRACKING_URI: server.url, HF_ENDPOINT: hub.url, HF_TOKEN: "hf_test" };
    Object.assign(process.env, env);
    try {
      for (const command of commands) {
        const [, ...words] = command.split(/\s+/);
        const { exit, stderr } = await outside.qlora(...words);
        expect(exit, `${command}\n${stderr}`).toBe(0);
      }
    } finally {
      for (const name of Object.keys(env)) delete process.env[name];
    }
    const made = server.seen.filter(({ path }) => path.endsWith("runs/create"));
    expect(made.map(({ json }) => json["run_name"])).toEqual(["fold-0"]);
    expect(hub.files.get("README.md")!.toString()).toContain('base_model: "google/gemma-2-9b-it"');
    expect(server.seen.some(({ method, path }) => method === "PUT" && path.endsWith("/artifacts/report.html"))).toBe(
      true,
    );
  },
  240_000,
);
