import { expect, test } from "bun:test";
import { join } from "node:path";

test("loading holds a piece of the checkpoint at a time, never a whole token table", () => {
  const child = Bun.spawnSync([process.execPath, join(import.meta.dir, "fixtures/host-memory.ts")]);
  const { grew, loaded } = JSON.parse(child.stdout.toString()) as { grew: number; loaded: number };
  expect(loaded).toBeGreaterThan(1.3e9);
  expect(grew).toBeLessThan(512 * 2 ** 20);
}, 60_000);
