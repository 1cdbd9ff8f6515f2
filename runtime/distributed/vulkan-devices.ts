/** Vulkan's own list of devices, through the loader: WebGPU tells neither UUID nor PCI address. */
import { hostName } from "../host.ts";

/** A device as the Vulkan loader lists it. */
export interface VulkanDevice {
  /** Place in the loader's list. */
  readonly index: number;
  readonly name: string;
  /** As nvidia-smi -L writes it, without `GPU-`. */
  readonly uuid: string;
  /** `0000:65:00.0`; undefined where the driver does not tell. */
  readonly pci: string | undefined;
  /** True where it computes on the CPU. */
  readonly software: boolean;
}

/** VkStructureType, and VkPhysicalDeviceType of a CPU. */
const APPLICATION_INFO = 0;
const INSTANCE_CREATE_INFO = 1;
const PROPERTIES_2 = 1_000_059_001;
const ID_PROPERTIES = 1_000_071_004;
const PCI_PROPERTIES = 1_000_212_000;
const CPU = 4;
const VULKAN_1_1 = (1 << 22) | (1 << 12);

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");

/** The loader's functions, and the address of memory for them; bun:ffi is loaded when somebody asks. */
async function openLoader() {
  const { dlopen, ptr } = await import("bun:ffi");
  const { symbols } = dlopen("libvulkan.so.1", {
    vkCreateInstance: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
    vkDestroyInstance: { args: ["u64", "ptr"], returns: "void" },
    vkEnumeratePhysicalDevices: { args: ["u64", "ptr", "ptr"], returns: "i32" },
    vkGetPhysicalDeviceProperties2: { args: ["u64", "ptr"], returns: "void" },
    vkEnumerateDeviceExtensionProperties: { args: ["u64", "ptr", "ptr", "ptr"], returns: "i32" },
  });
  return { ...symbols, address: (memory: BigUint64Array): bigint => BigInt(ptr(memory)) };
}
type Loader = Awaited<ReturnType<typeof openLoader>>;

/** Devices in the loader's order, as the environment of this process lets it see them; undefined where there is no loader. */
export async function vulkanDevices(): Promise<readonly VulkanDevice[] | undefined> {
  if (process.platform !== "linux" || hostName !== "bun") return undefined;
  let vk: Loader;
  try {
    vk = await openLoader();
  } catch {
    return undefined; // no loader: opening the GPU tells what to install
  }
  const application = new BigUint64Array(6);
  const info = new DataView(application.buffer);
  info.setUint32(0, APPLICATION_INFO, true);
  info.setUint32(44, VULKAN_1_1, true);
  const create = new BigUint64Array(8);
  const view = new DataView(create.buffer);
  view.setUint32(0, INSTANCE_CREATE_INFO, true);
  view.setBigUint64(24, vk.address(application), true);
  const instance = new BigUint64Array(1);
  if (vk.vkCreateInstance(create, null, instance) !== 0) return undefined;
  try {
    const count = new Uint32Array(1);
    vk.vkEnumeratePhysicalDevices(instance[0]!, count, null);
    const handles = new BigUint64Array(count[0]);
    if (handles.length === 0) return [];
    vk.vkEnumeratePhysicalDevices(instance[0]!, count, handles);
    return Array.from(handles.subarray(0, count[0]), (handle, index) => describe(vk, handle, index));
  } finally {
    vk.vkDestroyInstance(instance[0]!, null);
  }
}

function describe(vk: Loader, handle: bigint, index: number): VulkanDevice {
  const count = new Uint32Array(1);
  vk.vkEnumerateDeviceExtensionProperties(handle, null, count, null);
  const extensions = new Uint8Array(260 * count[0]!);
  if (extensions.length > 0) vk.vkEnumerateDeviceExtensionProperties(handle, null, count, extensions);
  const tellsPci = Buffer.from(extensions.buffer).includes("VK_EXT_pci_bus_info\0");
  // sType, pNext, then: domain, bus, device, function | deviceUUID[16], ... | apiVersion, driverVersion, vendor, device, type, name[256]
  const pci = new BigUint64Array(4);
  const pciView = new DataView(pci.buffer);
  pciView.setUint32(0, PCI_PROPERTIES, true);
  const ids = new BigUint64Array(8);
  const idView = new DataView(ids.buffer);
  idView.setUint32(0, ID_PROPERTIES, true);
  if (tellsPci) idView.setBigUint64(8, vk.address(pci), true);
  const properties = new BigUint64Array(113); // 16 bytes of head, 824 of VkPhysicalDeviceProperties, and room
  const view = new DataView(properties.buffer);
  view.setUint32(0, PROPERTIES_2, true);
  view.setBigUint64(8, vk.address(ids), true);
  vk.vkGetPhysicalDeviceProperties2(handle, properties);
  const at = (offset: number): number => pciView.getUint32(offset, true);
  return {
    index,
    name: Buffer.from(properties.buffer, 36, 256).toString().split("\0")[0]!,
    uuid: Buffer.from(ids.buffer, 16, 16)
      .toString("hex")
      .replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"),
    pci: tellsPci ? `${hex(at(16), 4)}:${hex(at(20), 2)}:${hex(at(24), 2)}.${at(28)}` : undefined,
    software: view.getUint32(32, true) === CPU,
  };
}
