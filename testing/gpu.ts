import type { Gpu } from "../core/device/gpu.ts";
import { type Tier, tiersOf } from "../core/device/probe.ts";
import { DeviceError } from "../core/errors.ts";
import { openGpu, type OpenOptions } from "../runtime/device/open.ts";

/** `QLORA_TEST_GPU` picks the provider that tests run on; default: what `auto` takes. */
const provider = (process.env["QLORA_TEST_GPU"] ?? "auto") as OpenOptions["gpu"];

interface Shared {
  readonly gpus: Map<Tier, Promise<Gpu>>;
  tiers?: Promise<readonly Tier[]>;
}

// One device per tier for a whole test run: globals outlive a test runner's registry of modules per file.
const shared: Shared = ((globalThis as { __qloraTest?: Shared }).__qloraTest ??= { gpus: new Map() });

/** The device of a tier, shared by all tests of a process, with fresh tensors poisoned (NaN until written). */
export function testGpu(tier: Tier): Promise<Gpu> {
  let open = shared.gpus.get(tier);
  if (open === undefined) {
    open = openGpu({ gpu: provider, tier }).then((gpu) => {
      gpu.poison = true;
      return gpu;
    });
    shared.gpus.set(tier, open);
  }
  return open;
}

/**
 * Tiers that this machine offers; none, said loudly, where it has no adapter.
 * @example for (const tier of await testTiers()) test(tier, async () => console.log((await testGpu(tier)).computeDtype));
 */
export function testTiers(): Promise<readonly Tier[]> {
  return (shared.tiers ??= offered());
}

async function offered(): Promise<readonly Tier[]> {
  try {
    const gpu = await openGpu({ gpu: provider });
    const tiers = tiersOf(gpu.info.capabilities);
    gpu.destroy();
    return tiers;
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    console.error(`SKIPPED: no GPU for the kernel tests: ${error.message}. ${error.hint ?? ""}`);
    return [];
  }
}
