/** docs/data.md: WSDM-shaped Parquet and a dataset of a hub, from files to a submission. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { parquetWriteBuffer } from "hyparquet-writer";
import { openCsv } from "../../runtime/data/csv.ts";
import { type FakeHub, startHub } from "../hub/server.ts";
import { tiers } from "../support/gpu.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";
import { docsFolder, readBlocks, runShell } from "./blocks.ts";

const blocks = readBlocks(readFileSync(join(import.meta.dir, "../../docs/data.md"), "utf8"));

/** Comparisons that somebody won, with the texts as plain strings. */
function comparisons(): readonly Readonly<Record<string, string>>[] {
  const csv = openCsv(goldenPath("pandalm", "pandalm-1.csv"));
  const text = (cell: string): string => (JSON.parse(cell) as string[]).join(" ");
  const rows = csv.map((cells) => {
    const cell = (name: string): string => cells[csv.column(name)!]!;
    const winner = cell("winner_model_a") === "1" ? "model_a" : cell("winner_model_b") === "1" ? "model_b" : "tie";
    const [prompt, a, b] = ["prompt", "response_a", "response_b"].map((name) => text(cell(name)));
    return { id: `q${cell("id")}`, prompt: prompt!, response_a: a!, response_b: b!, model_a: cell("model_a"), winner };
  });
  return rows.filter(({ winner }) => winner !== "tie").slice(0, 56);
}

const parquet = (rows: readonly Readonly<Record<string, string>>[]): Uint8Array =>
  new Uint8Array(
    parquetWriteBuffer({
      columnData: Object.keys(rows[0]!).map((name) => ({ name, type: "STRING", data: rows.map((row) => row[name]) })),
      rowGroupSize: 16,
    }),
  );

describe.skipIf(tiers.length === 0)("docs/data.md", () => {
  let folder = "";
  let server: FakeHub;
  const saved = { ...process.env };
  const test24 = comparisons().slice(32);
  beforeAll(async () => {
    folder = await docsFolder("data");
    await symlink(tinyCheckpoint, join(folder, "tiny-gemma2-nf4"));
    writeFileSync(join(folder, "wsdm.parquet"), parquet(comparisons().slice(0, 32)));
    writeFileSync(
      join(folder, "wsdm-test.parquet"),
      parquet(
        test24.map(({ id, prompt, response_a: a, response_b: b }) => ({
          id: id!,
          prompt: prompt!,
          response_a: a!,
          response_b: b!,
        })),
      ),
    );
    const pairs = comparisons().map(({ id, prompt, response_a: a, response_b: b, winner }) => ({
      id: id!,
      question: prompt!,
      chosen: winner === "model_a" ? a! : b!,
      rejected: winner === "model_a" ? b! : a!,
    }));
    const card =
      "---\nconfigs:\n- config_name: chat\n  data_files:\n  - split: train\n    path: chat/train-*.parquet\n  - split: test\n    path: chat/held.parquet\n---\n";
    const files = new Map<string, Uint8Array>([
      ["README.md", Buffer.from(card)],
      ["chat/train-0.parquet", parquet(pairs.slice(0, 16))],
      ["chat/train-1.parquet", parquet(pairs.slice(16, 32))],
      ["chat/held.parquet", parquet(pairs.slice(32))],
    ]);
    server = await startHub("org/prefs", files, "datasets");
    Object.assign(process.env, {
      HF_ENDPOINT: server.url,
      HF_HUB_CACHE: join(folder, "hub"),
      HF_TOKEN: "",
      HF_HUB_OFFLINE: "",
    });
  });
  afterAll(async () => {
    for (const name of ["HF_ENDPOINT", "HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"]) {
      if (saved[name] === undefined) delete process.env[name];
      else process.env[name] = saved[name];
    }
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const ids = (name: string): string[] =>
    readFileSync(join(folder, name), "utf8")
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => line.split(",")[0]!);
  const lossOf = (run: string): number => {
    const entries = readFileSync(join(folder, run, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, number>);
    return entries.find((entry) => "eval_loss" in entry)!["eval_loss"]!;
  };

  test("WSDM's Parquet", async () => {
    const { out, exit } = await runShell(blocks[0]!.code, folder);
    expect({ exit, out }).toEqual({ exit: 0, out });
    expect(out).toContain("id,winner_model_a,winner_model_b\n");
    expect(out).toContain("==> submission.csv <==\nid,winner\n");
    // What eval scores is what the run scored: the fold and the template are the run's own.
    const again = Number(/eval_loss +([\d.]+)/.exec(out.slice(out.indexOf("samples ")))![1]);
    expect(again).toBeCloseTo(lossOf("output/wsdm"), 4);
    expect(ids("submission.csv")).toEqual(test24.map(({ id }) => id!));
    expect(readFileSync(join(folder, "submission.csv"), "utf8")).toMatch(/^id,winner\n(q\d+,model_[ab]\n)+$/);
    const record = JSON.parse(readFileSync(join(folder, "output/wsdm/run.json"), "utf8"));
    expect(record.config.data).toMatchObject({ template: "tags", foldBy: "stratified-group" });
    // Rows that train stand there twice: swapped too. Groups keep the fold from being eight exactly.
    const { numLabels, trainRows, evalRows } = record.data;
    expect([numLabels, trainRows / 2 + evalRows]).toEqual([2, 32]);
    expect(Math.abs(evalRows - 8)).toBeLessThanOrEqual(2);
  }, 300_000);

  test("a dataset of the hub", async () => {
    const { out, exit } = await runShell(blocks[1]!.code, folder);
    expect({ exit, out }).toEqual({ exit: 0, out });
    expect(ids("hub.csv")).toEqual(test24.map(({ id }) => id!));
    const record = JSON.parse(readFileSync(join(folder, "output/hub/run.json"), "utf8"));
    expect(record.data).toMatchObject({ numLabels: 2, trainRows: 32, evalRows: 24 });
    expect(record.config.data.trainFiles).toEqual(["hf://org/prefs/chat:train"]);
  }, 300_000);
});
