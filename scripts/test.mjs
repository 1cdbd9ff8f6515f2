// `npm test`: sets up, runs the checks and the tests, and ends with `N passed, N failed, N skipped`.
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setUp } from "./setup.mjs";

/** Scripts of package.json, each counted as one test. */
const CHECKS = ["format", "lint", "types", "knip", "package"];
const TIMEOUT_MS = 120_000;

const { bun, env, root } = setUp();
const total = { passed: 0, failed: 0, skipped: 0 };

/** Runs a command with its output streamed; resolves with its exit code. */
function run(args) {
  return new Promise((resolve) => {
    const child = spawn(bun, args, { cwd: root, env, stdio: ["ignore", "inherit", "inherit"] });
    child.on("error", () => resolve(1));
    child.on("close", (code) => resolve(code ?? 1));
  });
}

const attribute = (xml, name) => Number(new RegExp(`<testsuites[^>]*\\s${name}="(\\d+)"`).exec(xml)?.[1] ?? Number.NaN);

/** Names of skipped tests, so that none is skipped silently. */
const skippedNames = (xml) =>
  [...xml.matchAll(/<testcase name="([^"]*)"[^>]*?(?:\/>|>\s*(<skipped)?)/g)]
    .filter(([, , skip]) => skip)
    .map(([, name]) => name);

/** Runs one part of the tests in its own process: a crash of a driver costs that part only. */
async function runTests(path, folder) {
  const report = join(folder, `${path.replaceAll("/", "-")}.xml`);
  const args = [
    "test",
    `./${path}`,
    "--timeout",
    String(TIMEOUT_MS),
    "--reporter=junit",
    `--reporter-outfile=${report}`,
  ];
  const code = await run(args);
  let xml = "";
  try {
    xml = readFileSync(report, "utf8");
  } catch {
    console.error(`${path}: bun test ended with ${code} and left no report`);
  }
  const [tests, failures, skipped] = ["tests", "failures", "skipped"].map((name) => attribute(xml, name));
  if (!(tests > 0)) {
    console.error(`${path}: no tests ran`);
    total.failed += 1;
    return;
  }
  const failed = failures === 0 && code !== 0 ? 1 : failures; // an error outside of any test
  total.failed += failed;
  total.skipped += skipped;
  total.passed += tests - failures - skipped;
  for (const name of skippedNames(xml)) console.log(`SKIPPED ${path}: ${name}`);
}

for (const check of CHECKS) {
  console.log(`\n== ${check}`);
  const code = await run(["run", check]);
  if (code === 0) total.passed += 1;
  else {
    console.error(`${check}: failed`);
    total.failed += 1;
  }
}

const folder = mkdtempSync(join(tmpdir(), "qlora-test-"));
const isTest = (name) => name.endsWith(".test.ts");
const parts = readdirSync(join(root, "tests"), { withFileTypes: true })
  .filter((entry) =>
    entry.isDirectory()
      ? readdirSync(join(root, "tests", entry.name), { recursive: true }).some(isTest)
      : isTest(entry.name),
  )
  .map((entry) => `tests/${entry.name}`)
  .sort();
for (const part of parts) {
  console.log(`\n== ${part}`);
  await runTests(part, folder);
}
rmSync(folder, { recursive: true, force: true });

console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 || parts.length === 0 ? 1 : 0;
