// The MPI of the tests of several ranks: installed through apt where there is none and we are root, so that nothing is skipped for want of it.
import { spawnSync } from "node:child_process";
import { apt, hasApt } from "./apt.mjs";

/** Says what is missing where it cannot install one: those tests are then skipped, which they say too. */
export function ensureMpi() {
  if (spawnSync("mpirun", ["--version"]).status === 0) return;
  if (process.platform !== "linux" || process.getuid?.() !== 0 || !hasApt()) return;
  console.log("setup: installing MPICH for the tests of several ranks with apt");
  const update = apt("update"); // one broken source of many fails this, and yet the install may work
  const install = apt("install", "-y", "--no-install-recommends", "mpich");
  if (!install.ok)
    console.error(`setup: MPICH could not be installed:\n${update.ok ? "" : update.text}\n${install.text}`);
}
