import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { compareRuns } from "../../sdk/compare.ts";
import { listRuns } from "../../sdk/runs.ts";
import { longHistory, record } from "../report/runs.ts";

let root = "";

function write(path: string, content: unknown): void {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  const lines = Array.isArray(content) ? content.map((line) => `${JSON.stringify(line)}\n`).join("") : undefined;
  writeFileSync(file, typeof content === "string" ? content : (lines ?? JSON.stringify(content)));
}

const training = (changes: object): object => ({
  ...record,
  config: { ...record.config, training: { ...record.config.training, ...changes } },
});

/** Says of a run's files that they were written so long ago. */
function age(folder: string, minutes: number): void {
  const time = new Date(Date.now() - minutes * 60_000);
  for (const name of ["run.json", "metrics.jsonl"]) utimesSync(join(root, folder, name), time, time);
}

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "qlora-runs-"));
  write("whole/run.json", record);
  write("whole/metrics.jsonl", longHistory());
  // It logs 4 x 480 tokens to a sample, at 3,840 tokens a second: two samples a second.
  const log = (step: number): object => ({
    epoch: step / 100,
    step,
    loss: 1 - step / 1000,
    tokens_per_second: 3840,
    num_input_tokens_seen: step * 32 * 1920,
  });
  const changed = training({ outputDir: "elsewhere", learningRate: 3e-4 });
  write("sweep/lr-10/run.json", { ...changed, startedAt: "2025-03-03T00:00:00.000Z" });
  write("sweep/lr-10/metrics.jsonl", [
    log(10),
    { epoch: 0.1, step: 10, eval_loss: 0.95, eval_log_loss: 0.95, eval_accuracy: 0.5 },
    log(20),
    { epoch: 0.2, step: 20, eval_loss: 0.85, eval_log_loss: 0.85, eval_accuracy: 0.4 },
  ]);
  write("sweep/lr-9/run.json", { ...training({}), startedAt: new Date(Date.now() - 210 * 60_000).toISOString() });
  write("sweep/lr-9/metrics.jsonl", [log(10)]);
  age("sweep/lr-9", 200);
  write("sweep/lr-9/checkpoint-10/run.json", "not looked at");
  write("broken/record/run.json", "{");
  write("broken/no-record/metrics.jsonl", [log(10)]);
  write("broken/log/run.json", record);
  write("broken/log/metrics.jsonl", `{"step":1}\n${JSON.stringify(log(10))}\n`);
  write("notes/readme.txt", "no run");
  symlinkSync(join(root, "whole"), join(root, "link"));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe("listRuns", () => {
  test("finds runs at any depth, and names those that it cannot read", async () => {
    const found = await listRuns([root]);
    expect(found.map(({ path, state }) => [path.slice(root.length + 1), state])).toEqual([
      ["broken/log", "unreadable"],
      ["broken/no-record", "unreadable"],
      ["broken/record", "unreadable"],
      ["sweep/lr-9", "interrupted"],
      ["sweep/lr-10", "running"],
      ["whole", "finished"],
    ]);
    const problems = found.flatMap((run) => (run.state === "unreadable" ? [run.problem] : []));
    expect(problems[0]).toContain("metrics.jsonl:1: expected a JSON object of numbers with step and epoch");
    expect(problems[1]).toContain("run.json: no such file");
    expect(problems[2]).toContain("run.json: is not a JSON object");
  });

  test("says of each what its files say", async () => {
    const [run] = await listRuns([join(root, "sweep/lr-10")]);
    expect(run).toEqual({
      path: join(root, "sweep/lr-10"),
      state: "running",
      model: "gemma-2-9b-it-bnb-4bit",
      adapter: { name: "lora", rank: 64, alpha: 32 },
      optimizer: "adamw8bit",
      step: 20,
      totalSteps: 2434,
      trainLoss: 0.98,
      metrics: { eval_loss: 0.85, eval_log_loss: 0.85, eval_accuracy: 0.4 },
      best: {
        eval_loss: { step: 20, value: 0.85 },
        eval_log_loss: { step: 20, value: 0.85 },
        eval_accuracy: { step: 10, value: 0.5 },
      },
      samplesPerSecond: 2,
      startedAt: "2025-03-03T00:00:00.000Z",
    });
  });

  test("a folder that is not there is an error", async () => {
    const failed = await listRuns([root, join(root, "none")]).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: "RUNS_NOT_FOUND", message: `${join(root, "none")}: no such folder` });
  });
});

test("compareRuns gives what differs, but not where the runs lie", async () => {
  const { runs, differences } = await compareRuns([join(root, "sweep/lr-9"), join(root, "sweep/lr-10")]);
  expect(differences).toEqual({ "training.learningRate": [1.7e-4, 3e-4] });
  expect(runs.map(({ trainLoss }) => trainLoss)).toEqual([0.99, 0.98]);
});

describe("qlora runs", () => {
  const qlora = async (...argv: string[]): Promise<{ code: number; lines: string[]; stderr: string }> => {
    const main = join(import.meta.dir, "../../cli/main.ts");
    const child = Bun.spawn([process.execPath, main, "runs", ...argv], { cwd: root, stdout: "pipe", stderr: "pipe" });
    const [code, stdout, stderr] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
    return { code, lines: stdout.split("\n").map((line) => line.replaceAll("\u00a0", " ")), stderr };
  };
  const names = (lines: readonly string[]): string[] => lines.slice(1).map((line) => line.split("  ")[0]!);

  test("prints a table, the newest first, the best marked, the broken named on both streams", async () => {
    const { code, lines, stderr } = await qlora(".");
    expect(code).toBe(0);
    expect(lines[0]!.split(/ {2,}/)).toEqual(
      "run,model,adapter,optimizer,steps,train loss,eval log loss,eval accuracy,samples/s,started,state".split(","),
    );
    expect(lines[2]!.split(/ {2,}/)).toEqual([
      "sweep/lr-10",
      "gemma-2-9b-it-bnb-4bit",
      "lora r64 a32",
      "adamw8bit",
      "20/2434",
      "0.9800",
      "0.8500*",
      "40.0 %",
      "2.00",
      "2025-03-03 00:00",
      "running?",
    ]);
    expect(names(lines)).toEqual([
      "sweep/lr-9",
      "sweep/lr-10",
      "whole",
      "broken/log",
      "broken/no-record",
      "broken/record",
      "* the best of its column",
      "running? it did not stop, and wrote not long ago",
      "",
    ]);
    expect(lines[3]).toMatch(/ 58\.2 %\* +1\.46 +2025-03-01 12:30 +finished$/);
    for (const name of ["broken/log", "broken/no-record", "broken/record"])
      expect(stderr).toContain(`unreadable: ${name}: `);
  }, 60_000);

  test("--sort orders by a column or a metric, and says which there are", async () => {
    const [byName, byLoss, wrong] = await Promise.all([
      qlora("--sort", "name", "sweep", "whole"),
      qlora("--sort", "log-loss", "sweep", "whole"),
      qlora("--sort", "logloss2", "sweep"),
    ]);
    expect(names(byName.lines).slice(0, 3)).toEqual(["sweep/lr-9", "sweep/lr-10", "whole"]);
    expect(names(byLoss.lines).slice(0, 3)).toEqual(["sweep/lr-10", "whole", "sweep/lr-9"]);
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain('--sort: got "logloss2", which is no column; did you mean "log-loss"?');
  }, 60_000);

  test("compare puts values that differ and figures side by side; --json has them all", async () => {
    const [text, json, alone] = await Promise.all([
      qlora("compare", "sweep/lr-9", "sweep/lr-10"),
      qlora("compare", "sweep/lr-9", "sweep/lr-10", "--json"),
      qlora("compare", "sweep/lr-9"),
    ]);
    expect(text.lines.map((line) => line.trim().split(/ {2,}/))).toEqual([
      ["sweep/lr-9", "sweep/lr-10"],
      ["training.learningRate", "0.00017", "0.0003"],
      [""],
      ["state", "interrupted", "running?"],
      ["steps", "10/2434", "20/2434"],
      ["train loss", "0.9900", "0.9800"],
      ["eval log loss", "-", "0.8500*"],
      ["eval accuracy", "-", "40.0 %*"],
      ["samples/s", "2.00", "2.00"],
      [""],
    ]);
    expect(JSON.parse(json.lines.join("\n"))).toMatchObject({
      differences: { "training.learningRate": [1.7e-4, 3e-4] },
      runs: [{ path: "sweep/lr-9" }, { path: "sweep/lr-10", metrics: { eval_log_loss: 0.85 } }],
    });
    expect(alone.code).toBe(2);
    expect(alone.stderr).toContain("compare: got 1 run, expected two or more");
  }, 60_000);
});
