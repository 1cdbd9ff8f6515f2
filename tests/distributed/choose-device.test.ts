/** Which card a rank takes, and what starts ranks; on lists of devices that are made up. */
import { describe, expect, test } from "bun:test";
import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openGpu } from "../../index.ts";
import { type ChoiceRequest, chooseDevice } from "../../runtime/distributed/choose-device.ts";
import { nvidiaNodes, rankCommand } from "../../runtime/distributed/gpus.ts";
import type { VulkanDevice } from "../../runtime/distributed/vulkan-devices.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";

const card = (index: number): VulkanDevice => ({
  index,
  name: "NVIDIA H200",
  uuid: `${index}a6d8c1e-0000-4000-8000-00000000000${index}`,
  pci: `0000:0${index + 6}:00.0`,
  software: false,
});
const software: VulkanDevice = { index: 2, name: "llvmpipe", uuid: "6d657361", pci: undefined, software: true };
const place = (localRank: number, localSize: number, size = localSize) => ({ localRank, localSize, size });
const two = [card(0), card(1), software];
const ask = (parts: Partial<ChoiceRequest>): string => {
  try {
    const choice = chooseDevice({ devices: two, wanted: undefined, place: place(0, 1), layer: true, ...parts });
    return choice === undefined ? "nothing to choose" : `${choice.device.index} by ${choice.way}`;
  } catch (error) {
    return (error as Error).message;
  }
};

describe("the device of a process", () => {
  test("rank i takes the i-th card, by Mesa's layer where there are several", () => {
    expect(ask({ place: place(0, 2) })).toBe("0 by Mesa's device-select layer");
    expect(ask({ place: place(1, 2) })).toBe("1 by Mesa's device-select layer");
    expect(ask({ place: place(1, 2, 4) })).toBe("1 by Mesa's device-select layer");
    expect(ask({ place: place(0, 1, 2) })).toBe("0 by Mesa's device-select layer");
  });

  test("where a rank sees one card alone, that is its own", () => {
    expect(ask({ devices: [card(0)], place: place(1, 2), layer: false })).toBe("0 by the only device");
  });

  test("ranks share a driver that computes on the CPU, and nothing else", () => {
    expect(ask({ devices: [software], place: place(1, 2) })).toBe("2 by the first device");
    expect(ask({ place: place(2, 3) })).toBe("3 ranks on this host, but it has 2 GPUs");
    expect(ask({ place: place(0, 2), wanted: "1" })).toBe(
      "device: got 1 for 2 ranks on this host, which would share one GPU",
    );
  });

  test("a process alone takes what it is told, by number, UUID or PCI address", () => {
    expect(ask({})).toBe("nothing to choose");
    for (const wanted of [
      "1",
      card(1).uuid,
      `GPU-${card(1).uuid.toUpperCase()}`,
      "0000:07:00.0",
      "07:00.0",
      "00000000:07:00.0",
    ])
      expect(ask({ wanted })).toBe("1 by Mesa's device-select layer");
    expect(ask({ wanted: "1,0", place: place(1, 2) })).toBe("0 by Mesa's device-select layer");
    expect(ask({ wanted: "5" })).toStartWith(
      "device: got 5, expected a number, UUID or PCI address of one of these: 0: NVIDIA H200, 0a6d",
    );
  });

  test("without a way to the second card it is refused, never another taken", () => {
    expect(ask({ place: place(0, 2), layer: false })).toBe("0 by the first device");
    expect(ask({ place: place(1, 2), layer: false })).toStartWith("no way to take 1: NVIDIA H200");
  });
});

test.skipIf(tiers.length === 0)("a device that is not there is refused wherever a GPU is opened", async () => {
  expect(await failure(openGpu({ device: "99" }))).toStartWith(
    "ConfigError: device: got 99, expected a number, UUID or PCI address of one of these: 0: ",
  );
});

describe("--gpus", () => {
  const request = {
    gpus: "2",
    program: ["bun", "main.ts", "train"],
    devices: two,
    mpirun: { path: "/usr/bin/mpirun", version: "HYDRA build details" },
    layer: true,
    unshare: "/usr/bin/unshare",
    root: true,
  };
  const nodes = (): string[] => ["/dev/nvidia0", "/dev/nvidia1"];

  test("starts mpirun, unbound, with a rank for each card", () => {
    expect(rankCommand(request, nodes)).toEqual({
      command: ["/usr/bin/mpirun", "-n", "2", "--bind-to", "none", "bun", "main.ts", "train"],
      env: {},
      family: "mpich",
      ranks: 2,
    });
    expect(rankCommand({ ...request, gpus: "all" }, nodes).ranks).toBe(2);
    expect(rankCommand({ ...request, gpus: "all", devices: [software] }, nodes).ranks).toBe(1);
    const openMpi = { path: "mpirun", version: "mpirun (Open MPI) 4.1.4" };
    expect(rankCommand({ ...request, mpirun: openMpi }, nodes)).toMatchObject({
      family: "open-mpi",
      env: { OMPI_ALLOW_RUN_AS_ROOT: "1" },
    });
  });

  test("hides the other cards in a mount namespace where Mesa's layer is missing", () => {
    const { command, env } = rankCommand({ ...request, layer: false, root: false }, nodes);
    expect(command.slice(5, 9)).toEqual(["/usr/bin/unshare", "-Urm", "/bin/sh", "-c"]);
    expect(command.slice(-3)).toEqual(["bun", "main.ts", "train"]);
    // The superuser needs no user namespace, across which MPI could not copy from process to process.
    expect(rankCommand({ ...request, layer: false }, nodes).command[6]).toBe("-m");
    expect(env["QLORA_NODES"]).toBe("/dev/nvidia0 /dev/nvidia1");
  });

  test("the device files of NVIDIA's cards are those of their minors", async () => {
    const root = await mkdtemp(join(tmpdir(), "qlora-nodes-"));
    for (const [address, minor] of [
      ["0000:06:00.0", 1],
      ["0000:07:00.0", 0],
    ] as const) {
      const folder = join(root, "proc/driver/nvidia/gpus", address);
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, "information"), `Model: \t\t NVIDIA H200\nDevice Minor: \t ${minor}\n`);
    }
    expect(nvidiaNodes([card(0), card(1)], root)).toEqual(["/dev/nvidia1", "/dev/nvidia0"]);
    expect(nvidiaNodes([card(3)], root)).toBeUndefined();
    await rm(root, { recursive: true });
  });

  test("more ranks than cards, no mpirun and no number are refused in a sentence", () => {
    expect(() => rankCommand({ ...request, gpus: "3" }, nodes)).toThrow("--gpus: got 3, but this machine shows 2 GPUs");
    expect(() => rankCommand({ ...request, mpirun: undefined }, nodes)).toThrow("--gpus: no mpirun on PATH");
    expect(() => rankCommand({ ...request, gpus: "two" }, nodes)).toThrow("expected a number of at least 1, or all");
  });
});
