import { defineOptions, defineReporter, type ReporterOutput, rewriteLogs } from "qlora/core";
import { frame, joined, scalarEvent, startEvent, versionEvent } from "./events.ts";

/** TensorBoard reads a folder's event files in the order of their names, so the time comes first. */
const EVENT_FILE = /^events\.out\.tfevents\.(\d{10,})\./;

/**
 * TensorBoard's event files, under transformers' tags, in `training.loggingDir` or the run's folder `runs`; one for each start. A
 * run that goes on from a checkpoint shows every step once.
 * @example reportTo: [tensorboard()] // tensorboard --logdir output/runs
 */
export const tensorboard = defineReporter({
  name: "tensorboard",
  options: defineOptions({}),
  create(_options, { files, createFile, processName, now }) {
    let output: ReporterOutput | undefined;
    const open = async (step: number): Promise<ReporterOutput> => {
      const taken = (await files()).map((name) => Number(EVENT_FILE.exec(name)?.[1] ?? 0));
      const seconds = Math.max(Math.floor(now()), ...taken.map((time) => time + 1));
      const file = await createFile(`events.out.tfevents.${seconds}.${processName}.0`);
      await append(file, versionEvent(now(), step), startEvent(now(), step));
      return file;
    };
    return {
      async start({ firstStep }) {
        output = await open(firstStep === 1 ? 0 : firstStep);
        return undefined;
      },
      async log(entries) {
        // After a write that failed midway, what follows in that file cannot be read.
        const file = (output ??= await open(entries[0]!.step));
        output = undefined;
        const scalars = entries.flatMap((entry) =>
          Object.entries(rewriteLogs(entry)).map(([tag, value]) => scalarEvent(now(), entry.step, tag, value)),
        );
        try {
          await append(file, ...scalars);
          output = file;
        } finally {
          if (output === undefined) await file.close();
        }
      },
      async artefact() {},
      async finish() {
        await output?.close();
        output = undefined;
      },
    };
  },
});

const append = (file: ReporterOutput, ...events: Uint8Array[]): Promise<void> =>
  file.append(joined(...events.map(frame)));
