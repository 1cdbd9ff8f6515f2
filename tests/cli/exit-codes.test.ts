/** Each kind of end has its exit code, and docs/commands.md and `qlora --help` tell all of them. */
import { expect, spyOn, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { EXIT_CODES } from "../../cli/exit-codes.ts";
import { main } from "../../cli/run.ts";
import { ConfigError, DataError, DeviceError, ModelError, PluginError, QloraError } from "../../core/errors.ts";
import { services } from "./fixtures/services.ts";

/** What `work` writes to both streams together. */
async function silently<T>(work: () => Promise<T>): Promise<{ readonly result: T; readonly text: string }> {
  let text = "";
  const spies = (["stdout", "stderr"] as const).map((name) =>
    spyOn(process[name], "write").mockImplementation((piece: unknown, done?: unknown) => {
      text += String(piece);
      if (typeof done === "function") done();
      return true;
    }),
  );
  try {
    return { result: await work(), text };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

const errors: readonly (readonly [code: number, error: Error])[] = [
  [1, new DataError("X", "said", { file: "a.csv", line: 3 })],
  [1, new ModelError("X", "said")],
  [1, new DeviceError("X", "said")],
  [1, new QloraError("DISK_FULL", "said")],
  [1, new TypeError("said")],
  [2, new ConfigError("X", "said")],
  [2, new PluginError("X", "said")],
  [130, new QloraError("INTERRUPTED", "said")],
];

test.each(errors.map(([code, error]) => [code, error.name, error] as const))(
  "exit code %d after %s",
  async (code, _, error) => {
    const sdk = async () => ({ ...(await services.sdk()), doctor: () => Promise.reject(error) });
    const { result, text } = await silently(() => main(["doctor"], { ...services, sdk }));
    expect(text).toContain("said");
    expect(result).toBe(code);
    expect(EXIT_CODES.map(([known]) => known)).toContain(code);
  },
);

test("docs/commands.md and --help have the whole table", async () => {
  const manual = readFileSync(join(import.meta.dir, "../../docs/commands.md"), "utf8");
  const section = manual.slice(manual.indexOf("| exit code")).split("\n\n")[0]!.trim();
  const rows = section.split("\n").slice(2);
  const told = rows.map((row) => row.split("|").map((cell) => cell.trim()));
  expect(told.map(([, code, meaning]) => [Number(code), meaning!])).toEqual(EXIT_CODES.map((row) => [...row]));
  const { text } = await silently(() => main(["--help"], services));
  for (const [code, meaning] of EXIT_CODES) expect(text).toMatch(new RegExp(`^ +${code} +${meaning}$`, "m"));
});
