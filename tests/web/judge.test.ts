/** An exported page's judge outside a browser, in each tier of this machine: its numbers are those of `predict`. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { describeDevice } from "../../core/device/meta.ts";
import type { TemplateRow } from "../../core/plugin/template.ts";
import { exportWeb, predict } from "../../index.ts";
import { findFormat } from "../../runtime/data/formats/index.ts";
import type { TextField } from "../../runtime/data/truncation.ts";
import { openGpu } from "../../runtime/device/open.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import { exampleRow } from "../../sdk/site/row.ts";
import { contentFor } from "../../web/content.ts";
import { Judge } from "../../web/judge.ts";
import { parseManifest, type SiteManifest } from "../../web/manifest.ts";
import { browserDevice, planJudge } from "../../web/plan.ts";
import { tiers } from "../support/gpu.ts";
import { testProvider } from "../support/run.ts";
import { type TestSite, testSite, textsOf } from "./site.ts";

/** As the parity tests have them. */
const LIMITS = { f32: 1e-4, f16: 6e-3, matrix: 6e-3 } as const;

describe.skipIf(tiers.length === 0)("an exported judge", () => {
  let made: TestSite;
  let manifest: SiteManifest;
  const folders = () => ({
    model: openFolder(join(made.site, "model")),
    adapter: openFolder(join(made.site, "adapter")),
  });

  beforeAll(async () => {
    made = await testSite();
    manifest = parseManifest(await Bun.file(join(made.site, "site.json")).bytes());
  }, 300_000);
  afterAll(() => made[Symbol.asyncDispose]());

  for (const tier of tiers) {
    test(`tier ${tier}: logits, averages and what was cut`, async () => {
      const gpu = await openGpu({ gpu: testProvider, tier });
      const plan = await planJudge(manifest, folders(), describeDevice(gpu));
      using judge = await Judge.open(gpu, { manifest, folders: folders(), plan }, () => {});
      const { run, file, rows } = made;
      const device = { gpu: testProvider, tier };
      const logits = await predict({ run, files: [file], logits: true, device });
      const averaged = await predict({ run, files: [file], tta: "swap", device });
      expect(logits.columns).toEqual([...manifest.columns]);
      for (const [i, row] of rows.entries()) {
        const verdict = await judge.judge(textsOf(row), true);
        verdict.logits.forEach((value, c) =>
          expect(Math.abs(value - logits.rows[i]!.values[c]!), `row ${i}`).toBeLessThanOrEqual(LIMITS[tier]),
        );
        verdict.probabilities.forEach((value, c) =>
          expect(Math.abs(value - averaged.rows[i]!.values[c]!), `row ${i}`).toBeLessThanOrEqual(LIMITS[tier]),
        );
        expect(verdict.tokens).toBeLessThanOrEqual(64);
        expect(verdict.cut).toBe(verdict.fullTokens > 64);
      }
      expect((await judge.judge(textsOf(rows.at(-1)!))).cut).toBe(true);
      expect(judge.memoryBytes).toBeLessThanOrEqual(plan.memoryBytes);
    }, 120_000);
  }

  test("what is written is what the page reads, and what was planned is told", async () => {
    expect(manifest).toMatchObject({
      title: "Who answered better?",
      numLabels: 3,
      labels: ["A wins", "B wins", "tie"],
      mirror: [1, 0, 2],
      tokens: { before: [2], after: [1], maxLength: 64, truncation: "thirds" },
    });
    const files = [...new Bun.Glob("**/*").scanSync(made.site)].toSorted();
    expect(files).toEqual(
      [...Object.keys(manifest.files), "index.html", "judge.css", "judge.js", "site.json"].toSorted(),
    );
    expect(made.written.files).toBe(files.length);
    const { f16, f32 } = made.written.gpuBytes;
    expect(f16).toBeGreaterThan(1e6);
    expect(f32).toBeGreaterThan(f16);
  });

  test("the run's template is the page's; one that changes texts is refused", async () => {
    const outputDir = join(made.folder, "templated");
    const template = "Q {prompt} | {response_a} | {response_b} | who?";
    await exportWeb({ run: made.run, outputDir, data: { template } });
    const { fields, content } = parseManifest(await Bun.file(join(outputDir, "site.json")).bytes());
    const filled = contentFor({ fields, content }, { prompt: "{a}", response_a: " b ", response_b: "$1" });
    const text = (filled as readonly TextField[]).map(({ head, body, tail }) => head + body + tail).join("");
    expect(text).toBe("Q {a} |  b  | $1 | who?");
    const trims = { parts: (row: TemplateRow) => [{ head: "", text: row.text("prompt").trim() }] };
    expect(() => exampleRow(findFormat("arena")!, trims)).toThrow(
      'template: it changes the text "  spaces around \\n"',
    );
  });

  test("a GPU with too few storage buffers, or too small ones, is refused before anything is loaded", async () => {
    const device = browserDevice("f32");
    const few = { ...device, limits: { ...device.limits, maxStorageBuffersPerShaderStage: 3 } };
    expect(planJudge(manifest, folders(), few)).rejects.toMatchObject({
      code: "LIMIT_TOO_LOW",
      message: expect.stringMatching(/binds \d+ storage buffers; a GPU in desktop Chrome allows 3/),
    });
    const small = { ...device, limits: { ...device.limits, maxStorageBufferBindingSize: 1024 } };
    expect(planJudge(manifest, folders(), small)).rejects.toMatchObject({ code: "BINDING_TOO_LARGE" });
  });
});
