/** `qlora serve` as a process: signals with requests in flight, death and a new start. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { train } from "../../index.ts";
import { smallRun, temporaryFolder, testProvider } from "../support/run.ts";
import { until } from "../support/until.ts";

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let run: string;

beforeAll(async () => {
  folder = await temporaryFolder();
  run = (await train(await smallRun(folder.path, { training: { maxSteps: 1 } }))).outputDir;
});
afterAll(() => folder[Symbol.asyncDispose]());

/** A server's process, once it has printed where it listens. */
async function start(...flags: readonly string[]) {
  const main = join(import.meta.dir, "../../cli/main.ts");
  const child = Bun.spawn([process.execPath, main, "serve", run, "--gpu", testProvider, ...flags], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  const url = new TextDecoder().decode(value).trim();
  const post = (input: string): Promise<Response> =>
    fetch(`${url}classify`, { method: "POST", body: JSON.stringify({ input }) });
  return { child, url, post };
}

const texts = Array.from({ length: 24 }, (_, i) => `a text of ${"several ".repeat(i)}words`);

test("SIGTERM answers what has arrived, refuses what comes later, and ends", async () => {
  const { child, url, post } = await start("--port", "0");
  await post("warm");
  const answers = texts.map((text) => post(text));
  const waiting = async (): Promise<boolean> =>
    Number(/^qlora_queue_rows (\d+)$/m.exec(await (await fetch(`${url}metrics`)).text())![1]) > 0;
  await until("requests to wait", waiting);
  child.kill("SIGTERM");
  const statuses = (await Promise.all(answers)).map(({ status }) => status);
  expect(new Set(statuses)).toEqual(new Set([200]));
  expect(await child.exited).toBe(143);
  expect(
    await fetch(url).then(
      () => "answered",
      () => "refused",
    ),
  ).toBe("refused");
});

test("killed with requests in flight, it starts again on the same port and answers the same", async () => {
  const first = await start("--port", "0");
  const before = await (await first.post(texts[3]!)).json();
  const lost = Promise.allSettled(texts.map((text) => first.post(text)));
  first.child.kill("SIGKILL");
  await first.child.exited;
  expect((await lost).some(({ status }) => status === "rejected")).toBe(true);
  const second = await start("--port", new URL(first.url).port);
  const after = await (await second.post(texts[3]!)).json();
  expect((after as { data: unknown }).data).toEqual((before as { data: unknown }).data);
  const taken = Bun.spawnSync([
    process.execPath,
    join(import.meta.dir, "../../cli/main.ts"),
    "serve",
    run,
    "--gpu",
    testProvider,
    "--port",
    new URL(first.url).port,
  ]);
  expect([taken.exitCode, taken.stderr.toString()]).toEqual([1, expect.stringContaining("is in use")]);
  second.child.kill("SIGINT");
  expect(await second.child.exited).toBe(130);
});
