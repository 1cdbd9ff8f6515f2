/** A run on N ranks is the run on one, up to the order of sums; and the same run again to the byte. */
import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { relativeL2 } from "../support/close.ts";
import { tiers } from "../support/gpu.ts";
import { hasMpi, type RanksEnded, runRanks, start } from "../support/ranks.ts";
import { temporaryFolder } from "../support/run.ts";

const script = join(import.meta.dir, "fixtures/train.ts");

interface Told {
  readonly rank: number;
  readonly losses: readonly number[];
  readonly hash: string;
  readonly hashed?: string;
  readonly skipped?: readonly boolean[];
  readonly metrics?: Readonly<Record<string, number>>;
}

function told({ code, stdout, stderr }: RanksEnded): Told[] {
  expect(code, stderr).toBe(0);
  const lines = stdout.trim().split("\n");
  return lines.map((line) => JSON.parse(line) as Told).sort((a, b) => a.rank - b.rank);
}

const onRanks = (ranks: number, asked: object): Promise<RanksEnded> =>
  ranks === 1
    ? start([process.execPath, script], { ASKED: JSON.stringify(asked) }).ended
    : runRanks(ranks, [script], { ASKED: JSON.stringify(asked) });

/** Values of the adapter that a run has written. */
async function adapterOf(folder: string, run: string): Promise<Float32Array> {
  await using file = await openSafetensors(join(folder, run, "adapter_model.safetensors"));
  const parts = await Promise.all([...file.tensors.keys()].sort().map((name) => file.read(name)));
  return new Float32Array(Buffer.concat(parts).buffer.slice(0));
}

describe.skipIf(!hasMpi || !tiers.includes("f32"))("training on ranks", () => {
  test("50 steps on two ranks are those on one, every rank has the same, and again to the byte", async () => {
    await using folder = await temporaryFolder();
    const asked = { folder: folder.path, steps: 50, hashAt: 6 };
    const [one] = told(await onRanks(1, { ...asked, run: "one" }));
    const [two, other] = told(await onRanks(2, { ...asked, run: "two" }));
    expect(one!.losses).toHaveLength(50);
    const worst = Math.max(...one!.losses.map((loss, i) => Math.abs(loss - two!.losses[i]!)));
    expect(worst).toBeLessThanOrEqual(1e-5);
    expect(one!.losses[0]).toBeGreaterThan(0.5);
    const adapters = [await adapterOf(folder.path, "one"), await adapterOf(folder.path, "two")] as const;
    expect(relativeL2(adapters[1], adapters[0])).toBeLessThanOrEqual(1e-4);
    expect(other).toEqual({ rank: 1, hash: two!.hash, losses: two!.losses });
    expect(Math.abs(one!.metrics!["eval_loss"]! - two!.metrics!["eval_loss"]!)).toBeLessThanOrEqual(1e-5);

    const [again] = told(await onRanks(2, { ...asked, steps: 6, run: "again" }));
    expect(again!.hash).toBe(two!.hashed!);
    const record = JSON.parse(await readFile(join(folder.path, "two/run.json"), "utf8")) as Record<string, unknown>;
    expect(record["ranks"]).toMatchObject([{ rank: 0 }, { rank: 1 }]);
    const metrics = await readFile(join(folder.path, "two/metrics.jsonl"), "utf8");
    expect(JSON.parse(metrics.split("\n")[0]!)).toMatchObject({ world_size: 2, rank_1_waiting: expect.any(Number) });
  }, 240_000);

  test("more ranks than samples: a rank without any joins in, and the run is the same", async () => {
    await using folder = await temporaryFolder();
    const asked = { folder: folder.path, steps: 2, batch: 2 };
    const [one] = told(await onRanks(1, { ...asked, run: "one" }));
    const three = told(await onRanks(3, { ...asked, run: "three" }));
    expect(three.map(({ hash }) => hash)).toEqual(three.map(() => three[0]!.hash));
    const worst = Math.max(...one!.losses.map((loss, i) => Math.abs(loss - three[0]!.losses[i]!)));
    expect(worst).toBeLessThanOrEqual(1e-5);
  }, 120_000);

  test("deterministic: two ranks give the bytes of one", async () => {
    await using folder = await temporaryFolder();
    const asked = { folder: folder.path, steps: 4, deterministic: true };
    const [one] = told(await onRanks(1, { ...asked, run: "one" }));
    const [two] = told(await onRanks(2, { ...asked, run: "two" }));
    expect(two!.hash).toBe(one!.hash);
    expect(two!.losses).toEqual(one!.losses);
    expect(two!.metrics).toEqual(one!.metrics);
  }, 120_000);

  test("gradients of one rank that are not finite skip the step on all", async () => {
    await using folder = await temporaryFolder();
    const all = told(await onRanks(2, { folder: folder.path, steps: 3, run: "nan", trouble: "nan" }));
    expect(all[0]!.skipped).toEqual([false, true, false]);
    expect(all[1]!.hash).toBe(all[0]!.hash);
  }, 120_000);
});
