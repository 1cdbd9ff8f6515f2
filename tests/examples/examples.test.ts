/** Every example runs, on the tiny checkpoint, and its figures hold together. */
import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { writeFileAtomic } from "../../index.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { temporaryFolder, testProvider } from "../support/run.ts";

const root = join(import.meta.dir, "../..");
const TIMEOUT = 240_000;
const tested = new Set<string>();

async function runScript(...args: readonly string[]): Promise<string[]> {
  const child = Bun.spawn([process.execPath, ...args], { cwd: root, stdout: "pipe", stderr: "pipe", stdin: "ignore" });
  const [out, said] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  expect(await child.exited, said).toBe(0);
  return out.trim().split("\n");
}

/** Runs an example with a folder of its own; its lines of output. */
async function example(name: string): Promise<string[]> {
  tested.add(`${name}.ts`);
  await using folder = await temporaryFolder();
  return runScript(join("examples", `${name}.ts`), folder.path);
}

/** A printed table as rows by column name. */
function table(lines: readonly string[]): Record<string, string>[] {
  const cells = lines.map((line) => line.trim().split(/ {2,}/));
  return cells.slice(1).map((row) => Object.fromEntries(cells[0]!.map((key, i) => [key, row[i]!])));
}
const column = (rows: readonly Record<string, string>[], key: string): number[] => rows.map((row) => Number(row[key]));

describe.skipIf(tiers.length === 0)("examples", () => {
  test(
    "sweep.ts: a row for each rank, with the parameters of two LoRA matrices on q_proj and v_proj of four layers",
    async () => {
      const rows = table(await example("sweep"));
      expect(column(rows, "rank")).toEqual([2, 8, 32]);
      // q_proj is 128 x 128, v_proj 128 -> 64; the head is 3 x 128
      expect(column(rows, "parameters")).toEqual([2, 8, 32].map((rank) => 4 * rank * (256 + 192) + 384));
      for (const loss of column(rows, "eval log loss")) expect(loss).toBeGreaterThan(0);
    },
    TIMEOUT,
  );

  test(
    "custom-loss.ts: keeps the contract; focal loss with gamma 0 starts at cross entropy's loss, which gradient-surgery.ts has",
    async () => {
      const lines = await example("custom-loss");
      expect(lines.filter((line) => line.startsWith("kept: "))).toHaveLength(2);
      const [plain, focal] = table(lines.slice(2));
      for (const row of [plain!, focal!]) expect(Number(row["last loss"])).toBeLessThan(Number(row["first loss"]));
      expect(Number(focal!["first loss"])).toBeLessThan(Number(plain!["first loss"]));

      const rows = table(await example("gradient-surgery"));
      expect(column(rows, "step")).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      expect(Number(rows[0]!["loss"])).toBeCloseTo(Number(plain!["first loss"]), 3);
      for (const row of rows) expect(row["surgery"]).toBe(Number(row["cosine of the groups"]) < 0 ? "yes" : "no");
      expect(rows.some((row) => row["surgery"] === "yes")).toBe(true);
      for (const value of column(rows, "cosine of the groups")) expect(Math.abs(value)).toBeLessThanOrEqual(1);
    },
    TIMEOUT,
  );

  test(
    "kfold-ensemble.ts: the mean of the folds is no worse than their mean log loss, by Jensen's inequality",
    async () => {
      const [outOfFold, ...lines] = await example("kfold-ensemble");
      expect(outOfFold).toMatch(/^out-of-fold log loss \d\.\d{4}$/);
      const rows = table(lines);
      expect(rows.map(({ model }) => model)).toEqual(["fold 0", "fold 1", "fold 2", "ensemble"]);
      const [a, b, c, mean] = column(rows, "test log loss");
      expect(mean!).toBeLessThan((a! + b! + c!) / 3);
    },
    TIMEOUT,
  );

  test(
    "activations.ts: the embeddings of one token are one; deeper, like texts are more alike than unlike ones",
    async () => {
      const lines = await example("activations");
      const rows = table(lines.slice(0, -1));
      expect(column(rows, "block")).toEqual([0, 1, 2, 3, 4]);
      expect(column(rows, "width")).toEqual([128, 128, 128, 128, 128]);
      expect(Number(rows[0]!["1 and 3"])).toBeCloseTo(1, 4);
      for (const row of rows.slice(1)) expect(Number(row["1 and 2"])).toBeGreaterThan(Number(row["1 and 3"]));
      expect(lines.at(-1)).toMatch(/^logits of the first text:( -?\d+\.\d{4}){3}$/);
    },
    TIMEOUT,
  );

  test(
    "one-file-plugin.ts: trains by its file's name; the first signSGD step moves every weight of the head by the learning rate",
    async () => {
      tested.add("one-file-plugin.ts");
      await using folder = await temporaryFolder();
      const csv = join(folder.path, "arena.csv");
      await writeFileAtomic(csv, demoCsv(24, 7));
      const head = async (rate: string): Promise<Float32Array> => {
        const out = join(folder.path, rate);
        const flags =
          "--adapter.target-modules q_proj,v_proj --max-length 48 --max-steps 1 --per-device-train-batch-size 4 --save-strategy no";
        const paths = ["--train-files", csv, "--output-dir", out, "--cache-dir", join(folder.path, "cache")];
        await runScript(
          ...`cli/main.ts train --optimizer ./examples/one-file-plugin.ts --gpu ${testProvider}`.split(" "),
          ...`--model.checkpoint ${tinyCheckpoint} --learning-rate ${rate} ${flags}`.split(" "),
          ...paths,
        );
        await using file = await openSafetensors(join(out, "adapter_model.safetensors"));
        return new Float32Array((await file.read("base_model.model.score.weight")).buffer);
      };
      const [still, moved] = [await head("0"), await head("0.25")];
      expect(moved).toHaveLength(3 * 128);
      for (const [i, value] of moved.entries()) expect(Math.abs(value - still[i]!)).toBeCloseTo(0.25, 5);
    },
    TIMEOUT,
  );

  test("none is left out", () => {
    const files = readdirSync(join(root, "examples")).filter((name) => name !== "tiny.ts");
    expect([...tested].sort()).toEqual(files.sort());
  });
});
