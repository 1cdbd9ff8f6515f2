import { expect, test } from "bun:test";
import { ConfigError } from "../../core/errors.ts";
import { findFault, inputOf, type FuzzTarget } from "./harness.ts";

const target = (run: FuzzTarget["run"], kind: FuzzTarget["kind"] = "json"): FuzzTarget => ({
  name: "harness",
  kind,
  corpus: ['{"a":[1,2,{"b":"c"}],"d":null}'],
  run,
});
const tell = async (run: FuzzTarget["run"]): Promise<string | undefined> =>
  (await findFault({ ...target(run), boundMs: 1000 }, (tried) => tried < 50)).told;

test("a result and a short QloraError are fine; any other error, a long message, a slow input and a changed prototype are told", async () => {
  expect(await tell(() => 1)).toBeUndefined();
  expect(
    await tell(() => {
      throw new ConfigError("X", "short");
    }),
  ).toBeUndefined();
  expect(
    await tell(({ text }) => {
      if (!text.startsWith('{"a":[1,2,')) throw new TypeError("undefined is not an object");
    }),
  ).toMatch(
    /^fuzz target harness, seed \d+, input \d+ \(\d+ bytes\) is no QloraError: TypeError: undefined is not an object/,
  );
  expect(
    await tell(() => {
      throw Object.assign(new ConfigError("X", "short"), { message: "long".repeat(2000) });
    }),
  ).toContain("has a message of 8000 characters");
  expect(
    await tell(() => {
      const end = performance.now() + 3000;
      while (performance.now() < end);
    }),
  ).toMatch(/took \d+ ms of CPU time/);
  expect(
    await tell(() => {
      (Object.prototype as Record<string, unknown>)["polluted"] = 1;
    }),
  ).toContain("changed Object.prototype");
  delete (Object.prototype as Record<string, unknown>)["polluted"];
});

test("an input comes again from its seed and number, and JSON stays JSON where only its structure changes", () => {
  const json = target(() => 0, "value");
  const texts = Array.from({ length: 500 }, (_, i) => inputOf(json, i).text);
  expect(Array.from({ length: 500 }, (_, i) => inputOf(json, i).text)).toEqual(texts);
  expect(texts[0]).toBe(json.corpus[0] as string);
  expect(new Set(texts).size).toBeGreaterThan(400);
  for (const wanted of ['"__proto__":', '"constructor":', "9007199254740993", "[[[[[[[[[["])
    expect(
      texts.some((text) => text.includes(wanted)),
      wanted,
    ).toBe(true);
  for (const text of texts) if (text.length < 100_000) JSON.parse(text);
});
