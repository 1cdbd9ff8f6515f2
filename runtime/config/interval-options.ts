/** Options that say when a run logs, evaluates and saves, which checkpoint is its best, and when it stops early. */
import { option } from "../../core/options/options.ts";

const count = "number.integer >= 1";
const steps = "number > 0";

export const intervalOptions = {
  loggingSteps: option(steps, { default: 10, help: "log every so many steps; below 1: their share of all steps" }),
  loggingFirstStep: option("boolean", { default: false, help: "log the first step too" }),
  evalStrategy: option("'no' | 'epoch' | 'steps'", {
    default: "no",
    help: "when to evaluate; steps: every evalSteps, and after the last",
  }),
  evalSteps: option(steps, {
    defaultFrom: "loggingSteps",
    help: "evaluate every so many steps; below 1: their share of all steps",
  }),
  evalOnStart: option("boolean", { default: false, help: "evaluate before the first step" }),
  saveStrategy: option("'no' | 'epoch' | 'steps' | 'best'", {
    default: "steps",
    help: "when to save a checkpoint; best: when metricForBestModel is better than ever",
  }),
  saveSteps: option(steps, {
    default: 500,
    help: "save every so many steps; below 1: their share of all steps",
  }),
  saveTotalLimit: option(count, {
    optional: true,
    help: "keep this many newest checkpoints, the best and the newest in any case (default: all)",
  }),
  loadBestModelAtEnd: option("boolean", {
    default: false,
    help: "end with the best checkpoint's adapter, by metricForBestModel, in place of the last",
  }),
  metricForBestModel: option("string", {
    optional: true,
    help: "which number of an evaluation, with or without eval_, tells the best checkpoint (default: loss, where one is needed)",
  }),
  greaterIsBetter: option("boolean", {
    optional: true,
    help: "whether the higher number is the better (default: false for names that end in loss, and for brier, ece, mse, mae and rmse)",
  }),
  earlyStoppingPatience: option(count, {
    optional: true,
    help: "stop after so many evaluations in a row that are no better (default: never)",
  }),
  earlyStoppingThreshold: option("number >= 0", {
    default: 0,
    help: "by how much an evaluation must be better to count for earlyStoppingPatience",
  }),
};

/** What of the options the rules below look at. */
interface Intervals {
  readonly loggingSteps: number;
  readonly evalStrategy: "no" | "epoch" | "steps";
  readonly evalSteps: number;
  readonly saveStrategy: "no" | "epoch" | "steps" | "best";
  readonly saveSteps: number;
  readonly loadBestModelAtEnd: boolean;
  readonly metricForBestModel?: string | undefined;
  readonly greaterIsBetter?: boolean | undefined;
  readonly earlyStoppingPatience?: number | undefined;
  readonly earlyStoppingThreshold: number;
}

/** Combinations that cannot be meant, as transformers refuses them. */
export function intervalProblems(options: Intervals): readonly string[] {
  const { evalStrategy, saveStrategy, loadBestModelAtEnd, earlyStoppingPatience } = options;
  const problems: string[] = [];
  for (const key of ["loggingSteps", "evalSteps", "saveSteps"] as const) {
    if (options[key] > 1 && !Number.isInteger(options[key]))
      problems.push(`${key}: got ${options[key]}, expected a whole number, or a share below 1`);
  }
  const needs = [
    ...(loadBestModelAtEnd ? ["loadBestModelAtEnd"] : []),
    ...(saveStrategy === "best" ? ["saveStrategy best"] : []),
    ...(earlyStoppingPatience === undefined ? [] : ["earlyStoppingPatience"]),
    ...(options.metricForBestModel === undefined ? [] : ["metricForBestModel"]),
  ];
  if (needs.length > 0 && evalStrategy === "no")
    problems.push(`evalStrategy: got no with ${needs.join(" and ")}, expected steps or epoch`);
  else if (loadBestModelAtEnd) problems.push(...loadProblems(options));
  if (options.greaterIsBetter !== undefined && needs.length === 0)
    problems.push("greaterIsBetter: got it without metricForBestModel, which leaves it unused");
  if (options.earlyStoppingThreshold !== 0 && earlyStoppingPatience === undefined)
    problems.push("earlyStoppingThreshold: got it without earlyStoppingPatience, which leaves it unused");
  return problems;
}

/** Each saved step must be an evaluated one, or the best would not be saved. */
function loadProblems({ evalStrategy, saveStrategy, evalSteps, saveSteps }: Intervals): readonly string[] {
  if (saveStrategy === "best") return [];
  if (evalStrategy !== saveStrategy)
    return [
      `loadBestModelAtEnd: got evalStrategy ${evalStrategy} with saveStrategy ${saveStrategy}, expected the same, or saveStrategy best`,
    ];
  if (evalStrategy !== "steps") return [];
  if (evalSteps < 1 !== saveSteps < 1)
    return [
      `loadBestModelAtEnd: got evalSteps ${evalSteps} with saveSteps ${saveSteps}, expected both as shares or as counts`,
    ];
  const times = saveSteps / evalSteps;
  if (Math.abs(times - Math.round(times)) < 1e-6 && Math.round(times) >= 1) return [];
  return [`loadBestModelAtEnd: got saveSteps ${saveSteps} with evalSteps ${evalSteps}, expected a multiple of it`];
}

/** What tells the best of a run. */
export interface BestCriterion {
  /** As an evaluation names it: `eval_loss`. */
  readonly metric: string;
  readonly greaterIsBetter: boolean;
}

/** Metrics that are better the lower they are, beside those whose names end in loss. */
const ERRORS = /(?:loss|^(?:eval_)?(?:brier|ece|mse|mae|rmse|[a-z]+_error))$/;

/** How the best is told; undefined where nothing asks for it. */
export function bestCriterion(options: Intervals): BestCriterion | undefined {
  const { metricForBestModel, loadBestModelAtEnd, saveStrategy, earlyStoppingPatience } = options;
  const wanted = loadBestModelAtEnd || saveStrategy === "best" || earlyStoppingPatience !== undefined;
  const name = metricForBestModel ?? (wanted ? "loss" : undefined);
  if (name === undefined) return undefined;
  return {
    metric: name.startsWith("eval_") ? name : `eval_${name}`,
    greaterIsBetter: options.greaterIsBetter ?? !ERRORS.test(name),
  };
}
