/** The loss of a student: each term against numbers worked out by hand, and the gradient by differences. */
import { expect, test } from "bun:test";
import { distillation, type DistillationOptions } from "../../index.ts";
import { lossContract } from "../../testing/index.ts";
import { labelledRow } from "../support/row.ts";

const NONE = { crossEntropy: 0, kl: 0, cosine: 0, focal: 0 };
const loss = (
  options: DistillationOptions,
  logits: readonly number[],
  label: number,
  soft?: readonly number[],
): number =>
  distillation(options).compute({ logits: Float64Array.from(logits), label, soft, row: labelledRow(label, soft) }).loss;

// softmax of these is 1/2, 1/4, 1/4
const LOGITS = [Math.LN2, 0, 0];
const TEACHER = [1 / 4, 1 / 2, 1 / 4];

test("each term by hand", () => {
  expect(loss({ ...NONE, crossEntropy: 1 }, LOGITS, 0, TEACHER)).toBeCloseTo(Math.LN2, 14);
  expect(loss({ ...NONE, focal: 1 }, LOGITS, 0, TEACHER)).toBeCloseTo(Math.LN2 / 4, 14);
  // 1/4 log(1/2) + 1/2 log 2 + 0
  expect(loss({ ...NONE, kl: 1 }, LOGITS, 0, TEACHER)).toBeCloseTo(Math.LN2 / 4, 14);
  // (1/8 + 1/8 + 1/16) / (3/8)
  expect(loss({ ...NONE, cosine: 1 }, LOGITS, 0, TEACHER)).toBeCloseTo(1 / 6, 14);
});

test("at temperature 2, both sides are softened, and KL is times 4", () => {
  const [logits, teacher] = [LOGITS.map((z) => 2 * z), [1 / 6, 4 / 6, 1 / 6]]; // their roots are as 1 : 2 : 1
  expect(loss({ ...NONE, kl: 1, temperature: 2 }, logits, 0, teacher)).toBeCloseTo(Math.LN2, 14);
  expect(loss({ ...NONE, cosine: 1, temperature: 2 }, logits, 0, teacher)).toBeCloseTo(1 / 6, 14);
});

test("the default is (CE + 2 KL + 2 cos) / 5", () => {
  expect(loss({}, LOGITS, 0, TEACHER)).toBeCloseTo((Math.LN2 + 2 * (Math.LN2 / 4) + 2 / 6) / 5, 14);
});

test("a row without a teacher has its label alone, at the weight of all terms", () => {
  expect(loss({}, LOGITS, 0)).toBeCloseTo(Math.LN2, 14);
  expect(loss({ ...NONE, focal: 0.5, kl: 1.5 }, LOGITS, 0)).toBeCloseTo(2 * (Math.LN2 / 4), 14);
  expect(loss({ ...NONE, kl: 3 }, LOGITS, 0)).toBeCloseTo(3 * Math.LN2, 14);
});

test("a teacher that is certain, and one that the student equals", () => {
  expect(loss({ ...NONE, kl: 1 }, LOGITS, 0, [1, 0, 0])).toBeCloseTo(Math.LN2, 14);
  expect(loss({ ...NONE, kl: 1, cosine: 1 }, LOGITS, 1, [1 / 2, 1 / 4, 1 / 4])).toBeCloseTo(0, 14);
});

for (const options of [
  {},
  { ...NONE, focal: 1 },
  { ...NONE, kl: 1, temperature: 3 },
  { ...NONE, cosine: 1, temperature: 0.5 },
])
  for (const { name, run } of lossContract(distillation(options))) test(`${JSON.stringify(options)}: ${name}`, run);

test("weights that leave nothing are refused", () => {
  expect(() => distillation(NONE)).toThrow("expected one weight above 0");
  expect(() => distillation({ kl: -1 })).toThrow("kl: got -1");
});
