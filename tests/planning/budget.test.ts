import { describe, expect, test } from "bun:test";
import { NVIDIA } from "../../core/device/meta.ts";
import { formatBytes, parseBytes } from "../../core/util/byte-size.ts";
import { deviceOptions } from "../../runtime/config/device-options.ts";
import { driverMargin, freeOnNvidia, memoryBudget } from "../../runtime/device/budget.ts";

describe("sizes", () => {
  test("are read in both kinds of unit", () => {
    expect(parseBytes("24GiB")).toBe(25769803776);
    expect(parseBytes(" 1.5 gb ")).toBe(1500000000);
    expect(parseBytes("512MiB")).toBe(536870912);
    expect(parseBytes("1024")).toBe(1024);
    for (const wrong of ["", "GiB", "-1GiB", "24 parsecs", "0GiB", "1e9"]) expect(parseBytes(wrong)).toBeUndefined();
    expect(formatBytes(7.264 * 2 ** 30)).toBe("7.26 GiB");
    expect(formatBytes(4.58 * 2 ** 20)).toBe("4.6 MiB");
    expect(formatBytes(24)).toBe("24 bytes"); // as --memory-budget 24 means
  });

  test("a budget that is no size is a problem of the config", () => {
    expect(deviceOptions.check({ memoryBudget: "much" }, "device")).toEqual({
      ok: false,
      problems: ["device.memoryBudget: got much, expected a size such as 24GiB or 512MiB"],
    });
  });
});

describe("the budget", () => {
  test("is what is given, to the byte", async () => {
    expect((await memoryBudget(NVIDIA.info, "10GiB")).bytes).toBe(10 * 2 ** 30);
  });

  test("of an NVIDIA card is the free memory of the smallest card of its name", () => {
    const text = "NVIDIA H100 80GB HBM3, 81000\nNVIDIA H100 80GB HBM3, 40000\nNVIDIA T400, 1800\n";
    expect(freeOnNvidia(text, "NVIDIA H100 80GB HBM3 nvidia")).toBe(40000 * 2 ** 20);
    expect(freeOnNvidia(text, "NVIDIA T400")).toBe(1800 * 2 ** 20);
    expect(freeOnNvidia(text, "another name")).toBe(1800 * 2 ** 20);
    expect(freeOnNvidia("nothing of use", "NVIDIA T400")).toBeUndefined();
    expect(freeOnNvidia(undefined, "NVIDIA T400")).toBeUndefined();
  });

  test("of a software driver is the host's memory, less a margin", async () => {
    const adapter = { vendor: "mesa", architecture: "", device: "", description: "llvmpipe (LLVM 15.0.6, 256 bits)" };
    const { bytes, source } = await memoryBudget({ ...NVIDIA.info, adapter }, undefined);
    const free = process.availableMemory();
    expect(Math.abs(bytes! - (free - driverMargin(free)))).toBeLessThan(0.1 * free);
    expect(source).toContain("less");
  });

  test("of a device that nothing is known of is undefined, and says so", async () => {
    const adapter = { vendor: "acme", architecture: "", device: "", description: "Acme 3D" };
    const { bytes, source } = await memoryBudget({ ...NVIDIA.info, adapter }, undefined);
    expect(bytes).toBeUndefined();
    expect(source).toContain("does not tell");
  });
});
