import { expect, test } from "bun:test";
import { qlora } from "../support/command-line.ts";
import { tinyCheckpoint } from "../support/reference.ts";

test.each([
  ["--load-best-model-at-end", "keep every checkpoint (no --save-total-limit)"],
  ["--metric_for_best_model=eval_loss", "keep every checkpoint (no --save-total-limit)"],
  ["--early-stopping-patience=2", "stop the run with Ctrl-C, which saves"],
  ["--label-smoothing-factor=0.1", "--loss soft-label"],
])("%s of transformers, which is not here, says so and what to do instead", async (flag, instead) => {
  const { code, stderr } = await qlora("train", "--model", tinyCheckpoint, "--train-files", "a.csv", flag);
  expect(stderr).toContain(`${flag.split("=")[0]!}: transformers has this flag, qlora has not; `);
  expect(stderr).toContain(instead);
  expect(code).toBe(2);
});
