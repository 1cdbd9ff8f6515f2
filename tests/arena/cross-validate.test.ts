import { describe, expect, test } from "bun:test";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { crossValidate, predict, type QloraError } from "../../index.ts";
import { ensemble } from "../../sdk/ensemble.ts";
import { readProbabilities } from "../../sdk/probabilities.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const cli = join(import.meta.dir, "../../cli/main.ts");

describe.skipIf(tiers.length === 0)("cross-validation", () => {
  test("predicts every row by the model that did not see it, goes on where it stopped, refuses another config", async () => {
    await using folder = await temporaryFolder();
    const config = (training: object = {}) =>
      smallRun(folder.path, { device: { tier: "f32" }, training: { maxSteps: 2, ...training } });
    const { outputDir } = (await config()).training;

    const stop = new AbortController();
    const halted = await crossValidate(await config(), 2, {
      signal: stop.signal,
      onEvent: (event) => {
        if (event.type === "info" && event.message.startsWith("fold 2")) stop.abort();
      },
    });
    expect(halted).toMatchObject({ interrupted: true, outOfFold: undefined });
    expect(halted.folds.map(({ fold }) => fold)).toEqual([0]);
    const first = await readFile(join(outputDir, "fold-0", "adapter_model.safetensors"));

    const messages: string[] = [];
    const whole = await crossValidate(await config(), 2, {
      onEvent: (event) => event.type === "info" && messages.push(event.message),
    });
    expect(messages).toContain("it is done already");
    expect(whole.folds.map(({ rows, steps }) => [rows, steps])).toEqual([
      [30, 2],
      [30, 2],
    ]);
    expect((await readFile(join(outputDir, "fold-0", "adapter_model.safetensors"))).equals(first)).toBe(true);

    const [data] = (await config()).data.trainFiles;
    const { fit, rows } = await ensemble({ files: [whole.outOfFold!], fit: data! });
    const ids = (await readFile(data!, "utf8")).trim().split("\n").slice(1);
    expect(rows.map(({ id }) => id)).toEqual(ids.map((line) => line.slice(0, line.indexOf(","))));
    expect(fit!.files[0]!).toBeCloseTo(whole.metrics!["eval_log_loss"]!, 6);

    const again = await predict({ run: join(outputDir, "fold-1"), device: { tier: "f32" } });
    const written = new Map(
      (await readFile(whole.outOfFold!, "utf8")).split("\n").map((line) => [line.split(",")[0], line]),
    );
    for (const { id, values } of again.rows.slice(0, 3)) {
      const stored = written.get(id)!.split(",").slice(1).map(Number);
      values.forEach((value, c) => expect(stored[c]!).toBeCloseTo(value, 5));
    }

    // The same file, fold by fold, by hand.
    const oof = join(folder.path, "oof.csv");
    const add = (fold: number, ...more: readonly string[]) =>
      Bun.spawnSync([
        process.execPath,
        cli,
        "predict",
        join(outputDir, `fold-${fold}`),
        ...more,
        "--oof",
        oof,
        "--tier",
        "f32",
      ]);
    expect(add(0).exitCode).toBe(0);
    expect(add(1).stderr.toString()).toContain("added 30 rows to");
    const [byHand, atOnce] = [oof, whole.outOfFold!].map((file) => readProbabilities(file));
    expect(byHand!.rows).toHaveLength(60);
    for (const { id, values } of atOnce!.rows) {
      const row = byHand!.rows.find((other) => other.id === id)!;
      values.forEach((value, c) => expect(row.values[c]!).toBeCloseTo(value, 5));
    }
    const once = await readFile(oof, "utf8");
    const twice = add(1);
    expect(twice.exitCode).toBe(1);
    expect(twice.stderr.toString()).toContain("is there already");
    const ofOther = add(1, data!);
    expect(ofOther.exitCode).toBe(2);
    expect(ofOther.stderr.toString()).toContain("predictions of the rows held out");
    expect(await readFile(oof, "utf8")).toBe(once);

    const refused = await crossValidate(await config({ learningRate: 2e-3 }), 3).catch((error: unknown) => error);
    expect((refused as QloraError).message).toContain("folds: was 2, got 3");
    expect((refused as QloraError).message).toContain("config.training.learningRate: was 0.001, got 0.002");
    await rm(join(outputDir, "cv.json"));
    const unknown = await crossValidate(await config(), 2).catch((error: unknown) => error);
    expect((unknown as QloraError).code).toBe("OUTPUT_DIR_TAKEN");
  }, 120_000);
});
