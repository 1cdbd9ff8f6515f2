import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { predict, train } from "../../index.ts";
import type { RunEvent } from "../../runtime/events.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

describe.skipIf(tiers.length === 0)("truncation in a run", () => {
  test("is told, recorded, and the same in prediction unless it is named", async () => {
    await using folder = await temporaryFolder();
    const device = { tier: "f32" } as const;
    const data = { truncate: "prompt-cap", promptMaxTokens: 8, maxLength: 48 } as const;
    const events: RunEvent[] = [];
    const { outputDir: run } = await train(await smallRun(folder.path, { device, data, training: { maxSteps: 1 } }), {
      onEvent: (event) => events.push(event),
    });
    const messages = (): string => events.map((event) => ("message" in event ? event.message : "")).join("\n");
    expect(messages()).toMatch(
      /train data: \d+ of 48 rows cut to 48 tokens \(--truncate prompt-cap; .*\), 0 lost a whole response/,
    );
    const record = JSON.parse(await readFile(join(run, "run.json"), "utf8")) as {
      truncation: Record<string, { rows: number; cut: number }>;
    };
    expect(record.truncation["train"]).toMatchObject({ rows: 48, lostAResponse: 0 });
    expect(record.truncation["train"]!.cut).toBeGreaterThan(0);
    expect(record.truncation["evaluation"]).toMatchObject({ rows: 12 });

    events.length = 0;
    await predict({ run, device }, { onEvent: (event) => events.push(event) });
    expect(messages()).toContain("--truncate prompt-cap");
    events.length = 0;
    await predict({ run, device, data: { truncate: "right" } }, { onEvent: (event) => events.push(event) });
    expect(messages()).toMatch(/--truncate right; .*\), [1-9]\d* lost a whole response/);
  }, 120_000);
});
