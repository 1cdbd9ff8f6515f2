/** The world of this process: joined once, and left at its end. */
import { ConfigError } from "../../core/errors.ts";
import { hostName } from "../host.ts";
import { findLaunch, type Environment } from "./launcher.ts";
import { alone, type World } from "./world.ts";

let joined: Promise<World> | undefined;

/**
 * The world that this process was started in: that of `mpirun` or `srun`, else a world of one, for which nothing of MPI is loaded.
 * @throws ConfigError where a launcher started it whose library is not there, or is another's
 */
export function openWorld(env: Environment = process.env): Promise<World> {
  return (joined ??= join(env));
}

async function join(env: Environment): Promise<World> {
  const launch = findLaunch(env);
  if (launch === undefined) return alone;
  if (hostName !== "bun") {
    const message = `${launch.launcher} started this process, but ${hostName} cannot call its MPI library`;
    throw new ConfigError("MPI_RUNTIME", message, { hint: "Start the ranks with Bun: mpirun -n N bunx qlora ..." });
  }
  const [{ loadMpi }, { joinWorld }] = await Promise.all([import("./mpi-library.ts"), import("./mpi-world.ts")]);
  return joinWorld(loadMpi(launch, env), launch, env);
}

/** Leaves the world, where this process has joined one; every rank must. */
export async function leaveWorld(): Promise<void> {
  await (await joined)?.close({ what: "all ranks to end" });
}
