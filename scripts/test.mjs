// `npm test`: sets up, runs the checks and the tests, and ends with `N passed, N failed, N skipped`.
// QLORA_TEST_JOBS=16 runs so many test files side by side, each one's output whole; default: one folder after the other.
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { ensureChromium } from "./chromium.mjs";
import { ensureDeno } from "./deno.mjs";
import { ensureMpi } from "./mpi.mjs";
import { setUp } from "./setup.mjs";

/** Scripts of package.json, each counted as one test. */
const CHECKS = ["format", "build", "lint", "types", "knip", "package"];
const jobs = Number(process.env.QLORA_TEST_JOBS ?? 1);
if (!Number.isInteger(jobs) || jobs < 1) {
  console.error(`QLORA_TEST_JOBS: got ${process.env.QLORA_TEST_JOBS}, expected a whole number of at least 1`);
  process.exit(2);
}

const { bun, env, root } = setUp();
ensureChromium();
ensureMpi();
ensureDeno(root);
const total = { passed: 0, failed: 0, skipped: 0 };
const notRun = [];
const failures = [];

/** Keeps the end of what a failure printed, to be shown once more after everything else. */
const fail = (part, output) => failures.push(`Failed: ${part}\n${output.trim().split("\n").slice(-60).join("\n")}`);

/** Runs Bun with its output streamed, or written as a whole at its end; resolves with its exit code and its output. */
function run(args, whole = false) {
  return new Promise((resolve) => {
    const child = spawn(bun, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const take = (to) => (chunk) => {
      output += chunk;
      if (!whole) to.write(chunk);
    };
    child.stdout.setEncoding("utf8").on("data", take(process.stdout));
    child.stderr.setEncoding("utf8").on("data", take(process.stderr));
    child.on("error", (error) => resolve({ code: 1, died: false, output: `${output}${error.message}` }));
    child.on("close", (code, signal) => {
      if (whole) process.stdout.write(output);
      resolve({ code: code ?? 1, died: signal !== null || code > 128, output });
    });
  });
}

/** The last count of `word` in bun's summary, such as ` 12 pass`. */
const count = (output, word) => Number([...output.matchAll(new RegExp(`^ *(\\d+) ${word}$`, "gm"))].at(-1)?.[1] ?? 0);

/** What stands above each `(fail)` of bun's output up to the test before it: the error, and what the test printed. */
const FAILED = /(?:^(?!\((?:pass|fail|skip|todo)\)).*\n)*^\(fail\).*$/gm;

/** Runs one part of the tests in its own process: a crash of a driver costs that part only. */
async function runTests(path) {
  const args = ["test", `./${path}`];
  const whole = jobs > 1;
  let result = await run(args, whole);
  const unfinished = ({ died, output }) => died || !/^Ran \d+ tests? across/m.test(output);
  if (unfinished(result)) {
    // A GPU binding can take the whole process down. That is no verdict on the tests, so they run once more, and it is told.
    console.error(`${path}: the process died (exit code ${result.code}); running it once more`);
    notRun.push(`${path}: died once with exit code ${result.code}, then ran again`);
    result = await run(args, whole);
  }
  const { code, output } = result;
  const [passed, failed] = [count(output, "pass"), count(output, "fail")];
  const skipped = count(output, "skip") + count(output, "todo");
  const silent = passed + failed + skipped === 0;
  if (silent) console.error(`${path}: no tests ran`);
  total.passed += passed;
  total.failed += failed === 0 && (code !== 0 || silent) ? 1 : failed; // an end without a failed test is a failure too
  const [told] = output.split(/^\d+ tests? failed:$/m); // bun names them once more
  for (const [failure] of told.matchAll(FAILED)) fail(path, failure);
  if (failed === 0 && (code !== 0 || silent))
    fail(path, `exit code ${code}, ${silent ? "no tests ran" : "no test failed"}`);
  total.skipped += skipped;
  for (const [line] of output.matchAll(/^(?:\((?:skip|todo)\)|SKIPPED).*$/gm)) notRun.push(`${path}: ${line}`);
}

for (const check of CHECKS) {
  console.log(`\n== ${check}`);
  const { code, output } = await run(["run", check]);
  if (code === 0) total.passed += 1;
  else {
    fail(check, output);
    total.failed += 1;
  }
}

const files = readdirSync(join(root, "tests"), { recursive: true }).filter((name) => name.endsWith(".test.ts"));
/** A folder is run in one process; the golden runs take minutes each, so each of their files has one of its own. */
const partOf = (file) => (jobs > 1 || file.startsWith("golden/") ? file : file.split("/")[0]);
/** @type {string[]} */
const parts = [...new Set(files.map((file) => `tests/${partOf(file.replaceAll("\\", "/"))}`))];
parts.sort();
const left = [...parts];
const work = async () => {
  for (let part = left.shift(); part !== undefined; part = left.shift()) {
    console.log(`\n== ${part}`);
    await runTests(part);
  }
};
await Promise.all(Array.from({ length: jobs }, work));

if (notRun.length > 0) console.log(`\nNot run, or not at once:\n${notRun.map((line) => `  ${line}`).join("\n")}`);
// Failures stand at the end, where a long log is read first.
for (const failure of failures) console.log(`\n${failure}`);
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 || parts.length === 0 ? 1 : 0;
