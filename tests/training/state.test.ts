/** training_state.json is checked like a config: every problem of it is told, and nothing that contradicts itself is gone on from. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkResumable, readOptimizerState, readTrainingState } from "../../runtime/folder/training-state.ts";
import { failure } from "../support/failure.ts";
import { metaConfig, metaGpus, metaTrain } from "../support/meta-run.ts";

type Json = Record<string, unknown>;

let root = "";
let checkpoint = "";
let state: Json = {};

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "qlora-state-"));
  const config = await metaConfig(root, { training: { maxSteps: 3, loggingSteps: 2 } });
  await metaTrain(
    config,
    {},
    metaGpus((step) => (step === 2 ? Number.NaN : 0.5)),
  );
  checkpoint = join(config.training.outputDir, "checkpoint-3");
  state = JSON.parse(await readFile(join(checkpoint, "training_state.json"), "utf8")) as Json;
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** What reading says of the state with these changes; a value of undefined takes the key away. */
async function changed(changes: Json, file = "training_state.json"): Promise<string> {
  const path = join(checkpoint, file);
  const text = await readFile(path, "utf8");
  const json = { ...(JSON.parse(text.replaceAll("NaN", '"NaN"')) as Json), ...changes };
  await writeFile(path, JSON.stringify(json).replaceAll('"NaN"', "NaN"));
  const said = await failure(readTrainingState(checkpoint));
  await writeFile(path, text);
  return said
    .replace(`ModelError: ${path}: `, "")
    .replace(`ModelError: ${join(checkpoint, "training_state.json")}: `, "");
}

test("what was saved is read as it was, with its NaN", async () => {
  const read = await readTrainingState(checkpoint);
  expect(read).toMatchObject({ step: 3, updates: 2, skipped: 1, nonFinite: 1, totalLoss: 1 });
  expect(read.history[0]!["loss"]).toBeNaN();
  expect(read.history.map(({ step }) => step)).toEqual([2, 3]);
});

test("types and ranges", async () => {
  const cases: [Json, string][] = [
    [{ step: "3" }, 'step: got "3", expected a whole number from 0 on'],
    [{ step: 2.5 }, "step: got 2.5, expected a whole number from 0 on"],
    [{ updates: -1 }, "updates: got -1, expected a whole number from 0 on"],
    [{ tokens: 2 ** 60 }, "tokens: got 1152921504606847000, expected a whole number from 0 on"],
    [{ skipped: undefined }, "skipped: got nothing, expected a whole number from 0 on"],
    [{ data: "" }, 'data: got "", expected a fingerprint'],
    [{ evaluation: 7 }, "evaluation: got 7, expected a fingerprint or null"],
    [{ samplesPerStep: 0 }, "samplesPerStep: got 0, expected a whole number from 1 on"],
    [{ optimizer: null }, "optimizer: got null, expected the name of an optimizer"],
    [{ totalLoss: null }, "totalLoss: got null, expected a number"],
    [{ history: {} }, "history: got {}, expected a list of log entries"],
    [{ sinceLog: null }, "sinceLog: got null, expected an object"],
    [{ sinceLog: { loss: "0", steps: 1, skipped: 0 } }, 'sinceLog.loss: got "0", expected a number or null'],
    [{ scaler: { scale: 0 } }, "scaler.scale: got 0, expected a number above 0 that f32 holds"],
    [{ version: 2 }, "version 2, expected 1"],
    [{ __proto__: { version: 1 }, version: undefined }, "version nothing, expected 1"],
  ];
  for (const [changes, expected] of cases) expect(await changed(changes)).toContain(expected);
  expect(await changed({ step: null, seed: 1e300 })).toBe(
    `ModelError: ${checkpoint}/training_state.json:\n  - step: got null, expected a whole number from 0 on\n  - seed: got 1e+300, expected a whole number from 0 on`,
  );
});

test("what cannot be so together, and what trainer_state.json says otherwise", async () => {
  const scaler = { scale: 2, growthFactor: 2, backoffFactor: 0.5, growthInterval: 10, growthTracker: 10 };
  const cases: [Json, string, string?][] = [
    [{ updates: 3 }, "step: got 3, expected updates and skipped together, 3 + 1"],
    [{ nonFinite: 4 }, "nonFinite: got 4 of 3 steps"],
    [{ sinceLog: { loss: 1, steps: 4, skipped: 0 } }, "sinceLog: got 4 steps, 0 skipped, of 3 with 1 skipped"],
    [{ scaler }, "scaler.growthTracker: got 10, expected less than growthInterval, 10"],
    [{ history: [null, { step: 3, epoch: 1 }] }, "history[0].step: got nothing, expected steps up to 3 in order"],
    [{ history: [{ step: 4, epoch: 1 }] }, "history[0].step: got 4, expected steps up to 3 in order"],
    [{ step: 4, updates: 3 }, "step: got 4, but global_step of trainer_state.json is 3"],
    [{ tokens: 1 }, "tokens: got 1, but num_input_tokens_seen of trainer_state.json is"],
    [{ global_step: 5 }, "step: got 3, but global_step of trainer_state.json is 5", "trainer_state.json"],
    [
      { log_history: [] },
      "history: got 2 entries, but log_history of trainer_state.json is 0 entries",
      "trainer_state.json",
    ],
  ];
  for (const [changes, expected, file] of cases) expect(await changed(changes, file)).toContain(expected);
  const [first, second] = state["history"] as [Json, Json];
  expect(await changed({ history: [first, { ...second, loss: 9 }] })).toBe(
    "history[1]: is not log_history[1] of trainer_state.json",
  );
});

test("optimizer tensors of another step or optimizer", async () => {
  const wrong = (step: number, optimizer: string): Promise<string> =>
    failure(readOptimizerState(checkpoint, { step, optimizer }));
  expect(await wrong(3, "sgd")).toBe("no error");
  expect(await wrong(2, "sgd")).toContain("optimizer.safetensors: step is 3, but 2 in training_state.json");
  expect(await wrong(3, "lion8bit")).toContain("optimizer is sgd, but lion8bit in training_state.json");
});

test("rows held out that changed between runs are noticed as training rows are", async () => {
  const held = join(root, "held.jsonl");
  const data = { evalFiles: [held] };
  const outputDir = join(root, "evaluated");
  const go = async (answer: number, training: object = {}) => {
    await writeFile(held, `{"id":"a","input_ids":[3,4],"label":${answer}}\n{"id":"b","input_ids":[5],"label":1}\n`);
    const more = { outputDir, evalStrategy: "epoch", maxSteps: 2, ...training } as const;
    return failure(metaTrain(await metaConfig(root, { data, training: more })));
  };
  expect(await go(0)).toBe("no error");
  const resumed = { resumeFromCheckpoint: true, maxSteps: 3 } as const;
  expect(await go(1, resumed)).toBe(
    `ConfigError: data: the rows held out, tokenizer or truncation differ from those of ${outputDir}/checkpoint-2`,
  );
  expect(await go(0, resumed)).toBe("no error");
  // Rows may come and go: nothing that is trained depends on them.
  const now = { ...(state as never as Parameters<typeof checkResumable>[0]), evaluation: "new" };
  expect(() => checkResumable(state as never, now, checkpoint)).not.toThrow();
});

test("a checkpoint put together of two is told", async () => {
  const mixed = join(root, "mixed");
  await cp(checkpoint, mixed, { recursive: true });
  await cp(join(checkpoint, "../checkpoint-1/trainer_state.json"), join(mixed, "trainer_state.json"));
  expect(await failure(readTrainingState(mixed))).toContain("step: got 3, but global_step of trainer_state.json is 1");
});
