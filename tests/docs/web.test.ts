/** docs/web.md: its commands run and print what it says, its planned sizes are planned again, and `--serve` hands the page out. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { lora } from "../../plugins/index.ts";
import { benchSource } from "../../sdk/bench-source.ts";
import { buildIfStale } from "../../scripts/build/index.ts";
import { browserDevice, planParts } from "../../web/plan.ts";
import { tiers } from "../support/gpu.ts";
import { prepareArena } from "./arena-data.ts";
import { differingLines, docsFolder, readBlocks, runShell } from "./blocks.ts";

const root = join(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/web.md"), "utf8");
setDefaultTimeout(300_000);

describe.skipIf(tiers.length === 0)("docs/web.md", () => {
  let folder = "";
  beforeAll(async () => {
    await buildIfStale();
    folder = await docsFolder("web");
    await prepareArena(folder);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test("its commands", async () => {
    const blocks = readBlocks(page);
    expect(blocks).toHaveLength(1);
    for (const { code, output } of blocks) {
      const { out, exit } = await runShell(code, folder);
      expect({ exit, out }).toEqual({ exit: 0, out });
      expect(differingLines(out, output!)).toEqual([]);
    }
    for (const file of ["site/model/model.safetensors", "site/adapter/adapter_model.safetensors"])
      expect(existsSync(join(folder, file)), file).toBe(true);
  });

  test("nothing of this machine is in what is handed out", () => {
    for (const file of ["site/site.json", "site/adapter/adapter_config.json"]) {
      const text = readFileSync(join(folder, file), "utf8");
      expect(text).toContain('"tiny-gemma2-nf4"');
      expect(text).not.toContain(folder);
      expect(text).not.toContain(root);
    }
  });

  test("--serve, until it is interrupted; a page is not replaced unasked", async () => {
    const command = [process.execPath, join(root, "cli/main.ts"), "export", "web", "output/judge", "--output", "site"];
    const options = { cwd: folder, stdout: "pipe", stderr: "pipe" } as const;
    const refused = Bun.spawn(command, options);
    expect(await refused.exited).toBe(2);
    expect(await new Response(refused.stderr).text()).toContain("site: expected a new or empty folder");
    const child = Bun.spawn([...command, "--overwrite", "--serve", "--port", "0"], options);
    let text = "";
    for await (const piece of child.stdout) {
      text += new TextDecoder().decode(piece);
      if (text.includes("http://")) break;
    }
    const url = /http:\S+/.exec(text)![0];
    const range = await fetch(`${url}model/model.safetensors`, { headers: { range: "bytes=0-7" } });
    expect([range.status, (await range.bytes()).length]).toEqual([206, 8]);
    child.kill("SIGINT");
    expect(await child.exited).toBe(130);
  });
});

test("the planned sizes", async () => {
  const gb = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`;
  const targetModules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"];
  for (const [name, shape] of [
    ["2B", "gemma2-2b"],
    ["9B", "gemma2-9b"],
  ] as const) {
    const source = benchSource({ shape });
    const adapter = lora({ rank: 64, targetModules });
    const { baseParameters, linears, head } = await source.outline(3);
    const { parameters } = await adapter.create({ linears, head, baseModel: name, seed: 0 });
    const count = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);
    const trained = [...parameters, ...head].reduce((sum, { shape: own }) => sum + 4 * count(own), 0);
    // A nibble, and an absmax of a byte for 64 of them with an f32 for 256 of those.
    const stored = baseParameters.reduce(
      (sum, { shape: own, dtype }) => sum + count(own) * (dtype === "NF4" ? 1 / 2 + 1 / 64 + 4 / (64 * 256) : 2),
      0,
    );
    const table = baseParameters.find(({ name: own }) => own === "model.embed_tokens.weight")!;
    const planned: string[] = [];
    for (const maxLength of [1024, 2048])
      for (const tier of ["f16", "f32"] as const) {
        const { memoryBytes } = await planParts({ source, adapter, numLabels: 3, maxLength }, browserDevice(tier));
        planned.push(gb(memoryBytes));
      }
    const cells = [`Gemma-2 ${name}`, gb(stored + trained), gb(2 * count(table.shape)), ...planned];
    const line = page.split("\n").find((text) => text.startsWith(`| Gemma-2 ${name}`))!;
    expect(line.split("|").flatMap((cell) => (cell.trim() === "" ? [] : [cell.trim()]))).toEqual(cells);
  }
});
