/** `--gpus N`: starts mpirun on this machine, with one rank for each GPU. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../../core/errors.ts";
import { hasSelectLayer } from "./choose-device.ts";
import { type Environment, findLaunch } from "./launcher.ts";
import { type VulkanDevice, vulkanDevices } from "./vulkan-devices.ts";

/** What starts the ranks. */
export interface RankCommand {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly family: "mpich" | "open-mpi";
  readonly ranks: number;
}

/** What the command is made of. */
export interface GpusRequest {
  /** A number, or `all`. */
  readonly gpus: string;
  /** What each rank runs. */
  readonly program: readonly string[];
  readonly devices: readonly VulkanDevice[];
  /** Path of mpirun, and what its --version says. */
  readonly mpirun: { readonly path: string; readonly version: string } | undefined;
  readonly layer: boolean;
  /** Path of util-linux' unshare. */
  readonly unshare: string | undefined;
  readonly root: boolean;
}

/** How many ranks `--gpus` asks for. @throws ConfigError */
function ranksOf(gpus: string, devices: readonly VulkanDevice[]): number {
  const hardware = devices.filter(({ software }) => !software).length;
  if (gpus === "all") return Math.max(1, hardware);
  const ranks = /^[1-9]\d{0,3}$/.test(gpus) ? Number(gpus) : 0;
  if (ranks === 0) throw new ConfigError("USAGE", `--gpus: got ${gpus}, expected a number of at least 1, or all`);
  if (hardware > 0 && ranks > hardware) {
    throw new ConfigError("USAGE", `--gpus: got ${ranks}, but this machine shows ${hardware} GPUs`, {
      hint: "qlora doctor lists them; several machines need mpirun or srun with their hosts.",
    });
  }
  return ranks;
}

/**
 * Hides every card but that of the local rank behind /dev/null, in a mount namespace of the rank's own. NVIDIA numbers its device
 * files by minor, which its driver tells by PCI address.
 */
const HIDE = [
  'rank="${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-0}}"',
  "n=0",
  'for node in $QLORA_NODES; do if [ "$n" != "$rank" ]; then mount --bind /dev/null "$node" || exit 1; fi; n=$((n + 1)); done',
  'exec "$@"',
].join("; ");

/** Device files of NVIDIA's cards in the order of `devices`; undefined where one is not known. */
export function nvidiaNodes(devices: readonly VulkanDevice[], root = "/"): string[] | undefined {
  const folder = join(root, "proc/driver/nvidia/gpus");
  if (!existsSync(folder)) return undefined;
  const minors = new Map<string, string>();
  for (const address of readdirSync(folder)) {
    const minor = /^Device Minor:\s*(\d+)/m.exec(readFileSync(join(folder, address, "information"), "utf8"))?.[1];
    if (minor !== undefined) minors.set(address.toLowerCase(), `/dev/nvidia${minor}`);
  }
  const nodes = devices.map(({ pci }) => (pci === undefined ? undefined : minors.get(pci)));
  return nodes.includes(undefined) ? undefined : (nodes as string[]);
}

/** @throws ConfigError where there is no mpirun, or more ranks than cards */
export function rankCommand(request: GpusRequest, nodes = nvidiaNodes): RankCommand {
  const { gpus, program, devices, mpirun, layer, unshare, root } = request;
  const ranks = ranksOf(gpus, devices);
  if (mpirun === undefined) {
    throw new ConfigError("MPI_NOT_FOUND", "--gpus: no mpirun on PATH", {
      hint: "Install an MPI (Debian: apt-get install mpich, or openmpi-bin), then run this again.",
    });
  }
  const family = /open[ -]?mpi|openrte|prrte/i.test(mpirun.version) ? "open-mpi" : "mpich";
  const hardware = devices.filter(({ software }) => !software);
  const files = hardware.length > 1 && !layer && unshare !== undefined ? nodes(hardware) : undefined;
  const hidden = files === undefined ? [] : [unshare!, root ? "-m" : "-Urm", "/bin/sh", "-c", HIDE, "qlora"];

  return {
    // Open MPI binds each of few ranks to one core, which a GPU's host threads would share.
    command: [mpirun.path, "-n", String(ranks), "--bind-to", "none", ...hidden, ...program],
    env: {
      ...(files === undefined ? {} : { QLORA_NODES: files.join(" ") }),
      ...(family === "open-mpi" && root ? { OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" } : {}),
      ...(family === "open-mpi"
        ? { OMPI_MCA_rmaps_base_oversubscribe: "1", PRTE_MCA_rmaps_default_mapping_policy: ":oversubscribe" }
        : {}),
    },
    family,
    ranks,
  };
}

/** The command for this machine. @param program what each rank runs @throws ConfigError */
export async function localRankCommand(
  gpus: string,
  program: readonly string[],
  env: Environment = process.env,
): Promise<RankCommand> {
  if (findLaunch(env) !== undefined) {
    throw new ConfigError("USAGE", "--gpus: this process was started by an MPI launcher already", {
      hint: "Leave --gpus out: mpirun or srun says how many ranks there are.",
    });
  }
  const path = Bun.which("mpirun", { PATH: env["PATH"] ?? "" }) ?? undefined;
  const version =
    path === undefined ? "" : await new Response(Bun.spawn([path, "--version"], { stderr: "ignore" }).stdout).text();
  return rankCommand({
    gpus,
    program,
    devices: (await vulkanDevices()) ?? [],
    mpirun: path === undefined ? undefined : { path, version },
    layer: hasSelectLayer(env),
    unshare: Bun.which("unshare") ?? undefined,
    root: process.getuid?.() === 0,
  });
}

/** How ranks ended. */
export interface RanksEnd {
  /** Of mpirun; MPICH's forgets it at times where its ranks were told to stop. */
  readonly code: number;
  /** The first signal that was passed on to them. */
  readonly stopped: NodeJS.Signals | undefined;
}

/** Runs ranks and waits for them. Signals of this process go on to them: the first as the one that finishes the step and saves. */
export async function runRanks({ command, env }: RankCommand): Promise<RanksEnd> {
  // In a group of its own: a terminal's Ctrl-C comes to this process alone, and is passed on once.
  const child = Bun.spawn([...command], {
    env: { ...process.env, ...env },
    stdio: ["inherit", "inherit", "inherit"],
    detached: true,
  });
  let stopped: NodeJS.Signals | undefined;
  const pass = (signal: NodeJS.Signals): void => {
    // Open MPI's mpirun ends its ranks a second after any other signal, too soon to save; MPICH's forgets their exit codes.
    child.kill(stopped === undefined ? "SIGUSR1" : signal);
    stopped ??= signal;
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"] as const;
  for (const signal of signals) process.on(signal, pass);
  try {
    return { code: await child.exited, stopped };
  } finally {
    for (const signal of signals) process.off(signal, pass);
  }
}
