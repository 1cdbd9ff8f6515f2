import { Gpu } from "../../core/device/gpu.ts";
import { type Capabilities, probe, type Provider, type Tier, tiersOf } from "../../core/device/probe.ts";
import { DeviceError } from "../../core/errors.ts";
import { checkDevice, takeDevice } from "../distributed/choose-device.ts";
import { alone } from "../distributed/world.ts";
import { hostName } from "../host.ts";
import { requestAdapter, requestDevice } from "./providers.ts";

/** How to choose a device. */
export interface OpenOptions {
  /** `auto` takes bun-webgpu, but webgpu where that offers a better tier (f16 on NVIDIA), and elsewhere than in Bun. Default `auto`. */
  readonly gpu?: "auto" | Provider;
  /** `auto` (the default): the best tier the device offers. */
  readonly tier?: "auto" | Tier;
  /** Bounds checks of the driver; default true. `false` needs the provider `webgpu`. */
  readonly robustness?: boolean;
  /** Which of several GPUs: a number, UUID or PCI address of `doctor`; default: QLORA_DEVICE, else the driver's first. */
  readonly device?: string | undefined;
}

let opener: ((options: OpenOptions) => Promise<Gpu>) | undefined;

/** Puts another way to open a GPU in place of this machine's drivers; undefined takes it back. Tests run on meta devices by it. */
export function setGpuOpener(open: typeof opener): void {
  opener = open;
}

interface Candidate {
  readonly provider: Provider;
  readonly adapter: GPUAdapter;
  readonly device: GPUDevice;
  readonly capabilities: Capabilities;
}

/**
 * Opens a GPU.
 * @throws DeviceError where no driver answers or the tier asked for is not offered
 * @example const gpu = await openGpu({ tier: "f16" });
 */
export async function openGpu(options: OpenOptions = {}): Promise<Gpu> {
  if (opener !== undefined) return opener(options);
  const robustness = options.robustness ?? true;
  const device = await takeDevice(options.device, alone);
  const chosen = await choose(options.gpu ?? "auto", robustness);
  const tiers = tiersOf(chosen.capabilities);
  const { tier: wanted = "auto" } = options;
  const tier = wanted === "auto" ? tiers.at(-1)! : wanted;
  const { info } = chosen.adapter;
  await checkDevice(device).catch((error: unknown) => {
    chosen.device.destroy();
    throw error;
  });
  if (!tiers.includes(tier)) {
    chosen.device.destroy();
    throw new DeviceError(
      "TIER_UNAVAILABLE",
      `${info.description || info.device} through ${chosen.provider} offers the tiers ${tiers.join(", ")}, not ${tier}`,
      {
        hint: `Use --tier ${tiers.at(-1)}, or the other provider with --gpu.`,
      },
    );
  }
  const adapter = {
    vendor: info.vendor,
    architecture: info.architecture,
    device: info.device,
    description: info.description,
  };
  return new Gpu(chosen.device, {
    provider: chosen.provider,
    tier,
    capabilities: chosen.capabilities,
    adapter,
    robustness,
  });
}

async function choose(wanted: "auto" | Provider, robustness: boolean): Promise<Candidate> {
  if (wanted !== "auto") return candidate(wanted, robustness);
  if (!robustness || hostName !== "bun") return candidate("webgpu", robustness);
  const first = await candidate("bun-webgpu", true).catch((error: unknown) => asDeviceError(error));
  if (!(first instanceof DeviceError) && first.capabilities.f16) return first;
  const second = await candidate("webgpu", true).catch((error: unknown) => asDeviceError(error));
  if (second instanceof DeviceError) {
    if (first instanceof DeviceError) throw first;
    return first;
  }
  if (first instanceof DeviceError) return second;
  const better = tiersOf(second.capabilities).length > tiersOf(first.capabilities).length ? second : first;
  (better === first ? second : first).device.destroy();
  return better;
}

function asDeviceError(error: unknown): DeviceError {
  if (error instanceof DeviceError) return error;
  throw error;
}

async function candidate(provider: Provider, robustness: boolean): Promise<Candidate> {
  const adapter = await requestAdapter(provider, { robustness });
  const device = await requestDevice(provider, adapter);
  return { provider, adapter, device, capabilities: await probe(device, adapter) };
}
