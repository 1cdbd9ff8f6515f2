import { type VerifiedPart, verifyRun } from "../../sdk/verify.ts";
import { DONE, FAILED } from "../exit-codes.ts";
import { columns, notes, writeData, writeJson } from "../output.ts";

interface VerifyFlags {
  readonly dryRun: boolean;
  readonly json: boolean;
}

/** Verifies runs, and ends with 1 where something is damaged or half. */
export async function verify(folders: readonly string[], { dryRun, json }: VerifyFlags): Promise<number> {
  const found = [];
  for (const folder of folders) found.push(await verifyRun(folder, { repair: !dryRun }));
  if (json) await writeJson(found);
  else await writeData(columns(found.flatMap(({ parts }) => parts.map(row))));
  for (const { problems, state } of found.flatMap(({ parts }) => parts)) {
    for (const problem of problems)
      (state === "damaged" || state === "half" ? notes.error : notes.info)(`${state}: ${problem}`);
  }
  return found.every(({ whole }) => whole) ? DONE : FAILED;
}

const row = ({ state, path, step }: VerifiedPart): string[] => [state, step === undefined ? "" : `step ${step}`, path];
