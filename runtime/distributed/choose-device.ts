/** Which GPU a process takes: by hand, or the one of its local rank. WebGPU cannot be asked for one of several equal cards. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { ConfigError, DeviceError } from "../../core/errors.ts";
import type { Environment } from "./launcher.ts";
import { type VulkanDevice, vulkanDevices } from "./vulkan-devices.ts";
import type { World } from "./world.ts";

/** How a process gets the card that it is meant to have. */
export type DeviceWay = "the only device" | "the first device" | "Mesa's device-select layer";

/** The device of this process. */
export interface DeviceChoice {
  readonly device: VulkanDevice;
  readonly way: DeviceWay;
}

/** What a choice depends on. */
export interface ChoiceRequest {
  readonly devices: readonly VulkanDevice[];
  /** `N`, a UUID or a PCI address, or a list of them, one for each rank of the host; undefined: as the rank says. */
  readonly wanted: string | undefined;
  readonly place: Pick<World, "localRank" | "localSize" | "size">;
  /** Whether Mesa's layer is installed. */
  readonly layer: boolean;
}

const named = ({ index, name, uuid, pci }: VulkanDevice): string =>
  `${index}: ${name}, ${uuid}${pci === undefined ? "" : `, ${pci}`}`;

/** `00000000:65:00.0`, as nvidia-smi writes it, and `65:00.0` are 0000:65:00.0. */
function pciOf(text: string): string | undefined {
  const [, domain = "0", rest] = /^(?:([\da-f]{4,8}):)?([\da-f]{2}:[\da-f]{2}\.[0-7])$/.exec(text.toLowerCase()) ?? [];
  return rest && `${Number.parseInt(domain, 16).toString(16).padStart(4, "0")}:${rest}`;
}

function find(devices: readonly VulkanDevice[], wanted: string): VulkanDevice {
  const text = wanted.trim();
  const uuid = text.toLowerCase().replace(/^gpu-/, "");
  const found = devices.find(
    (device) =>
      String(device.index) === text || device.uuid === uuid || (device.pci !== undefined && device.pci === pciOf(text)),
  );
  if (found !== undefined) return found;
  throw new ConfigError(
    "DEVICE_UNKNOWN",
    `device: got ${wanted}, expected a number, UUID or PCI address of one of these: ${devices.map(named).join("; ")}`,
    {
      hint: "qlora doctor lists them.",
    },
  );
}

/**
 * The device of a process, and how it gets it.
 * @throws ConfigError where nothing has the name that was given; DeviceError where there are more ranks than cards, or no way
 */
export function chooseDevice({ devices, wanted, place, layer }: ChoiceRequest): DeviceChoice | undefined {
  const { localRank, localSize, size } = place;
  const hardware = devices.filter(({ software }) => !software);
  const names = wanted?.split(",");
  if (names !== undefined && names.length > 1 && names.length < localSize) {
    throw new ConfigError(
      "DEVICE_UNKNOWN",
      `device: got ${names.length} devices for ${localSize} ranks on this host, expected one each`,
    );
  }
  const own = names === undefined ? undefined : find(devices, names.length === 1 ? names[0]! : names[localRank]!);
  if (own !== undefined && localSize > 1 && names!.length === 1 && !own.software && hardware.length > 1) {
    throw new DeviceError(
      "DEVICE_SHARED",
      `device: got ${wanted} for ${localSize} ranks on this host, which would share one GPU`,
      {
        hint: "Name one for each rank, as in --device 0,1, or leave it out.",
      },
    );
  }
  if (own === undefined && size === 1)
    return devices.length === 1 ? { device: devices[0]!, way: "the only device" } : undefined;
  // Ranks may share a driver that computes on the CPU.
  if (own === undefined && hardware.length === 0) return devices[0] && { device: devices[0], way: "the first device" };
  const device = own ?? hardware[hardware.length === 1 ? 0 : localRank];
  if (device === undefined) {
    throw new DeviceError("DEVICE_SHARED", `${localSize} ranks on this host, but it has ${hardware.length} GPUs`, {
      hint: `Start ${hardware.length} on each host (mpirun --map-by ppr:${hardware.length}:node).`,
    });
  }
  if (devices.length === 1) return { device, way: "the only device" };
  if (layer && device.pci !== undefined) return { device, way: "Mesa's device-select layer" };
  const first = (device.software ? devices : hardware)[0];
  if (device === first && !device.software) return { device, way: "the first device" };
  throw new DeviceError(
    "DEVICE_WAY",
    `no way to take ${named(device)}: WebGPU gives the first of the devices that it sees`,
    {
      hint:
        "Install Mesa's device-select layer (Debian: mesa-vulkan-drivers), start the ranks with qlora train --gpus N, which hides the " +
        "other cards from each, or show each rank its card alone (a container, Slurm's --gpus-per-task with its cgroups).",
    },
  );
}

const LAYER = "VK_LAYER_MESA_device_select";
const MANIFEST = "VkLayer_MESA_device_select.json";

/** Whether Mesa's layer is installed where the loader looks. */
export function hasSelectLayer(env: Environment = process.env): boolean {
  const data = env["XDG_DATA_HOME"] ?? join(homedir(), ".local/share");
  const roots = ["/etc", "/usr/share", "/usr/local/share", "/usr/local/etc", data];
  return roots.some((root) =>
    ["implicit_layer.d", "explicit_layer.d"].some((folder) => existsSync(join(root, "vulkan", folder, MANIFEST))),
  );
}

/** How ranks on this machine get a card each; one sentence. */
export function deviceWay(devices: readonly VulkanDevice[], layer: boolean, hides: boolean): string {
  const hardware = devices.filter(({ software }) => !software);
  if (hardware.length === 0) return "no GPU: ranks share the software driver";
  if (hardware.length === 1) return "one GPU: one rank";
  if (layer) return `${hardware.length} GPUs: a rank gets its own by Mesa's device-select layer`;
  if (hides) return `${hardware.length} GPUs: qlora train --gpus N hides the others from each rank (unshare)`;
  return `${hardware.length} GPUs, but no way to one of them: install Mesa's device-select layer (Debian: mesa-vulkan-drivers)`;
}

/** Bun's process.env does not reach C's getenv, which the Vulkan loader and its layers read. */
async function setForLibraries(values: Readonly<Record<string, string>>): Promise<void> {
  const { dlopen } = await import("bun:ffi");
  const { setenv } = dlopen("libc.so.6", { setenv: { args: ["ptr", "ptr", "i32"], returns: "i32" } }).symbols;
  const text = (value: string): Buffer => Buffer.from(`${value}\0`);
  for (const [name, value] of Object.entries(values)) {
    setenv(text(name), text(value), 1);
    process.env[name] = value;
  }
}

/** What this process has taken: WebGPU is loaded once, and what it sees cannot be changed afterwards. */
let taken: { readonly named: string | undefined; readonly choice: DeviceChoice } | undefined;

/**
 * Makes this process see the device that it is meant to take; before WebGPU is loaded. Later calls give the same.
 * @param wanted the option `device`; else QLORA_DEVICE
 * @returns undefined where nothing was to choose, or the loader does not tell
 * @throws ConfigError, DeviceError as `chooseDevice`, and where another was taken before
 */
export async function takeDevice(wanted: string | undefined, world: World): Promise<DeviceChoice | undefined> {
  const named = wanted ?? (process.env["QLORA_DEVICE"] || undefined);
  if (taken !== undefined) {
    if (named === undefined || named === taken.named || find([taken.choice.device], named)) return taken.choice;
  }
  if (named === undefined && world.size === 1) return undefined;
  const devices = await vulkanDevices();
  if (devices === undefined || devices.length === 0) {
    if (named === undefined) return undefined;
    throw new DeviceError(
      "DEVICE_WAY",
      `device: got ${named}, but no Vulkan loader lists the devices of this machine`,
      {
        hint: "Leave it out.",
      },
    );
  }
  const choice = chooseDevice({ devices, wanted: named, place: world, layer: hasSelectLayer() });
  if (choice?.way === "Mesa's device-select layer") {
    await setForLibraries({
      VK_INSTANCE_LAYERS: LAYER,
      DRI_PRIME: `pci-${choice.device.pci!.replaceAll(/[:.]/g, "_")}!`,
    });
  }
  if (choice !== undefined) taken = { named, choice };
  return choice;
}

/** After WebGPU has opened its device. @throws DeviceError where it sees another card first than the one chosen */
export async function checkDevice(choice: DeviceChoice | undefined): Promise<void> {
  if (choice === undefined) return;
  const seen = (await vulkanDevices())?.find(({ software }) => software === choice.device.software);
  if (seen === undefined || seen.uuid === choice.device.uuid) return;
  throw new DeviceError(
    "DEVICE_OTHER",
    `meant to take ${named(choice.device)} by ${choice.way}, but WebGPU sees ${named(seen)} first`,
    {
      hint: "qlora doctor tells which ways there are on this machine.",
    },
  );
}
