import { ConfigError } from "../../core/errors.ts";
import type { CommandData } from "../command.ts";
import { interruptible } from "../interrupt.ts";
import { notes, writeJson } from "../output.ts";
import { createProgress } from "../progress.ts";

interface PushFlags {
  readonly folder: string;
  readonly repo: string | undefined;
  readonly public: boolean;
  readonly branch: string | undefined;
  readonly baseModel: string | undefined;
  readonly json: boolean;
}

/** Pushes, and says where it lies. */
export async function runPush({ services }: CommandData, { json, repo, ...flags }: PushFlags): Promise<void> {
  if (repo === undefined)
    throw new ConfigError("USAGE", "--repo: got nothing, expected org/name", { hint: "See qlora push --help." });
  const sdk = await services.sdk();
  const progress = createProgress();
  const result = await interruptible(progress.listen, (signal) =>
    sdk.push({ ...flags, repo }, { onEvent: progress.listen, signal }),
  ).finally(() => progress.end());
  if (json) return writeJson(result);
  const { kind, url, created, uploaded, unchanged } = result;
  const seen = created ? `, a new ${flags.public ? "public" : "private"} repository` : "";
  const rest = unchanged.length === 0 ? "" : `, ${unchanged.length} lay there already`;
  notes.info(`pushed the ${kind} to ${url}${seen}: ${uploaded.length} files${rest}`);
}
