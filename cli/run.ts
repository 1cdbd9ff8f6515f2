/** The command line's main(): citty's commands under our own rules for flags, streams and exit codes. */
import { defineCommand, runCommand, type ArgsDef } from "citty";
import { ConfigError, QloraError } from "../core/errors.ts";
import { nearestName } from "../core/util/suggest.ts";
import packageJson from "../package.json" with { type: "json" };
import { parseArguments, type OwnFlag } from "./argv.ts";
import type { CommandData, CommandModule, Prepared } from "./command.ts";
import { DONE, EXIT_CODES, exitCodeOf, INTERRUPTED } from "./exit-codes.ts";
import { helpText } from "./help.ts";
import { interruptCode } from "./interrupt.ts";
import { columns, notes, ReaderGone, writeData } from "./output.ts";
import { checkRanked, gpusOf, leaveWorld, onGpus, passedOn, yourTurn } from "./ranks.ts";
import type { Services } from "./sdk.ts";

const commands: Readonly<Record<string, () => Promise<CommandModule>>> = {
  train: () => import("./commands/train.ts"),
  eval: () => import("./commands/eval.ts"),
  cv: () => import("./commands/cv.ts"),
  distill: () => import("./commands/distill.ts"),
  sweep: () => import("./commands/sweep.ts"),
  plan: () => import("./commands/plan.ts"),
  predict: () => import("./commands/predict.ts"),
  ensemble: () => import("./commands/ensemble.ts"),
  adapters: () => import("./commands/adapters.ts"),
  serve: () => import("./commands/serve.ts"),
  merge: () => import("./commands/merge.ts"),
  quantize: () => import("./commands/quantize.ts"),
  export: () => import("./commands/export.ts"),
  runs: () => import("./commands/runs.ts"),
  verify: () => import("./commands/verify.ts"),
  push: () => import("./commands/push.ts"),
  sync: () => import("./commands/sync.ts"),
  watch: () => import("./commands/watch.ts"),
  inspect: () => import("./commands/inspect.ts"),
  doctor: () => import("./commands/doctor.ts"),
  bench: () => import("./commands/bench.ts"),
  presets: () => import("./commands/presets.ts"),
  init: () => import("./commands/init.ts"),
  plugin: () => import("./commands/plugin.ts"),
  demo: () => import("./commands/demo.ts"),
};

const root = defineCommand({
  meta: { name: "qlora", version: packageJson.version, description: packageJson.description },
  args: {
    help: { type: "boolean", alias: "h", description: "Show help, of a command too" },
    version: { type: "boolean", alias: "v", description: "Show the version" },
  },
  subCommands: Object.fromEntries(
    Object.entries(commands).map(([name, load]) => [name, async () => (await load()).default]),
  ),
});

/** Runs one command line and returns its exit code (exit-codes.ts). */
export async function main(argv: readonly string[], services: Services): Promise<number> {
  try {
    const code = await dispatch(argv, services);
    await leaveWorld();
    return code;
  } catch (error) {
    if (error instanceof ReaderGone) return DONE;
    const code = exitCodeOf(error);
    // All ranks are interrupted at once; any other error ends the rank, and with it the job.
    if (code === INTERRUPTED) await leaveWorld();
    const who = await yourTurn(error);
    if (who !== undefined) report(error, who);
    await passedOn();
    return code === INTERRUPTED ? interruptCode() : code;
  }
}

async function dispatch(argv: readonly string[], services: Services): Promise<number> {
  const flags = argv.includes("--") ? argv.slice(0, argv.indexOf("--")) : argv;
  const wantsHelp = flags.includes("--help") || flags.includes("-h");
  if (flags.includes("--version") || flags.includes("-v")) {
    await writeData(`${packageJson.version}\n`);
    return DONE;
  }
  const [name] = argv;
  if (name === undefined || name.startsWith("-")) {
    if (!wantsHelp)
      throw usageError(name === undefined ? "no command" : `${name}: unknown flag, expected a command first`);
    const codes = columns(EXIT_CODES.map(([code, meaning]) => [`  ${code}`, meaning]));
    await writeData(`${await helpText(root, [])}\nEXIT CODES\n\n${codes}`);
    return DONE;
  }
  if (!Object.hasOwn(commands, name)) {
    const near = nearestName(name, Object.keys(commands));
    throw usageError(`${name}: unknown command${near === undefined ? "" : `; did you mean "${near}"?`}`);
  }
  if (!wantsHelp) checkRanked(name);
  return runModule(await commands[name]!(), argv.slice(1), services, wantsHelp);
}

async function runModule(
  module: CommandModule,
  argv: readonly string[],
  services: Services,
  wantsHelp: boolean,
): Promise<number> {
  const command = module.default;
  const prepared = (await module.prepare?.(argv, services, wantsHelp)) ?? { groups: [] };
  if (wantsHelp) {
    await writeData(await helpText(command, prepared.groups, root));
    return DONE;
  }
  const args = (command.args ?? {}) as ArgsDef;
  const parsed = parseArguments(argv, ownFlags(args, module.repeatable), prepared.groups);
  const problems = [...parsed.problems, ...positionalProblems(args, module.variadic === true, parsed.positionals)];
  const config = makeConfig(prepared, parsed.values, problems, parsed.failed);
  const { name } = command.meta as { readonly name: string };
  if (problems.length > 0) {
    throw new ConfigError("USAGE", problems, { hint: `See qlora ${name} --help.` });
  }
  const { values, positionals } = parsed;
  const gpus = gpusOf(name, argv);
  if (gpus !== undefined) return onGpus(gpus, name, argv, config?.training.outputDir);
  const data: CommandData = { services, values, positionals, config, run: (line) => main(line, services) };
  const { result } = await runCommand(command, { rawArgs: [...parsed.canonical], data });
  return typeof result === "number" ? result : DONE;
}

/** Makes the config, adding its problems to those of the flags so that all are told together. */
function makeConfig(
  prepared: Prepared,
  values: CommandData["values"],
  problems: string[],
  failed: ReadonlySet<string>,
): CommandData["config"] {
  if (prepared.config === undefined) return undefined;
  try {
    return prepared.config(values);
  } catch (error) {
    if (!(error instanceof ConfigError) || problems.length === 0) throw error;
    // An option whose flag was bad is told already; without its value it would be told again as missing.
    problems.push(...error.problems.filter((problem) => !failed.has(problem.slice(0, problem.indexOf(":")))));
    return undefined;
  }
}

function ownFlags(args: ArgsDef, repeatable: readonly string[] = []): OwnFlag[] {
  return Object.entries(args)
    .filter(([, arg]) => arg.type !== "positional")
    .map(([name, arg]) => ({
      name,
      takesValue: arg.type !== "boolean",
      repeatable: repeatable.includes(name),
      choices: arg.type === "enum" ? arg.options : undefined,
      letter: "alias" in arg && typeof arg.alias === "string" ? arg.alias : undefined,
    }));
}

function positionalProblems(args: ArgsDef, variadic: boolean, given: readonly string[]): string[] {
  const known = Object.entries(args).filter(([, arg]) => arg.type === "positional");
  const missing = known.slice(given.length).filter(([, arg]) => arg.required !== false);
  const problems = missing.map(
    ([name, arg]) => `${name.toUpperCase()}: got nothing, expected ${arg.description ?? name}`,
  );
  if (!variadic) problems.push(...given.slice(known.length).map((extra) => `${extra}: unexpected argument`));
  return problems;
}

const usageError = (problem: string): ConfigError =>
  new ConfigError("USAGE", problem, { hint: `Commands: ${Object.keys(commands).join(", ")}. See qlora --help.` });

/** @param who is told before it */
function report(error: unknown, who: string): void {
  if (!(error instanceof QloraError)) {
    notes.error(`${who}${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    return;
  }
  notes.error(`${who}${error.hint === undefined ? error.message : `${error.message}\n${error.hint}`}`);
  if (process.env["QLORA_DEBUG"] !== undefined) notes.log(error.stack, error.cause);
}
