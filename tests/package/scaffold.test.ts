/** `qlora plugin new`, outside the repository and against the packed project: typechecks, passes its tests, trains by name. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import packageJson from "../../package.json" with { type: "json" };
import { tiers } from "../support/gpu.ts";
import { typescriptCompiler } from "../support/packages.ts";
import { expectRun, installPacked, type Outside, runIn, tinyRunFlags } from "../support/packed.ts";

const compiler = typescriptCompiler();
let outside: Outside;

beforeAll(async () => {
  outside = await installPacked();
  writeFileSync(join(outside.folder, "rows.csv"), demoCsv(24, 3));
}, 60_000);
afterAll(() => outside.remove());

/** What a package manager does for a folder given by its path. */
function install(name: string, folder: string): void {
  const place = join(outside.folder, "node_modules", name);
  mkdirSync(dirname(place), { recursive: true });
  symlinkSync(folder, place);
}

const KINDS = [
  { kind: "optimizer", name: "first-step", package: "qlora-plugin-first-step", flag: "--optimizer", cli: "first-step" },
  { kind: "metric", name: "@me/top", package: "@me/qlora-plugin-top", flag: "--metrics", cli: "@me/top" },
  { kind: "adapter", name: "qlora-plugin-thin", package: "qlora-plugin-thin", flag: "--adapter", cli: "thin" },
  { kind: "reporter", name: "hook", package: "qlora-plugin-hook", flag: "--report-to", cli: "hook" },
  { kind: "model", name: "mean", package: "qlora-plugin-mean", flag: "--model", cli: "mean" },
] as const;

for (const { kind, name, package: packageName, flag, cli } of KINDS) {
  describe(`${kind} ${name}`, () => {
    const folder = (): string => join(outside.folder, packageName.split("/").at(-1)!);

    test("is written whole", async () => {
      const { exit, stdout, stderr } = await outside.qlora("plugin", "new", kind, name);
      expect(exit, stderr).toBe(0);
      expect(stdout).toContain(`bun add ./${packageName.split("/").at(-1)!} && qlora train ${flag} `);
      const manifest = JSON.parse(readFileSync(join(folder(), "package.json"), "utf8")) as Record<string, unknown>;
      expect(manifest).toMatchObject({ name: packageName, type: "module", exports: "./src/index.ts" });
      expect(manifest["keywords"]).toContain("qlora-plugin");
      expect(manifest["peerDependencies"]).toEqual({ qlora: `^${packageJson.version}` });
      for (const file of [".gitignore", "README.md", "tsconfig.json", "src/index.ts", "test/index.test.ts"])
        expect(existsSync(join(folder(), file)), file).toBe(true);
      const text = await expectRun(folder(), ["cat", "README.md", "src/index.ts", "test/index.test.ts"]);
      expect(text).not.toMatch(/my.?plugin|package-name|cli-name/i);
    }, 30_000);

    test.skipIf(compiler === undefined)(
      "typechecks",
      async () => {
        const ran = await runIn(folder(), [process.execPath, compiler!, "-p", "."]);
        expect(ran).toEqual({ exit: 0, stdout: "", stderr: "" });
      },
      120_000,
    );

    test("passes its tests", async () => {
      // As it is printed, `bun test` gives a test five seconds, too few where kernels are compiled; the files' own limit wins.
      const hurry = kind === "metric" || kind === "reporter" ? [] : ["--timeout", "1"];
      const { exit, stderr } = await runIn(folder(), [process.execPath, "test", ...hurry]);
      expect(exit, stderr).toBe(0);
      expect(stderr).toMatch(/^ *\d+ pass$/m);
    }, 300_000);

    test.skipIf(tiers.length === 0)(
      "trains by its name, and as a folder",
      async () => {
        install(packageName, folder());
        const run = join(outside.folder, `run-${kind}`);
        const flags = tinyRunFlags(outside, "rows.csv", run).join("\n");
        const own = kind === "adapter" ? flags.replace("q_proj,v_proj", "q_proj,o_proj") : flags;
        const fitting = kind === "model" ? own.replace("q_proj,v_proj", "gate_proj,down_proj") : own;
        const trained = await outside.qlora("train", ...fitting.split("\n"), flag, cli, "--eval-strategy", "epoch");
        expect(trained.exit, trained.stderr).toBe(0);
        const record = JSON.parse(readFileSync(join(run, "run.json"), "utf8")) as { config: Record<string, unknown> };
        const key = kind === "metric" ? "metrics" : kind === "reporter" ? "reportTo" : kind;
        expect([record.config[key]].flat()).toMatchObject([
          { name: name.split("/").at(-1)!.replace("qlora-plugin-", ""), from: cli },
        ]);
        // What was trained is found again by the record: the metric, adapter or model in `eval`.
        const evaluated = await outside.qlora("eval", run, "--json");
        expect(evaluated.exit, evaluated.stderr).toBe(0);
        const path = `./${folder().split("/").at(-1)!}`;
        const dry = await outside.qlora("train", ...fitting.split("\n"), flag, path, "--print-config");
        expect(dry.exit, dry.stderr).toBe(0);
      },
      240_000,
    );
  });
}

test("a package beside a qlora that no registry has names the same one", async () => {
  const manifest = join(outside.folder, "package.json");
  const specOf = async (spec: string, output: string): Promise<unknown> => {
    writeFileSync(manifest, JSON.stringify({ dependencies: { qlora: spec } }));
    const { exit, stderr } = await outside.qlora("plugin", "new", "metric", "near", "--output", output);
    expect(exit, stderr).toBe(0);
    const text = readFileSync(join(outside.folder, output, "package.json"), "utf8");
    return (JSON.parse(text) as { devDependencies: Record<string, string> }).devDependencies["qlora"];
  };
  expect(await specOf("./qlora-0.1.0.tgz", "deep/near")).toBe("file:../../qlora-0.1.0.tgz");
  expect(await specOf("file:../qlora", "near")).toBe("file:../../qlora");
  expect(await specOf("https://example.org/qlora.tgz", "far")).toBe("https://example.org/qlora.tgz");
  expect(await specOf("^0.1.0", "published")).toBeUndefined();
  rmSync(manifest);
}, 30_000);

test("what cannot be a plugin is refused in one sentence, and nothing is written", async () => {
  const refused = async (...args: readonly string[]): Promise<string> => {
    const { exit, stderr } = await outside.qlora("plugin", ...args);
    expect(exit).toBe(2);
    return stderr;
  };
  expect(await refused("new", "optimiser", "adan")).toContain(
    'KIND: got "optimiser", expected one of model, adapter, optimizer, metric, reporter; did you mean "optimizer"?',
  );
  expect(await refused("nwe", "optimizer", "adan")).toContain('ACTION: got "nwe", expected new; did you mean "new"?');
  expect(await refused("new", "metric", "Top K")).toContain('NAME: got "Top K", expected lower-case words');
  expect(await refused("new", "adapter", "lora")).toContain(
    "NAME: got lora, but a plugin of this name ships with qlora",
  );
  expect(await refused("new", "metric", "default")).toContain("it is a word of TypeScript");
  mkdirSync(join(outside.folder, "qlora-plugin-taken"));
  expect(await refused("new", "metric", "taken")).toContain("there is such a folder already; nothing was written");
  expect(existsSync(join(outside.folder, "qlora-plugin-adan"))).toBe(false);
}, 30_000);
