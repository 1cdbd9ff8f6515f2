/** The GPU of each rank: taken before WebGPU is loaded, compared once it is open. */
import { existsSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import type { GpuInfo } from "../../core/device/probe.ts";
import { isSoftware } from "../../core/device/software.ts";
import { DeviceError } from "../../core/errors.ts";
import { gatherJson, rankName, requireAlike } from "../distributed/agree.ts";
import { takeDevice } from "../distributed/choose-device.ts";
import type { World } from "../distributed/world.ts";

/** A rank and its GPU, as run.json records it. */
export interface RankDevice {
  readonly rank: number;
  readonly host: string;
  /** Its process, which launchers name where one ends. */
  readonly pid: number;
  /** Cores that the process may run on, of those of the host. */
  readonly cores: readonly [own: number, host: number];
  readonly device: string;
  /** Undefined where nothing was chosen, or the driver does not tell. */
  readonly uuid?: string | undefined;
  readonly pci?: string | undefined;
  /** How the rank got it. */
  readonly way?: string | undefined;
}

/**
 * Takes the device of this rank. @param wanted the option `device`
 * @returns a check for when it is open @throws as `takeDevice`
 */
export async function openRankDevice(
  wanted: string | undefined,
  world: World,
): Promise<{ readonly check: (info: GpuInfo) => Promise<readonly RankDevice[]> }> {
  const choice = await takeDevice(wanted, world);
  return {
    async check(info) {
      const { adapter, tier, provider } = info;
      const device = adapter.description || adapter.device;
      const hint = "Ranks must compute alike: use equal GPUs and drivers on all hosts, or pin --tier and --gpu.";
      await requireAlike(world, "the GPU", { device: adapter.device || adapter.description, tier, provider }, hint);
      const own = {
        rank: world.rank,
        host: world.hosts[world.rank]!,
        pid: process.pid,
        cores: ownCores(),
        device,
        uuid: choice?.device.uuid,
        pci: choice?.device.pci,
      };
      const ranks = await gatherJson<RankDevice>(
        world,
        { what: "the GPUs of all ranks" },
        { ...own, way: choice?.way },
      );
      if (!isSoftware(adapter)) requireOwnCards(ranks, world);
      return ranks;
    },
  };
}

function requireOwnCards(ranks: readonly RankDevice[], world: World): void {
  for (const { rank, host, uuid } of ranks) {
    const other = ranks.find((before) => before.rank < rank && before.host === host && before.uuid === uuid);
    if (other === undefined || uuid === undefined) continue;
    throw new DeviceError(
      "DEVICE_SHARED",
      `rank ${other.rank} and ${rankName(world, rank)} both have the GPU ${uuid}`,
      {
        hint: "Start one rank for each GPU, or name them with --device 0,1.",
      },
    );
  }
}

/** Processes of `Cpus_allowed_list` of /proc/self/status, such as `0-3,8`. */
export const countCores = (list: string): number =>
  list.split(",").reduce((sum, part) => {
    const [from, to = from] = part.split("-").map(Number);
    return sum + to! - from! + 1;
  }, 0);

function ownCores(): [own: number, host: number] {
  const all = cpus().length;
  const status = "/proc/self/status";
  const list = existsSync(status) ? /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync(status, "utf8"))?.[1] : undefined;
  return [list === undefined ? all : countCores(list), all];
}

/** What is to be told of ranks that a launcher has bound to a core each; undefined where it has not. */
export function boundRanks(ranks: readonly RankDevice[]): string | undefined {
  const bound = ranks.filter(({ cores: [own, host] }) => own === 1 && host > 1);
  if (ranks.length < 2 || bound.length === 0) return undefined;
  return `${bound.length} of ${ranks.length} ranks may run on one core alone, which is too little for a GPU: start them with mpirun --bind-to none`;
}
