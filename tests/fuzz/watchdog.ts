/** Runs beside a fuzzed input: one that never ends cannot be told by the thread that it holds. */
import { writeSync } from "node:fs";

declare const self: Worker;

/** What the harness shares: [0] the number of the input, -1 where none runs; [1] the clock in ms when it began. */
self.onmessage = ({
  data,
}: MessageEvent<{ shared: Int32Array; name: string; seed: number; boundMs: number }>): void => {
  const { shared, name, seed, boundMs } = data;
  setInterval(() => {
    const index = Atomics.load(shared, 0);
    if (index < 0 || (Date.now() & 0x7fffffff) - Atomics.load(shared, 1) < boundMs) return;
    const again = `bun run fuzz --target ${name} --seed ${seed} --input ${index}`;
    writeSync(
      2,
      `\nfuzz target ${name}, seed ${seed}, input ${index}: hangs for over ${boundMs} ms; again: ${again}\n`,
    );
    process.kill(process.pid, "SIGKILL");
  }, 500);
};
