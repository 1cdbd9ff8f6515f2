/** Whether a plugin was made for this release of qlora. */
import { satisfies } from "semver";
import { version } from "../../core/util/version.ts";

/** What must agree: the major version, or while that is 0 the minor one, as semantic versioning has it. */
export function releaseLine(release: string): string {
  const [major = "", minor = ""] = release.split(".");
  return major === "0" ? `0.${minor}` : major;
}

/** Why a factory that `made` stamped cannot be used here, as the end of a sentence; undefined where it can. */
export function versionProblem(made: unknown, here: string = version): string | undefined {
  if (typeof made !== "string")
    return `carries no version of qlora, this is qlora ${here}; expected one made with its define functions`;
  if (releaseLine(made) === releaseLine(here)) return undefined;
  return `was made with qlora ${made}, this is qlora ${here}; expected ${releaseLine(here)}.x`;
}

/**
 * Why a package whose peer dependency on qlora is `range` cannot be used here; undefined where it can, and where `range` is
 * no range of versions (a path, a tag).
 */
export function peerProblem(range: unknown, here: string = version): string | undefined {
  if (typeof range !== "string" || !/^[\dvxX*^~<>=|.\s-]+[\w.-]*$/.test(range)) return undefined;
  return satisfies(here, range) ? undefined : `needs qlora ${range} (peerDependencies), this is qlora ${here}`;
}
