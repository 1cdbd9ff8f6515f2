import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { PluginError } from "../../core/errors.ts";
import { resolveRecorded } from "../../runtime/config/recorded.ts";
import { resolvePlugin } from "../../runtime/config/resolve.ts";
import { shipped } from "../cli/fixtures/plugins.ts";
import { qlora } from "../support/command-line.ts";
import { tinyCheckpoint } from "../support/reference.ts";

const sources = join(import.meta.dir, "../../core");
let root = "";
let marker = "";
let rows = "";
let count = 0;

/** A module that leaves a mark when it runs; it exports nothing that serves. */
function evil(path: string): string {
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, `import { writeFileSync } from "node:fs"; writeFileSync(${JSON.stringify(marker)}, "ran");`);
  return path;
}

interface Parts {
  readonly model?: unknown;
  readonly adapter?: unknown;
  readonly metrics?: readonly unknown[];
}

/** A run's folder as `train` leaves it, but for the plugins that its record names. */
function runFolder(parts: Parts, name = `run-${count++}`): string {
  const run = join(root, name);
  mkdirSync(run, { recursive: true });
  const model = { name: "gemma2", options: { checkpoint: tinyCheckpoint } };
  const adapter = { name: "lora", options: {} };
  const config = { model, adapter, metrics: [], data: {}, training: {}, ...parts };
  writeFileSync(join(run, "run.json"), JSON.stringify({ config, data: { numLabels: 3 } }));
  const peft = { peft_type: "LORA", r: 2, lora_alpha: 2, target_modules: ["q_proj"], task_type: "SEQ_CLS" };
  writeFileSync(join(run, "adapter_config.json"), JSON.stringify(peft));
  return run;
}

const pack = (folder: string, name: string): string => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name, version: "1.0.0", main: "index.ts" }));
  return evil(join(folder, "index.ts"));
};

beforeAll(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "qlora-recorded-")));
  marker = join(root, "marker");
  rows = join(root, "rows.csv");
  writeFileSync(rows, "text,label\na,0\nb,1\n");
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const ran = (): boolean => {
  const there = existsSync(marker);
  rmSync(marker, { force: true });
  return there;
};

const commands: Readonly<Record<string, (run: string) => readonly string[]>> = {
  predict: (run) => ["predict", run, rows],
  eval: (run) => ["eval", run, rows],
  merge: (run) => ["merge", run, rows, "--output", join(root, "merged")],
};

const file = (run: string): string => evil(join(run, `evil-${count++}.ts`));
/** Ways for a record to name code; each gives the spec and the file that it leads to. */
const ways: Readonly<Record<string, (run: string) => readonly [spec: string, file: string]>> = {
  "an absolute path": (run) => [file(run), join(run, `evil-${count - 1}.ts`)],
  "a path with an export": (run) => [`${file(run)}#adapter`, join(run, `evil-${count - 1}.ts`)],
  "a URL": (run) => {
    const path = file(run);
    return [pathToFileURL(path).href, path];
  },
  "a relative path": (run) => {
    const path = file(run);
    return [`./${relative(process.cwd(), path)}`, path];
  },
  "a path that climbs": (run) => {
    const path = file(join(root, "beside"));
    return [`${run}/../beside/${path.split("/").at(-1)!}`, path];
  },
  "a link to a file elsewhere": (run) => {
    const path = file(join(root, "elsewhere"));
    const link = join(run, `link-${count++}.ts`);
    symlinkSync(path, link);
    return [link, path];
  },
  "a package's folder": (run) => {
    const path = pack(join(run, "package"), "package");
    return [join(run, "package"), join(path, "..")];
  },
};

for (const [command, argv] of Object.entries(commands)) {
  for (const [way, make] of Object.entries(ways)) {
    for (const kind of ["model", "adapter"] as const) {
      test(`${command} runs no ${kind} that run.json names by ${way}`, async () => {
        const run = runFolder({});
        const [spec, path] = make(run);
        runFolder({ [kind]: { name: "mine", options: {}, from: spec } }, run.split("/").at(-1));
        const { code, stderr, stdout } = await qlora(...argv(run));
        expect(stderr).toContain(
          `run.json of ${run}: config.${kind}: ${JSON.stringify(spec)} would run the file ${path}`,
        );
        expect(stderr).toContain(`Read ${path}; where you trust it, give --trust-remote-code`);
        expect([code, stdout, ran()]).toEqual([2, "", false]);
      });
    }
  }

  test(`${command} --trust-remote-code runs what run.json names`, async () => {
    const run = runFolder({});
    const options = { checkpoint: tinyCheckpoint };
    runFolder({ model: { name: "mine", options, from: file(run) } }, run.split("/").at(-1));
    const { stderr } = await qlora(...argv(run), "--trust-remote-code");
    expect(stderr).toContain("exports nothing"); // that file has no plugin: it was loaded
    expect(ran()).toBe(true);
  });
}

test("a checkpoint's record above it, a name in place of a path, and metrics are held to the same", async () => {
  const run = runFolder({});
  const path = file(run);
  for (const named of [{ name: path }, { name: `./${relative(process.cwd(), path)}`, from: undefined }]) {
    runFolder({ adapter: { ...named, options: {} } }, run.split("/").at(-1));
    const checkpoint = join(run, "checkpoint-1");
    mkdirSync(checkpoint, { recursive: true });
    writeFileSync(join(checkpoint, "adapter_config.json"), readFileSync(join(run, "adapter_config.json")));
    for (const folder of [run, checkpoint]) {
      const { code, stderr } = await qlora("predict", folder, rows);
      expect(stderr).toContain(`would run the file ${path}`);
      expect([code, ran()]).toEqual([2, false]);
    }
  }
  runFolder({ metrics: [{ name: "mine", options: {}, from: path }] }, run.split("/").at(-1));
  const { code, stderr } = await qlora("eval", run, rows);
  expect(stderr).toContain(`config.metrics: ${JSON.stringify(path)} would run the file ${path}`);
  expect([code, ran()]).toEqual([2, false]);
});

test("commands that only read a run never run its code", async () => {
  const run = runFolder({});
  const path = file(run);
  const named = { name: "mine", options: {}, from: path };
  runFolder({ model: named, adapter: named, metrics: [named] }, run.split("/").at(-1));
  const other = runFolder({ model: named, adapter: named, metrics: [named] });
  const probabilities = join(run, "p.csv");
  writeFileSync(probabilities, "id,label_0,label_1\n1,0.5,0.5\n");
  for (const argv of [
    ["runs", run],
    ["runs", "compare", run, other],
    ["ensemble", probabilities],
    ["adapters", "average", run, other, "--output", join(root, "mean")],
    [
      "train",
      "--model",
      tinyCheckpoint,
      "--train-files",
      rows,
      "--output-dir",
      run,
      "--resume-from-checkpoint",
      "--dry-run",
    ],
  ]) {
    await qlora(...argv);
    expect(ran(), argv.join(" ")).toBe(false);
  }
});

test("a package by its name is the user's own where it is installed, not where it lies in the run's folder or links into it", async () => {
  const resolve = (spec: unknown, from: string, run: string, trust = false): Promise<string> =>
    resolveRecorded("adapter", { name: "mine", from: spec }, { shipped, from, run, trust }).then(
      ({ name }) => name,
      (error: unknown) => (error as PluginError).message,
    );
  const home = join(root, "home");
  const good = join(home, "node_modules/qlora-plugin-good");
  pack(good, "qlora-plugin-good");
  writeFileSync(
    join(good, "index.ts"),
    `import { defineOptions } from ${JSON.stringify(join(sources, "options/options.ts"))};
     import { definePlugin } from ${JSON.stringify(join(sources, "plugin/factory.ts"))};
     export const good = definePlugin("adapter", { name: "good", options: defineOptions({}), create() {} });`,
  );
  const run = runFolder({}, "home/run");
  expect(await resolve("good", home, run)).toBe("good");
  expect(await resolve("qlora-plugin-good#good", home, run)).toBe("good");

  // The working folder is the run's own, or one inside it.
  const inside = pack(join(run, "node_modules/qlora-plugin-evil"), "qlora-plugin-evil");
  for (const from of [run, join(run, "checkpoint-1"), join(run, "a/b")]) {
    mkdirSync(from, { recursive: true });
    for (const spec of ["evil", "qlora-plugin-evil", "qlora-plugin-evil#x"])
      expect(await resolve(spec, from, run)).toContain(`would run the file ${inside}`);
  }
  expect(await resolve("good", run, run)).toBe("good"); // seen from there, but outside of it

  // A link among the installed packages that leads into the run's folder; an entry that climbs out of its package.
  symlinkSync(join(run, "node_modules/qlora-plugin-evil"), join(home, "node_modules/linked"));
  expect(await resolve("linked", home, run)).toContain(`would run the file ${inside}`);
  const climbing = join(home, "node_modules/climbing");
  mkdirSync(climbing);
  writeFileSync(
    join(climbing, "package.json"),
    JSON.stringify({ name: "climbing", main: "../../run/node_modules/qlora-plugin-evil/index.ts" }),
  );
  expect(await resolve("climbing", home, run)).toContain(`would run the file ${inside}`);
  // The run's folder reached by a link of its own.
  symlinkSync(run, join(home, "alias"));
  expect(await resolve("linked", home, join(home, "alias"))).toContain(`would run the file ${inside}`);

  // What is no package's name is no package.
  for (const spec of [
    "good/../../run/x.ts",
    "../run/x.ts",
    "..",
    "a\\b",
    "data:text/javascript,1",
    "node:fs",
    "@me/../x",
    "good/index.ts",
  ])
    expect(await resolve(spec, home, run), spec).toContain("would run the file");
  for (const spec of [5, {}, [], "", true])
    expect(await resolve(spec, home, run)).toContain("expected the name of an adapter");
  expect(await resolve("fs", home, run)).toContain("no package qlora-plugin-fs or fs is installed");
  expect(ran()).toBe(false);
});

test("what this process has loaded by the same path already is no new code", async () => {
  const path = join(root, "own.ts");
  writeFileSync(
    path,
    `import { defineOptions } from ${JSON.stringify(join(sources, "options/options.ts"))};
     import { definePlugin } from ${JSON.stringify(join(sources, "plugin/factory.ts"))};
     export const own = definePlugin("adapter", { name: "own", options: defineOptions({}), create() {} });`,
  );
  const context = { shipped, from: root, run: join(root, "run"), trust: false };
  const named = { name: "own", from: path };
  const refused: unknown = await resolveRecorded("adapter", named, context).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(PluginError);
  await resolvePlugin("adapter", "./own.ts", { shipped, from: root });
  expect((await resolveRecorded("adapter", named, context)).name).toBe("own");
});
