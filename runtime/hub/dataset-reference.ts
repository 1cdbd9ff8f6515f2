/** `hf://org/name[@revision][/config][:split]`, or `hf://org/name/path/to/file.parquet`. */
import { ConfigError } from "../../core/errors.ts";
import { checkRevision } from "./reference.ts";

/** A dataset of the hub, and what of it is meant. */
export interface DatasetReference {
  /** `org/name`. */
  readonly id: string;
  readonly revision: string;
  /** Config, or path of a file; undefined for the default. */
  readonly part: string | undefined;
  readonly split: string | undefined;
}

const SCHEME = "hf://";
const PATTERN =
  /^(?:datasets\/)?([A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*)(?:@([^/:]+(?:\/pr\/\d+|\/convert\/\w+)?))?(?:\/([^:]+))?(?::([\w.-]+))?$/;

/** Whether a name of files is of the hub. */
export const isDatasetName = (name: string): boolean => name.startsWith(SCHEME);

/** @throws ConfigError for what is no such name */
export function parseDatasetName(name: string): DatasetReference {
  const found = PATTERN.exec(name.slice(SCHEME.length));
  if (found === null) {
    throw new ConfigError(
      "DATASET_NAME_INVALID",
      `got ${JSON.stringify(name)}, expected hf://org/name[@revision][/config][:split]`,
      {
        hint: "For example hf://lmarena-ai/arena-human-preference-55k:train",
      },
    );
  }
  const [, id, revision = "main", part, split] = found;
  checkRevision(revision);
  return { id: id!, revision, part, split };
}
