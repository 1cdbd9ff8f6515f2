import { defineRequest } from "../core/options/request.ts";
import type { ScheduleContext, SchedulePlugin } from "../core/plugin/schedule.ts";
import { type Check, expectThat } from "./contract.ts";

/** What the schedule contract is held with. */
export interface ScheduleContractOptions {
  /** Runs to try: lengths, warmups and peaks. Default: of 1, 7 and 100 updates, without and with warmup. */
  readonly runs?: readonly ScheduleContext[];
}

const checkOptions = defineRequest<ScheduleContractOptions>("scheduleContract", { runs: "object[]?" });

const RUNS: readonly ScheduleContext[] = [1, 7, 100].flatMap((totalSteps) =>
  [0, 1, Math.ceil(totalSteps / 3), totalSteps].map((warmupSteps) => ({ learningRate: 1e-3, warmupSteps, totalSteps })),
);

/**
 * What every schedule keeps: a factor for each update of the run and for the one after it, a finite number of at least 0; the same
 * for the same update whatever was asked before, and in a schedule made anew, so that a resumed run goes on alike; and not 0
 * throughout.
 * @example
 * const flat = defineSchedule({ name: "flat", options: defineOptions({}), create: () => ({ factor: () => 1 }) });
 * for (const { name, run } of scheduleContract(flat())) test(name, run);
 */
export function scheduleContract(plugin: SchedulePlugin, options: ScheduleContractOptions = {}): Check[] {
  const { runs = RUNS } = checkOptions(options);
  const told = ({ totalSteps, warmupSteps }: ScheduleContext): string =>
    `${plugin.name}: of ${totalSteps} updates with ${warmupSteps} of warmup`;
  const factors = (run: ScheduleContext): number[] => {
    const schedule = plugin.create(run);
    return Array.from({ length: run.totalSteps + 1 }, (_, updates) => schedule.factor(updates));
  };
  return [
    {
      name: "gives a finite factor of at least 0 for each update",
      async run() {
        for (const run of runs) {
          factors(run).forEach((factor, updates) => {
            const fits = Number.isFinite(factor) && factor >= 0;
            expectThat(fits, `${told(run)}: factor(${updates}) is ${String(factor)}, expected a number >= 0`);
          });
        }
      },
    },
    {
      name: "gives the same factor in any order and when made anew",
      async run() {
        for (const run of runs) {
          const all = factors(run);
          const again = plugin.create(run);
          for (const [updates, factor] of [...all.entries()].toReversed()) {
            const now = again.factor(updates);
            const message = `${told(run)}: factor(${updates}) is ${factor} in a run from the start, ${now} in one that resumes`;
            expectThat(Object.is(now, factor), `${message}: it keeps something between calls`);
          }
        }
      },
    },
    {
      name: "trains: its factor is not 0 throughout",
      async run() {
        for (const run of runs.filter(({ totalSteps, warmupSteps }) => totalSteps > warmupSteps + 1)) {
          expectThat(
            factors(run).some((factor) => factor > 0),
            `${told(run)}: the factor is 0 for every update`,
          );
        }
      },
    },
  ];
}
