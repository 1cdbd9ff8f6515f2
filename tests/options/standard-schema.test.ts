/** Schemas of other libraries as a plugin's options: types, checks, defaults, flags and help. */
import { type } from "arktype";
import { expect, test } from "bun:test";
import { z } from "zod";
import { defineMetric, defineOptions, type InferInput, type InferOptions } from "../../core/index.ts";
import { readOptionText } from "../../core/options/parse.ts";

const zod = defineOptions(
  z.object({
    rank: z.int().min(1).default(8).describe("rank of it"),
    mode: z.enum(["fast", "exact"]),
    tag: z.string().optional(),
    layers: z.array(z.number()).default([1]),
  }),
  ({ rank, mode }) => (mode === "exact" && rank > 64 ? ["rank: got more than 64, expected less in mode exact"] : []),
);

test("zod: defaults, problems with their places, unknown keys, rules", () => {
  expect(zod.parse({ mode: "fast" })).toEqual({ rank: 8, mode: "fast", tag: undefined, layers: [1] });
  const refused = zod.check({ rank: 0, mode: "slow", rnak: 3 }, "adapter");
  expect(refused).toEqual({
    ok: false,
    problems: [
      expect.stringMatching(/^adapter\.rnak: unknown option/),
      "adapter.rank: got 0: Too small: expected number to be >=1",
      'adapter.mode: got "slow": Invalid option: expected one of "fast"|"exact"',
    ],
  });
  expect(zod.check({ mode: "exact", rank: 65 }, "adapter")).toEqual({
    ok: false,
    problems: ["adapter.rank: got more than 64, expected less in mode exact"],
  });
  expect(zod.check(null)).toMatchObject({ ok: false, problems: ["options: got null, expected an object of options"] });
});

test("zod: flags and help come from its JSON Schema", () => {
  expect(zod.describe()).toEqual([
    {
      key: "rank",
      expected: "an integer >= 1",
      required: false,
      default: 8,
      defaultFrom: undefined,
      help: "rank of it",
    },
    {
      key: "mode",
      expected: '"fast" or "exact"',
      required: true,
      default: undefined,
      defaultFrom: undefined,
      help: "",
    },
    { key: "tag", expected: "a string", required: false, default: undefined, defaultFrom: undefined, help: "" },
    { key: "layers", expected: "a list of numbers", required: false, default: [1], defaultFrom: undefined, help: "" },
  ]);
  const shape = zod.shape;
  expect(readOptionText(shape.rank, "16", "--rank")).toEqual({ ok: true, value: 16 });
  expect(readOptionText(shape.layers, "1,2", "--layers")).toEqual({ ok: true, value: [1, 2] });
  expect(readOptionText(shape.mode, "slow", "--mode")).toMatchObject({ ok: false });
});

test("types: what is read has its defaults, what is written needs them not", () => {
  const written: InferInput<typeof zod> = { mode: "fast" };
  const read: InferOptions<typeof zod> = zod.parse(written);
  const rank: number = read.rank;
  // @ts-expect-error no such mode
  const wrong: InferInput<typeof zod> = { mode: "slow" };
  expect([rank, wrong.mode as string]).toEqual([8, "slow"]);
});

test("arktype, and a schema without a JSON Schema, as options of a plugin", () => {
  const scaled = defineMetric({
    name: "scaled",
    options: defineOptions(type({ scale: "number > 0", "bias?": "number" })),
    create: ({ scale, bias = 0 }) => ({ add() {}, result: () => ({ scaled: scale + bias }) }),
  });
  expect(
    scaled({ scale: 3 })
      .create({} as never)
      .result(),
  ).toEqual({ scaled: 3 });
  expect(() => scaled({ scale: 0 })).toThrow("metric.scale: got 0: scale must be positive (was 0)");
  const bare = defineOptions({
    "~standard": {
      version: 1,
      vendor: "own",
      validate: (value) =>
        (value as { readonly a?: unknown }).a === 1
          ? { value: { a: 1 } }
          : { issues: [{ message: "a must be 1", path: [{ key: "a" }] }] },
      types: undefined as { input: { a: number }; output: { a: number } } | undefined,
    },
  });
  expect(bare.parse({ a: 1 })).toEqual({ a: 1 });
  expect(bare.check({ a: 2 }, "metric")).toEqual({ ok: false, problems: ["metric.a: got 2: a must be 1"] });
  expect(bare.shape).toEqual({});
});

test("a schema that answers later, and one that gives no object, are refused", () => {
  const later = defineOptions(z.object({ a: z.number().refine(async () => true) }));
  const validate = () => Promise.resolve({ value: {} });
  const slow = defineOptions({ "~standard": { version: 1, vendor: "slow", validate } });
  expect(slow.check({})).toMatchObject({
    ok: false,
    problems: [expect.stringContaining("the schema of slow answers later")],
  });
  expect(later.check({ a: 1 })).toMatchObject({ ok: false });
  const list = defineOptions({ "~standard": { version: 1, vendor: "list", validate: () => ({ value: [1] }) } });
  expect(list.check({})).toMatchObject({
    ok: false,
    problems: [expect.stringContaining("expected an object of JSON")],
  });
});
