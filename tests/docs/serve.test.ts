/** docs/serve.md: its commands and its script run, on a small run in the place of the demo's. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { train } from "../../index.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { smallRun, testProvider } from "../support/run.ts";
import { docsFolder, readBlocks, runShell } from "./blocks.ts";

const blocks = readBlocks(readFileSync(join(import.meta.dir, "../../docs/serve.md"), "utf8"));
const commands = blocks.filter(({ language }) => language === "sh").map(({ code }) => code.trim());
const hasCurl = Bun.which("curl") !== null;
if (!hasCurl) console.error("SKIPPED: no curl for the commands of docs/serve.md");

let folder = "";
beforeAll(async () => {
  folder = await docsFolder("serve");
  const config = await smallRun(folder, { training: { outputDir: join(folder, "output/demo"), maxSteps: 1 } });
  await train(config);
  await cp(join(folder, "output/demo"), join(folder, "output/other"), { recursive: true });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test.skipIf(!hasCurl)("its servers start, and its requests are answered", async () => {
  const starts = commands.filter((code) => code.startsWith("bunx qlora serve"));
  const asks = commands.find((code) => code.startsWith("curl"))!;
  expect([starts.length, asks.split("\n").length]).toEqual([2, 2]);
  for (const start of starts) {
    // The server in the background, on a port of its own; the requests once it has said where it is.
    const code = [
      `${start} --port 0 --gpu ${testProvider} > address.txt 2> log.txt &`,
      "pid=$!; trap 'kill $pid; wait' EXIT",
      "until grep -qs http address.txt; do kill -0 $pid || { cat log.txt; exit 1; }; sleep 0.1; done",
      asks.replaceAll("http://127.0.0.1:8000/", "$(cat address.txt)"),
    ].join("\n");
    const { out } = await runShell(code, folder);
    expect({ answers: out.match(/"num_classes":3/g)?.length, out }).toEqual({ answers: 2, out });
  }
});

test("its script prints what it says", async () => {
  const [script] = blocks.filter(({ language }) => language === "ts");
  await writeFileAtomic(
    join(folder, "script.ts"),
    script!.code.replace("port: 0", `port: 0, device: { gpu: "${testProvider}" }`),
  );
  expect(await runShell("bun script.ts", folder)).toEqual({ out: script!.output!, exit: 0 });
});
