/** The account of the 9B shape against what was measured on an H200 (docs/performance.md), and the choices made by it. */
import { describe, expect, test } from "bun:test";
import { NVIDIA } from "../../core/device/meta.ts";
import { adamW8bit, lora } from "../../plugins/index.ts";
import { MemoryAccount } from "../../runtime/planning/account.ts";
import { planMemory } from "../../runtime/planning/plan.ts";
import type {
  MemoryFigures,
  MemorySettings,
  Workload,
  UserSettings,
  MemoryMode,
} from "../../runtime/planning/settings.ts";
import { memoryRequest } from "../../runtime/planning/training-plan.ts";
import { benchSource } from "../../sdk/bench-source.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const GIB = 2 ** 30;
const targetModules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"];

/** r 64 on five linears of every layer, AdamW 8-bit; samples of 1024 tokens. */
function accountOf(
  shape: "gemma2-2b" | "gemma2-9b",
  samples: number,
  layers?: number,
  { maxSamples, maxEvalSamples }: { readonly maxSamples?: number; readonly maxEvalSamples?: number } = {},
): MemoryAccount {
  const work: Workload = {
    source: benchSource({ shape, layers }),
    adapter: lora({ rank: 64, alpha: 32, dropout: 0.05, targetModules }),
    numLabels: 3,
    training: {
      optimizer: ({ gpu, parameters }) => adamW8bit().create({ gpu, parameters }),
      steps: [new Array<number>(samples).fill(1024)],
      maxSamples,
    },
    evaluation: maxEvalSamples === undefined ? undefined : { maxSamples: maxEvalSamples, longest: 1024 },
  };
  return new MemoryAccount(work, NVIDIA);
}

async function peakOf(account: MemoryAccount, settings: Partial<MemorySettings>): Promise<number> {
  const all = { checkpointing: "none", tokenBudget: undefined, embeddings: "device", keepDequantized: false } as const;
  const figures = await account.measure({ ...all, ...settings });
  return (figures as MemoryFigures).peak;
}

const eight = accountOf("gemma2-9b", 8);

describe("Gemma-2-9B, as measured on an H200, the last block for one token a sample", () => {
  const two = accountOf("gemma2-9b", 2);
  for (const [what, account, settings, measured] of [
    ["8 samples, weights kept dequantized", eight, { keepDequantized: true }, 67.8],
    ["8 samples, every block checkpointed", eight, { checkpointing: "block" }, 13.74],
    ["2 samples, weights kept dequantized", two, { keepDequantized: true }, 34.11],
    ["2 samples, all lean", two, { checkpointing: "block", embeddings: "host" }, 7.05],
  ] as const) {
    test(`${what}: ${measured} GiB, within 0.1 %`, async () => {
      expect(Math.abs((await peakOf(account, settings)) / GIB / measured - 1)).toBeLessThan(0.001);
    });
  }
});

test("each block that is checkpointed takes memory off", async () => {
  const peaks: number[] = [];
  for (const checkpointing of ["none", 10, 20, 30, "block"] as const)
    peaks.push(await peakOf(eight, { checkpointing }));
  expect(peaks.every((peak, i) => i === 0 || peak < peaks[i - 1]! - 8 * GIB)).toBe(true);
});

test("forward passes alone: Gemma-2-9B as a large card trained it fits 7 GiB", async () => {
  const { source, adapter, numLabels } = eight.work;
  const work = { source, adapter, numLabels, evaluation: { maxSamples: 8, longest: 1024 } };
  const account = new MemoryAccount(work, NVIDIA);
  const settings = {
    checkpointing: "none",
    tokenBudget: undefined,
    embeddings: "device",
    keepDequantized: true,
  } as const;
  const on = (gib: number) =>
    planMemory(account, {
      mode: "auto",
      given: { checkpointing: "none", placement: source.placement },
      favored: { settings, reason: "as trained" },
      budget: { bytes: gib * GIB, source: "test" },
      keeps: true,
    });
  const large = await on(70);
  expect(large).toMatchObject({ settings, reason: "as trained" });
  // f16 copies of 42 blocks' linears, and the bf16 table of 256,000 tokens.
  const block = 3584 * (2 * 4096 + 2 * 2048 + 3 * 14336);
  const small = await on(7);
  expect(small.settings).toMatchObject({ embeddings: "host", keepDequantized: false });
  expect(small.figures.peak).toBeLessThan(7 * GIB);
  const given = 2 * (42 * block + 256_000 * 3584);
  expect(Math.abs((large.figures.peak - small.figures.peak) / given - 1)).toBeLessThan(0.02);
}, 60_000);

describe("choosing", () => {
  const account = accountOf("gemma2-2b", 8, 6);
  const planned = (mode: MemoryMode, gib: number | undefined, given: UserSettings = {}, of = account) => {
    const placement = { embeddings: undefined, keepDequantized: undefined };
    const bytes = gib === undefined ? undefined : gib * GIB;
    return planMemory(of, {
      mode,
      given: { placement, ...given },
      budget: { bytes, source: "test" },
      keeps: true,
    });
  };

  test("with room for all, fast and auto keep everything; lean takes less than either", async () => {
    const [fast, auto, lean] = [await planned("fast", 70), await planned("auto", 70), await planned("lean", 70)];
    const everything = {
      checkpointing: "none",
      keepDequantized: true,
      embeddings: "device",
      tokenBudget: undefined,
    } as const;
    expect(fast.settings).toEqual(everything);
    expect(auto.settings).toEqual(everything);
    expect(lean.settings).toMatchObject({ checkpointing: "block", keepDequantized: false, embeddings: "host" });
    expect(lean.figures.peak).toBeLessThan(auto.figures.peak / 2);
  });

  test("auto fits its budget with no block to spare", async () => {
    // All else is settled, so that blocks must give.
    const placement = { embeddings: "device", keepDequantized: false } as const;
    for (const gib of [4.8, 4, 3.3]) {
      const { settings, figures } = await planned("auto", gib, { tokenBudget: 8192, placement });
      expect(figures.peak).toBeLessThanOrEqual(gib * GIB);
      expect(settings.checkpointing).toBeNumber();
      const fewer = { ...settings, checkpointing: (settings.checkpointing as number) - 1 };
      expect(await peakOf(account, fewer)).toBeGreaterThan(gib * GIB);
    }
  });

  test("auto cuts micro-batches before it checkpoints every block", async () => {
    const { settings, figures } = await planned("auto", 3);
    expect(settings.tokenBudget).toBeLessThan(8192);
    expect(figures.peak).toBeLessThanOrEqual(3 * GIB);
  });

  test("what is configured stays, in every mode", async () => {
    const given = {
      checkpointing: 2,
      tokenBudget: 4096,
      placement: { embeddings: "host", keepDequantized: true },
    } as const;
    const { placement, ...rest } = given;
    for (const mode of ["lean", "auto", "fast"] as const) {
      expect((await planned(mode, 70, given)).settings).toEqual({ ...rest, ...placement });
    }
  });

  test("a run that goes on is not cut anew where less memory is free: it says how to plan anew", async () => {
    const before = { checkpointing: "block", embeddings: "device", keepDequantized: false } as const;
    const uncut = await peakOf(account, before);
    const settled = { checkpointing: "block", placement: { embeddings: "device", keepDequantized: false } } as const;
    const anew = await planned("auto", uncut / GIB - 0.6, settled);
    expect(anew.settings.tokenBudget).toBeLessThan(8192);
    await using folder = await temporaryFolder();
    const recorded = { mode: "auto", settings: { ...before, tokenBudget: undefined } } as const;
    const source = benchSource({ shape: "tiny" });
    const requestOf = async (memory: MemoryMode | undefined) =>
      memoryRequest(await smallRun(folder.path, { training: { memory } }), source, recorded);
    const { given } = await requestOf(undefined);
    expect((await planned("auto", uncut / GIB, given)).settings).toEqual({ ...before, tokenBudget: undefined });
    expect(await planned("auto", uncut / GIB - 0.6, given).catch((thrown: unknown) => thrown)).toMatchObject({
      code: "MEMORY_SHORT",
      hint: expect.stringContaining("naming another --memory chooses anew"),
    });
    // The mode that the run began with changes nothing; another one does.
    expect(await requestOf("auto")).toEqual({ mode: "auto", given });
    expect(await requestOf("lean")).toMatchObject({ mode: "lean", given: { checkpointing: undefined } });
  });

  test("batches of evaluation that are larger than those of training are cut where they alone do not fit", async () => {
    const of = accountOf("gemma2-2b", 1, 6, { maxSamples: 1, maxEvalSamples: 64 });
    const [whole, cut] = [await peakOf(of, {}), await peakOf(of, { tokenBudget: 1024 })];
    expect(cut).toBeLessThan(whole / 2);
    const { settings, figures } = await planned("fast", (cut + 1) / GIB, {}, of);
    expect(settings.tokenBudget).toBe(1024);
    expect(figures.peak).toBeLessThanOrEqual(cut + 1);
  });

  test("nothing known of the memory: nothing is computed twice, nothing kept, and it says so", async () => {
    const { settings, budget } = await planned("auto", undefined);
    expect(settings).toEqual({
      checkpointing: "none",
      keepDequantized: false,
      embeddings: "device",
      tokenBudget: undefined,
    });
    expect(budget.bytes).toBeUndefined();
  });

  test("nothing known of the memory: micro-batches are cut where one buffer would be too large for a binding", async () => {
    const limits = { ...NVIDIA.limits, maxStorageBufferBindingSize: 2 ** 27 };
    const of = new MemoryAccount(account.work, { ...NVIDIA, limits });
    const { settings } = await planned("auto", undefined, {}, of);
    // [N, 9216] f16 activations of the gate: 8192 tokens take 144 MiB.
    expect(settings.checkpointing).toBe("none");
    expect(settings.tokenBudget! * 9216 * 2).toBeLessThanOrEqual(2 ** 27);
  });

  test("too little memory is an error that says how little, and what to lower", async () => {
    const error = (await planned("auto", 0.3).catch((thrown: unknown) => thrown)) as Error & {
      code: string;
      hint: string;
    };
    expect(error.code).toBe("MEMORY_SHORT");
    const [, short, takes] = /short by ([\d.]+) GiB: .* takes ([\d.]+) GiB .* of 0\.30 GiB/.exec(error.message)!;
    expect(Number(takes) - Number(short)).toBeCloseTo(0.3, 1.5);
    const least = await peakOf(account, { checkpointing: "block", tokenBudget: 1024, embeddings: "host" });
    expect(Number(takes)).toBeLessThanOrEqual(least / GIB + 0.005);
    expect(Number(takes)).toBeGreaterThan(0.8 * (least / GIB));
    expect(error.hint).toContain("--max-length");
    const fixed = (await planned("auto", 0.9, { checkpointing: "none" }).catch((thrown: unknown) => thrown)) as {
      hint: string;
    };
    expect(fixed.hint).toContain("--gradient-checkpointing block");
  });
});
