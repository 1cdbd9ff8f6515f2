import type { Gpu } from "../core/device/gpu.ts";
import { expectThat } from "./contract.ts";

/**
 * Runs `work` on a device on which an element that nobody writes is NaN.
 * @throws ContractError where `work` still holds GPU memory after `what`
 */
export async function expectNothingHeld<T>(
  gpu: Gpu | Promise<Gpu>,
  what: string,
  work: (device: Gpu) => Promise<T>,
): Promise<T> {
  const device = await gpu;
  const { poison } = device;
  const before = device.memory.report().used;
  device.poison = true;
  try {
    const result = await work(device);
    const held = device.memory.report().used - before;
    expectThat(held === 0, `${held} bytes of GPU memory are still held after ${what}`);
    return result;
  } finally {
    device.poison = poison;
  }
}
