/** `bun run fuzz --minutes N [--target NAME] [--seed N|random] [--input N]`: the targets of tests/fuzz, each for its share of the time. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dir, "..");
const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    target: { type: "string" },
    seed: { type: "string", default: "random" },
    input: { type: "string" },
  },
});

const files = readdirSync(join(root, "tests/fuzz")).filter((name) => name.endsWith(".test.ts"));
const sources = await Promise.all(files.map((name) => Bun.file(join(root, "tests/fuzz", name)).text()));
const chosen = files.filter(
  (_, i) => values.target === undefined || new RegExp(`name: "${RegExp.escape(values.target)}"`).test(sources[i]!),
);
if (chosen.length === 0) {
  console.error(`--target ${values.target}: no file of tests/fuzz has this target`);
  process.exit(2);
}
const seconds = (Number(values.minutes) * 60) / chosen.length;
if (!(seconds > 0)) {
  console.error(`--minutes: got ${values.minutes}, expected a number > 0`);
  process.exit(2);
}
const child = Bun.spawn([process.execPath, "test", ...chosen.map((name) => `./tests/fuzz/${name}`)], {
  cwd: root,
  env: {
    ...process.env,
    QLORA_TEST_SEED: values.seed,
    QLORA_FUZZ_SECONDS: String(seconds),
    ...(values.target === undefined ? {} : { QLORA_FUZZ_TARGET: values.target }),
    ...(values.input === undefined ? {} : { QLORA_FUZZ_INPUT: values.input }),
  },
  stdio: ["ignore", "inherit", "inherit"],
});
process.exit(await child.exited);
