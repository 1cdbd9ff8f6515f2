// `npm test`: sets up, runs the checks and the tests, and ends with `N passed, N failed, N skipped`.
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { setUp } from "./setup.mjs";

/** Scripts of package.json, each counted as one test. */
const CHECKS = ["format", "lint", "types", "knip", "package"];
const TIMEOUT_MS = 300_000;

const { bun, env, root } = setUp();
const total = { passed: 0, failed: 0, skipped: 0 };
const notRun = [];

/** Runs Bun with its output streamed; resolves with its exit code and its output. */
function run(args) {
  return new Promise((resolve) => {
    const child = spawn(bun, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const take = (to) => (chunk) => {
      output += chunk;
      to.write(chunk);
    };
    child.stdout.setEncoding("utf8").on("data", take(process.stdout));
    child.stderr.setEncoding("utf8").on("data", take(process.stderr));
    child.on("error", (error) => resolve({ code: 1, died: false, output: `${output}${error.message}` }));
    child.on("close", (code, signal) => resolve({ code: code ?? 1, died: signal !== null || code > 128, output }));
  });
}

/** The last count of `word` in bun's summary, such as ` 12 pass`. */
const count = (output, word) => Number([...output.matchAll(new RegExp(`^ *(\\d+) ${word}$`, "gm"))].at(-1)?.[1] ?? 0);

/** Runs one part of the tests in its own process: a crash of a driver costs that part only. */
async function runTests(path) {
  const args = ["test", `./${path}`, "--timeout", String(TIMEOUT_MS)];
  let result = await run(args);
  const unfinished = ({ died, output }) => died || !/^Ran \d+ tests? across/m.test(output);
  if (unfinished(result)) {
    // A GPU binding can take the whole process down. That is no verdict on the tests, so they run once more, and it is told.
    console.error(`${path}: the process died (exit code ${result.code}); running it once more`);
    notRun.push(`${path}: died once with exit code ${result.code}, then ran again`);
    result = await run(args);
  }
  const { code, output } = result;
  const [passed, failed] = [count(output, "pass"), count(output, "fail")];
  const skipped = count(output, "skip") + count(output, "todo");
  const silent = passed + failed + skipped === 0;
  if (silent) console.error(`${path}: no tests ran`);
  total.passed += passed;
  total.failed += failed === 0 && (code !== 0 || silent) ? 1 : failed; // an end without a failed test is a failure too
  total.skipped += skipped;
  for (const [line] of output.matchAll(/^(?:\((?:skip|todo)\)|SKIPPED).*$/gm)) notRun.push(`${path}: ${line}`);
}

for (const check of CHECKS) {
  console.log(`\n== ${check}`);
  const { code } = await run(["run", check]);
  if (code === 0) total.passed += 1;
  else {
    console.error(`${check}: failed`);
    total.failed += 1;
  }
}

const isTest = (name) => name.endsWith(".test.ts");
const holdsTests = (entry) =>
  entry.isDirectory()
    ? readdirSync(join(root, "tests", entry.name), { recursive: true }).some(isTest)
    : isTest(entry.name);
/** A folder is run in one process; the golden runs take minutes each, so each of their files has one of its own. */
const pathsOf = (entry) =>
  entry.name === "golden"
    ? readdirSync(join(root, "tests/golden"))
        .filter(isTest)
        .map((name) => `tests/golden/${name}`)
    : [`tests/${entry.name}`];
const parts = readdirSync(join(root, "tests"), { withFileTypes: true }).filter(holdsTests).flatMap(pathsOf).sort();
for (const part of parts) {
  console.log(`\n== ${part}`);
  await runTests(part);
}

if (notRun.length > 0) console.log(`\nNot run, or not at once:\n${notRun.map((line) => `  ${line}`).join("\n")}`);
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 || parts.length === 0 ? 1 : 0;
