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
