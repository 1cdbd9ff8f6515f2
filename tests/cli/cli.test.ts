import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { type Ended, runOver } from "../support/command-line.ts";
import { services } from "./fixtures/services.ts";

const fixtures = join(import.meta.dir, "fixtures");
let folder = "";
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "qlora-cli-"))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(script: string, argv: readonly string[]): Promise<Ended> {
  const child = Bun.spawn([process.execPath, script, ...argv], { cwd: folder, stdout: "pipe", stderr: "pipe" });
  const [code, stdout, stderr] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  return { code, stdout, stderr };
}

/** Starting a process can take seconds on a busy machine. */
const SPAWN_MS = 60_000;

/** The command line over a mute SDK, as its own process. */
const spawned = (...argv: string[]): Promise<Ended> => run(join(fixtures, "main.ts"), argv);

/** The same in this process, which is faster. */
const qlora = (...argv: string[]): Promise<Ended> => runOver(services, argv);

/** The one that ships. */
const shipped = (...argv: string[]): Promise<Ended> => run(join(import.meta.dir, "../../cli/main.ts"), argv);
const configOf = ({ stdout }: Ended): Record<string, Record<string, unknown>> => JSON.parse(stdout) as never;

const model = ["--model.checkpoint", "gemma"];
const project = ["--config", join(fixtures, "project.config.ts")];

describe("a newcomer's mistakes", () => {
  const cases: readonly (readonly [argv: readonly string[], code: number, ...texts: string[]])[] = [
    [["train"], 2, "model.checkpoint: got nothing, expected a string", "Give --model a checkpoint's folder"],
    [["train", ...model, "--target-modules", "q_proj"], 2, 'unknown flag; did you mean "--adapter.target-modules"?'],
    [["train", ...model, "--target_modules", "q_proj"], 2, 'unknown flag; did you mean "--adapter.target-modules"?'],
    [["train", ...model, "--learning_rate", "1"], 2, 'unknown flag; did you mean "--learning-rate"?'],
    [["train", ...model, "--lora-alpha", "16"], 2, 'unknown flag; did you mean "--adapter.alpha"?'],
    [["train", ...model, "--adapter.r", "16"], 2, 'unknown flag; did you mean "--adapter.rank"?'],
    [["train", ...model, "--output-dir", ""], 2, '--output-dir: got "", expected a string'],
    [
      ["train", ...model, "--metrics", "expected-cost"],
      2,
      "metric expected-cost: costs: got nothing, expected a list of number[]",
      "Give it as --metrics.expected-cost.costs VALUE, or in a config file as an option of the metric: { costs: VALUE }.",
    ],
    [
      ["train", ...model, "--metrics", "expected-cost", "--metrics.expected-cost.cost", "[[1]]"],
      2,
      '--metrics.expected-cost.cost: unknown flag; did you mean "--metrics.expected-cost.costs"?',
    ],
    [["train", ...model, "--class-weights", "0,0"], 2, "training.classWeights: got 0, 0, expected one above 0"],
    [["train", ...model, "--metrics", "accurcy"], 2, "--metrics accurcy: ", 'did you mean "accuracy"?'],
    [["train", "--model", "nowhere"], 2, "A checkpoint is a folder that is there, or a model of the hub as org/name."],
    [["train", "--model", "."], 2, "--model .: ", "has no entry file"],
    [["train", "--optimizer", "pack"], 2, "Write ./pack for the folder of this name."],
    [["push", "run"], 2, "--repo: got nothing, expected org/name"],
    [["cv", ...model, "--folds", "x"], 2, '--folds: got "x", expected an integer >= 2'],
    [["merge", "run", "--output", "out", "--rows", "x"], 2, '--rows: got "x", expected an integer >= 0'],
    [["ensemble", "a.csv", "b.csv", "--weights", "1,a"], 2, '--weights 1,a: got "a", expected a number >= 0 for each'],
    [["ensemble", "a.csv", "--weights", ","], 2, '--weights ,: got "", expected a number >= 0', "--weights 0.6,0.4."],
    [["ensemble", "a.csv", "--temperature", "hot"], 2, '--temperature: got "hot", expected a number > 0\n'],
    [["adapters", "avg", "a", "b", "--output", "out"], 2, 'ACTION: got "avg", expected average\n'],
  ];
  test.each(cases)("qlora %j ends with %d and says what to do", async (argv, code, ...texts) => {
    mkdirSync(join(folder, "pack"), { recursive: true });
    await Bun.write(join(folder, "package.json"), "{}");
    const from = process.cwd();
    process.chdir(folder);
    try {
      const ended = await qlora(...argv);
      expect({ code: ended.code, stdout: ended.stdout }).toEqual({ code, stdout: "" });
      for (const text of texts) expect(ended.stderr).toContain(text);
      expect(ended.stderr).not.toContain("    at ");
    } finally {
      process.chdir(from);
    }
  });
});

describe("help and version", () => {
  test(
    "--version and --help go to stdout, plain in a pipe",
    async () => {
      const [version, inCommand, help] = await Promise.all([
        shipped("--version"),
        shipped("train", "--version"),
        shipped("--help"),
      ]);
      expect(version).toEqual({ code: 0, stdout: `${packageJson.version}\n`, stderr: "" });
      expect(inCommand).toEqual(version);
      expect(help.code).toBe(0);
      expect(help.stderr).toBe("");
      for (const name of ["train", "eval", "predict", "runs", "watch", "inspect", "doctor"])
        expect(help.stdout).toContain(name);
      expect(help.stdout).not.toContain("\u001B");
    },
    SPAWN_MS,
  );

  test("a command's help lists its own flags and its plugins' options with defaults", async () => {
    const { code, stdout } = await qlora("train", "--help");
    expect(code).toBe(0);
    expect(stdout).not.toContain("\u001B");
    expect(stdout).toMatch(/--dry-run/);
    expect(stdout).toMatch(/--learning-rate +peak learning rate \(a number >= 0; default: 0.00005\)/);
    expect(stdout).toMatch(/--adapter\.rank +LoRA rank r \(an integer >= 1; default: 8\)/);
    expect(stdout).toMatch(/--model\.checkpoint +folder of the checkpoint \(a string; required\)/);
  });

  test("what a run's record decides has no default of its own in eval's help", async () => {
    const { stdout } = await qlora("eval", "--help");
    expect(stdout).toMatch(/--max-length .*\(an integer >= 1 and <= 1048576\)/);
    expect(stdout).toMatch(/--tier .*default: auto\)/);
  });

  test("help follows the plugin that is named", async () => {
    const { stdout } = await qlora("train", "--adapter", join(fixtures, "dora.ts"), "--help");
    expect(stdout).toContain("--adapter.magnitude");
    expect(stdout).not.toContain("--adapter.rank");
  });
});

describe("usage errors exit 2, say the nearest name, and leave stdout empty", () => {
  test.each([
    [["trian"], 'trian: unknown command; did you mean "train"?'],
    [[], "no command"],
    [["--frobnicate"], "--frobnicate: unknown flag"],
    [["train", ...model, "--lerning-rate", "1"], '--lerning-rate: unknown flag; did you mean "--learning-rate"?'],
    [["train", ...model, "--adapter.rnak", "8"], '--adapter.rnak: unknown flag; did you mean "--adapter.rank"?'],
    [["train", ...model, "--adapter.rank", "x"], '--adapter.rank: got "x", expected an integer >= 1'],
    [["train", ...model, "--adapter.rank"], "--adapter.rank: got nothing, expected an integer >= 1"],
    [["train", ...model, "--learning-rate", "--json"], "--learning-rate: got nothing, expected a number >= 0"],
    [["train", ...model, "--no-learning-rate"], '--no-learning-rate: this flag takes a value and no "no-"'],
    [["train", ...model, "--tier", "f8"], '--tier: got "f8", expected "auto", "f32", "f16" or "matrix"'],
    [["train", ...model, "--json=yes"], '--json: got "yes", expected no value'],
    [["train", ...model, "extra"], "extra: unexpected argument"],
    [["train", ...model, "-x"], "-x: unknown flag"],
    [["train", ...model, "--config", "none.ts"], "--config none.ts: no such file"],
    [["train", ...model], "data.trainFiles: got nothing, expected at least one file"],
    [["train", ...model, "--adapter", "loar"], 'did you mean "lora"?'],
    [["train", ...model, "--adapter", "adamw"], "adamw is an optimizer, expected an adapter"],
    [["eval"], "RUN: got nothing"],
    [["watch", "--port", "0"], "RUN: got nothing"],
    [["watch", "output", "--port", "65536"], '--port: got "65536", expected an integer >= 0 and <= 65535'],
    [["watch", "package.json"], "package.json: is a file, expected a run's folder"],
    [["runs", "compare", "output"], "compare: got 1 run, expected two or more"],
    [["doctor", "--gpu", "cuda"], '--gpu: got "cuda", expected "auto", "bun-webgpu" or "webgpu"'],
  ])("qlora %j", async (argv, message) => {
    const { code, stdout, stderr } = await qlora(...argv);
    expect(stderr).toContain(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  });

  test("problems of flags and config are told together, each once", async () => {
    const { code, stderr } = await qlora("train", "--adapter.rank", "x", "--zzz", "1", "--fold-idx", "3");
    expect(code).toBe(2);
    expect(stderr).toContain("4 problems:");
    for (const part of [
      "--adapter.rank: got",
      "--zzz: unknown",
      "model.checkpoint: got nothing",
      "data.foldIdx: got 3",
    ]) {
      expect(stderr.split(part)).toHaveLength(2);
    }
  });

  test("a config file's problems name the file", async () => {
    const { code, stderr } = await qlora("train", "--config", join(fixtures, "broken.config.ts"));
    expect(code).toBe(2);
    expect(stderr).toContain("broken.config.ts: training.learningRate: got -1, expected a number >= 0");
    expect(stderr).toContain("broken.config.ts: training.seed: got 0.5, expected an integer >= 0");
  });

  test("a config file that does not parse is told with its line", async () => {
    const file = join(folder, "half.config.ts");
    await Bun.write(file, "export default {\n  model: 1\n  adapter: 2\n};\n");
    const { code, stderr } = await qlora("train", "--config", file);
    expect({ code, stderr }).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(
        'half.config.ts does not load: line 3, column 3: Expected "}" but found "adapter"',
      ),
    });
  });

  test("a file that exports no config", async () => {
    const { code, stderr } = await qlora("train", "--config", join(fixtures, "dora.ts"));
    expect(code).toBe(2);
    expect(stderr).toContain("the default export is nothing, expected a config");
  });
});

describe("--print-config", () => {
  test("flag over file over default; an option's default follows the flags", async () => {
    const flags = ["--adapter.rank=16", "--learning-rate", "3e-4", "--n-splits", "5", "--fold-idx=1", "--no-shuffle"];
    const ended = await qlora("train", "--print-config", ...project, ...flags, "--logging-steps", "7");
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(configOf(ended)).toMatchObject({
      model: { name: "gemma2", options: { checkpoint: "from-file", numLabels: 3 } },
      adapter: { name: "lora", options: { rank: 16, alpha: 16, targetModules: ["q_proj"], useRslora: false } },
      optimizer: { name: "adamw" },
      metrics: [{ name: "accuracy" }],
      data: { trainFiles: ["train.csv"], nSplits: 5, foldIdx: 1, maxLength: 1024 },
      training: { learningRate: 3e-4, shuffle: false, loggingSteps: 7, evalSteps: 7, seed: 42 },
      device: { gpu: "auto", robustness: true, tier: "auto" },
    });
  });

  test("a switch takes a true or false that follows it, in Python's spelling too, and no other word", async () => {
    const flags = ["--shuffle", "false", "--no-device.robustness", "--adapter.use-rslora", "True"];
    const ended = await qlora("train", "--print-config", "true", ...project, ...flags);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(configOf(ended)).toMatchObject({
      adapter: { options: { useRslora: true } },
      training: { shuffle: false },
      device: { robustness: false },
    });
    const wrong = await qlora("train", ...project, "--shuffle", "off");
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain("off: unexpected argument");
  });

  test("another plugin starts from its own defaults, and camelCase is as good as kebab-case", async () => {
    const dora = ["--adapter", join(fixtures, "dora.ts"), "--adapter.magnitude", "2"];
    const ended = await qlora("train", "--print-config", ...project, ...dora, "--perDeviceTrainBatchSize", "2");
    expect(configOf(ended)).toMatchObject({
      adapter: { name: "dora", options: { magnitude: 2 } },
      training: { perDeviceTrainBatchSize: 2 },
    });
  });

  test("options of metrics are flags, of those that the command line names and of those in a file", async () => {
    const costs = [
      [0, 5],
      [1, 0],
    ];
    const given = ["--metrics.expected-cost.costs", JSON.stringify(costs), "--metrics.expectedCost.groupBy=topic"];
    const named = await qlora("train", "--print-config", ...model, "--metrics", "log-loss,expected-cost", ...given);
    expect(named).toMatchObject({ code: 0, stderr: "" });
    expect(configOf(named)).toMatchObject({
      metrics: [{ name: "log-loss" }, { name: "expected-cost", options: { costs, groupBy: "topic" } }],
    });
    const none = await qlora("train", "--print-config", ...project, ...given);
    expect(none).toMatchObject({ code: 2 });
    expect(none.stderr).toContain("--metrics.expected-cost.costs: unknown flag"); // the file has accuracy alone
  });

  test("reporters are named as metrics are, and their options are flags", async () => {
    const made = configOf(
      await qlora(
        "train",
        ...model,
        "--report-to",
        "board, my-net",
        "--report-to.my-net.project",
        "p",
        "--print-config",
      ),
    );
    expect(made["reportTo"]).toEqual([
      { name: "board", options: {} },
      { name: "my-net", options: { project: "p" } },
    ] as never);
    expect(
      configOf(await qlora("train", ...model, "--report-to", "none", "--print-config"))["reportTo"],
    ).toBeUndefined();
    const refused = await qlora("train", ...model, "--report-to", "bord", "--print-config");
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('did you mean "board"?')]);
    const synced = await qlora("sync", "run", "--report-to", "my-net", "--report-to.my-net.project", "q", "--json");
    expect(JSON.parse(synced.stdout)).toMatchObject({ outputDir: "run", sent: ['my-net {"project":"q"}'] });
  });

  test("without a file: the shipped plugins, lists by comma, switches alone", async () => {
    const flags = ["--train-files", "a.csv,b.csv", "--adapter.target-modules", "q_proj,k_proj", "--adapter.use-rslora"];
    const ended = await qlora("train", "--print-config", ...model, ...flags, "--metrics", "log-loss");
    expect(configOf(ended)).toMatchObject({
      adapter: { options: { targetModules: ["q_proj", "k_proj"], useRslora: true } },
      optimizer: { name: "adamw8bit" },
      metrics: [{ name: "log-loss" }],
      data: { trainFiles: ["a.csv", "b.csv"] },
    });
  });
});

describe("commands", () => {
  const train = ["train", ...model, "--train-files", "a.csv"];

  test("train: progress on stderr, data on stdout", async () => {
    const { code, stdout, stderr } = await qlora(...train, "--json");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ steps: 2, outputDir: "output" });
    expect(stderr).toContain(
      "step 1/2  epoch 0.50  loss 1.0986  lr 1.00e-4  12.5 samples/s  9000 tokens/s  grad norm 0.500",
    );
    expect(stderr).toContain("warning: 1 steps skipped");
    expect(stderr).toContain("step 2: evaluated in 1:05  eval_log_loss 1.0100");
    expect(stderr).toContain("report: output/report.html");
    expect(stderr).not.toContain("\u001B");
  });

  test("sweep: a row for each arm; a plan that is none is told", async () => {
    const plan = join(folder, "plan.json");
    writeFileSync(plan, '{"parameters": {"adapter.rank": [4, 8]}}');
    const { code, stdout, stderr } = await qlora("sweep", plan, ...model, "--train-files", "a.csv");
    expect(stdout.split("\n").map((line) => line.trim().split(/\s+/))).toEqual([
      ["arm", "adapter.rank", "steps", "eval_loss", "state"],
      ["1", "8", "2", "0.5000", "done"],
      ["0", "4", "2", "waiting"],
      [""],
    ]);
    expect(stderr).toContain("the arms side by side: output/sweep.html of adapter.rank");
    expect(code).toBe(0);
    const missing = await qlora("sweep", "none.json", ...model, "--train-files", "a.csv");
    expect(missing.stderr).toContain("none.json: cannot be read");
    expect(missing.code).toBe(2);
  });

  test("cv: a row for each fold, their mean, and all rows together", async () => {
    const { code, stdout, stderr } = await qlora("cv", ...model, "--train-files", "a.csv", "--folds", "2");
    expect(code).toBe(0);
    expect(stdout.split("\n").map((line) => line.split(/ +/))).toEqual([
      ["fold", "rows", "steps", "eval_log_loss"],
      ["0", "10", "2", "1.0000"],
      ["1", "10", "2", "1.1000"],
      ["mean", "1.0500"],
      ["all", "20", "1.0600"],
      [""],
    ]);
    expect(stderr).toContain("output/out-of-fold.csv");
  });

  test.each([
    ["SIGINT", 130],
    ["SIGHUP", 130],
    ["SIGTERM", 143],
  ] as const)(
    "train: %s lets the step finish and exits %d",
    async (signal, code) => {
      const child = Bun.spawn([process.execPath, join(fixtures, "main.ts"), ...train, "--max-steps", "99"], {
        cwd: folder,
        stdout: "pipe",
        stderr: "pipe",
      });
      const reader = child.stderr.getReader();
      let text = "";
      const readUntil = async (wanted: string): Promise<void> => {
        while (!text.includes(wanted)) {
          const { done, value } = await reader.read();
          if (done) break;
          text += new TextDecoder().decode(value);
        }
      };
      await readUntil("saved");
      child.kill(signal);
      await readUntil("goes on from here");
      expect(text).toContain("interrupted: finishing the step and saving");
      expect(await child.exited).toBe(code);
    },
    SPAWN_MS,
  );

  test(
    "a stdout that nobody reads ends quietly, a full one and a closed one are one sentence, a full stderr is nothing",
    async () => {
      const shell = async (redirect: string): Promise<{ code: number; stderr: string; stdout: string }> => {
        const script = `"$BUN" "$MAIN" predict output --json ${redirect}`;
        const env = { ...process.env, BUN: process.execPath, MAIN: join(fixtures, "main.ts") };
        const child = Bun.spawn(["bash", "-c", `set -o pipefail; ${script}`], {
          cwd: folder,
          env,
          stdout: "pipe",
          stderr: "pipe",
        });
        const [stdout, stderr] = await Promise.all([
          new Response(child.stdout).text(),
          new Response(child.stderr).text(),
        ]);
        return { code: await child.exited, stderr, stdout };
      };
      expect(await shell("| true")).toEqual({ code: 0, stderr: "", stdout: "" });
      const full = await shell(">/dev/full");
      expect(full.code).toBe(1);
      expect(full.stderr).toMatch(/^\[error\] stdout: could not be written \(\w+\)\n[^\n]*\n$/);
      expect((await shell("2>/dev/full")).code).toBe(0);
      const closed = await shell(">&-");
      expect(closed.stderr).not.toMatch(/^\s+at /m);
      const told = ["--help >&-", "runs . 2>&-", "wrong 2>/dev/full", "train --print-config --model x >/dev/full"].map(
        async (command) => (await shell(`>/dev/null; "$BUN" "$MAIN" ${command}`)).stderr,
      );
      for (const stderr of await Promise.all(told)) expect(stderr).not.toMatch(/^\s+at /m);
    },
    4 * SPAWN_MS,
  );

  test(
    "exit codes and streams are the process's own",
    async () => {
      const [usage, failed, done] = await Promise.all([
        spawned("train", "--seed", "x"),
        spawned("doctor", "--gpu", "webgpu"),
        spawned("predict", "output"),
      ]);
      expect(usage).toMatchObject({ code: 2, stdout: "" });
      expect(usage.stderr).toContain('--seed: got "x", expected an integer >= 0');
      expect(failed).toMatchObject({ code: 1, stdout: "" });
      expect(done).toMatchObject({ code: 0, stderr: "" });
    },
    SPAWN_MS,
  );

  test("train --dry-run", async () => {
    const { code, stdout } = await qlora(...train, "--dry-run");
    expect(code).toBe(0);
    expect(stdout).toMatch(/trainSamples +12,345/);
  });

  test("eval takes a run and files", async () => {
    expect(JSON.parse((await qlora("eval", "output", "a.csv", "b.csv", "--json")).stdout)).toMatchObject({
      samples: 2,
    });
    const placed = await qlora("eval", "output", "--model.embeddings", "host", "--no-model.keep-dequantized");
    expect(placed).toMatchObject({ code: 0, stderr: "host, kept: false\n" });
  });

  test("predict writes CSV, JSON lines, or a file", async () => {
    const csv = await qlora("predict", "output", "a.csv");
    expect(csv.stdout).toBe('id,winner_model_a,winner_model_b\n"a,""b""",0.25,0.75\n');
    const lines = await qlora("predict", "output", "a.csv", "--logits", "--json");
    expect(lines.stdout).toBe('{"id":"a,\\"b\\"","winner_model_a":-1,"winner_model_b":2}\n');
    const file = await qlora("predict", "output", "a.csv", "--output", join(folder, "out.csv"));
    expect(file).toMatchObject({ code: 0, stdout: "" });
    expect(readFileSync(join(folder, "out.csv"), "utf8")).toBe(csv.stdout);
    const nowhere: readonly (readonly [flag: string, path: string, problem: string])[] = [
      ["--output", folder, "is a folder, expected the name of a file"],
      ["--submission", join(folder, "out.csv", "x.csv"), "could not be written (ENOTDIR"],
    ];
    for (const [flag, path, problem] of nowhere) {
      // The steps are told by the SDK that computes nothing: it must not have been asked.
      const refused = await qlora("predict", "output", "a.csv", flag, path, "--post-process", "identical=0.1,0.1,0.8");
      expect({ code: refused.code, stdout: refused.stdout }).toEqual({ code: 1, stdout: "" });
      expect(refused.stderr).toContain(`${path}: ${problem}`);
      expect(refused.stderr).not.toContain("would run");
    }
  });

  test("predict --post-process may be repeated; eval --tta", async () => {
    const steps = ["--post-process", "both-empty=0.04,0.88,0.08", "--post-process=identical=0.06,0.06,0.88"];
    const ran = await qlora("predict", "output", "a.csv", ...steps);
    expect(ran).toMatchObject({ code: 0, stderr: "both-empty would run\nidentical would run\n" });
    const refused = async (...argv: string[]): Promise<string> => (await qlora("predict", "output", ...argv)).stderr;
    const both = await refused(...steps, "--post-process", "identicl=1,0,0");
    expect(both).toContain('--post-process: got "identicl=1,0,0", expected both-empty or identical');
    expect(both).toContain('did you mean "identical"');
    expect(await refused("--post-process", "identical=1,0")).toContain("identical: got 1,0, expected three");
    expect(await refused("--post-process", "identical=0.1,0.1,0.8=1")).toContain(
      "identical: got 0.1,0.1,NaN, expected",
    );
    expect((await qlora("eval", "output", "a.csv", "--tta", "swap")).stdout).toContain("eval_log_loss  0.99\n");
    expect((await qlora("eval", "output", "a.csv")).stdout).toContain("eval_log_loss  1.01\n");
  });

  test("merge prints the measured difference as data", async () => {
    const done = await qlora("merge", "output", "--output", "merged", "--rows", "7");
    expect(done.stdout).toBe("max |logit difference| 0.0123 over 7 rows\nmean |logit difference| 0.00456\n");
    expect(done.stderr).toContain("wrote 3 tensors (2.00 GB in 1 file) to merged");
    const unmeasured = await qlora("merge", "output", "--output", "merged", "--rows", "0");
    expect([unmeasured.code, unmeasured.stdout]).toEqual([0, ""]);
    expect(unmeasured.stderr).toContain("the difference was not measured");
    const nowhere = await qlora("merge", "output");
    expect(nowhere.code).toBe(2);
    expect(nowhere.stderr).toContain("--output: got nothing, expected a folder");
  });

  test("inspect ends with peft's line", async () => {
    const { stdout } = await qlora("inspect", ...model);
    expect(stdout).toMatch(/^model\.norm\.weight +\[3584\] +f32\n/);
    expect(stdout).toEndWith("trainable params: 119,745,024 || all params: 9,361,461,760 || trainable%: 1.2791\n");
  });

  test("doctor: 0 where it computes right, 1 where not, 1 with a sentence where there is no driver", async () => {
    const right = await qlora("doctor", "--json");
    const wrong = await qlora("doctor", "--tier", "matrix");
    const none = await qlora("doctor", "--gpu", "webgpu");
    expect(right.code).toBe(0);
    expect(JSON.parse(right.stdout)).toMatchObject({ ok: true, provider: "bun-webgpu" });
    expect(wrong.code).toBe(1);
    expect(wrong.stdout).toMatch(/matmul +WRONG/);
    expect(none).toMatchObject({ code: 1, stdout: "" });
    expect(none.stderr).toContain("webgpu found no Vulkan driver\nInstall one.");
  });
});
