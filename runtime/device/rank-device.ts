/** The GPU of each rank: taken before WebGPU is loaded, compared once it is open. */
import type { GpuInfo } from "../../core/device/probe.ts";
import { isSoftware } from "../../core/device/software.ts";
import { DeviceError } from "../../core/errors.ts";
import { gatherJson, rankName, requireAlike } from "../distributed/agree.ts";
import { checkDevice, takeDevice } from "../distributed/choose-device.ts";
import type { World } from "../distributed/world.ts";

/** A rank and its GPU, as run.json records it. */
export interface RankDevice {
  readonly rank: number;
  readonly host: string;
  /** Its process, which launchers name where one ends. */
  readonly pid: number;
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
      await checkDevice(choice);
      const { adapter, tier, provider } = info;
      const device = adapter.description || adapter.device;
      const hint = "Ranks must compute alike: use equal GPUs and drivers on all hosts, or pin --tier and --gpu.";
      await requireAlike(world, "the GPU", { device: adapter.device || adapter.description, tier, provider }, hint);
      const own = {
        rank: world.rank,
        host: world.hosts[world.rank]!,
        pid: process.pid,
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
