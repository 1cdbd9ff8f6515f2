import { expect, test } from "bun:test";
import type * as errors from "../../core/errors.ts";
import { ConfigError, DataError, ModelError, QloraError } from "../../core/errors.ts";

test("instanceof tells errors apart, and knows none that are not qlora's", () => {
  const error = new ModelError("CODE", "a model");
  expect([error instanceof QloraError, error instanceof ModelError, error instanceof Error]).toEqual([
    true,
    true,
    true,
  ]);
  expect([error instanceof ConfigError, new QloraError("CODE", "any") instanceof ModelError]).toEqual([false, false]);
  class MyError extends DataError {
    override readonly name = "DataError";
  }
  expect(new MyError("CODE", "mine", { file: "a.csv" }) instanceof DataError).toBe(true);
  const strangers: unknown[] = [new Error("plain"), { name: "QloraError" }, null, undefined, "QloraError"];
  expect(strangers.map((value) => value instanceof QloraError)).toEqual(strangers.map(() => false));
});

test("errors of another copy of qlora are known by their class", async () => {
  const other = (await import(`${import.meta.dir}/../../core/errors.ts?copy`)) as Pick<typeof errors, "ModelError">;
  expect(other.ModelError).not.toBe(ModelError);
  const error: unknown = new other.ModelError("CODE", "theirs");
  expect(error instanceof ModelError).toBe(true);
  expect(error instanceof QloraError).toBe(true);
  expect(error instanceof ConfigError).toBe(false);
});

test("a message that quotes megabytes keeps its beginning and its end", () => {
  const line = "x".repeat(8_000_000);
  const { message, problems, hint } = new ConfigError("CODE", `a.csv:1: found ${line}, expected a number`, {
    hint: line,
  });
  expect(message.length).toBeLessThan(3100);
  expect(message).toStartWith("a.csv:1: found xxx");
  expect(message).toEndWith("xxx, expected a number");
  expect(message).toContain("(7997084 characters left out)");
  expect(problems[0]!.length).toBeLessThan(3100);
  expect(hint!.length).toBeLessThan(1100);
});
