/** What a launcher's variables say of this process, before anything of MPI is loaded. */
import { ConfigError } from "../../core/errors.ts";

/** Whose MPI a launcher brings. */
export type MpiFamily = "mpich" | "open-mpi" | "any";

/** The launcher that started this process. */
export interface Launch {
  /** What starts it, for sentences. */
  readonly launcher: string;
  readonly family: MpiFamily;
  /** Processes that it started; undefined where it does not tell. */
  readonly size: number | undefined;
}

/** Variables that give a process its rank, by launcher. */
const RANKS = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"] as const;

/** Variables of the environment. */
export type Environment = Readonly<Record<string, string | undefined>>;

const count = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;

/**
 * The MPI launcher of this process; undefined where it runs alone, and nothing of MPI is to be loaded.
 * @throws ConfigError under torchrun, whose ranks cannot meet through MPI
 */
export function findLaunch(env: Environment): Launch | undefined {
  const openMpi = count(env["OMPI_COMM_WORLD_SIZE"]);
  if (openMpi !== undefined) return { launcher: "Open MPI's mpirun", family: "open-mpi", size: openMpi };
  // srun sets both its own variables and those of the PMI that it serves; a batch script itself has no step.
  const slurm = count(env["SLURM_STEP_NUM_TASKS"]);
  const pmi = count(env["PMI_SIZE"]);
  if (pmi !== undefined) {
    const launcher = slurm === undefined ? "MPICH's mpirun" : "srun";
    return { launcher, family: slurm === undefined ? "mpich" : "any", size: pmi };
  }
  if (slurm !== undefined && slurm > 1) return { launcher: "srun", family: "any", size: slurm };
  if (env["PMIX_RANK"] !== undefined) return { launcher: "a PMIx launcher", family: "any", size: slurm };
  if (env["TORCHELASTIC_RUN_ID"] !== undefined) {
    throw new ConfigError(
      "LAUNCHER_UNKNOWN",
      `torchrun started this process (rank ${env["RANK"] ?? "?"} of ${env["WORLD_SIZE"] ?? "?"}), but qlora's ranks meet through MPI`,
      { hint: "Start it with mpirun -n N or srun, or let qlora start it: qlora train --gpus N." },
    );
  }
  return undefined;
}

/** The rank that a launcher gave this process, known without MPI; 0 where it runs alone. */
export function launchedRank(env: Environment): number {
  if (RANKS.every((name) => env[name] === undefined) || findLaunch(env) === undefined) return 0;
  return RANKS.map((name) => count(env[name])).find((rank) => rank !== undefined) ?? 0;
}
