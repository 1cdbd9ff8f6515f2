/** The report in headless Chromium: fits the page at phone and desktop width, light and dark, and says what it points at. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { writeReport } from "../../runtime/report/index.ts";
import { findChromium, launchChromium, type Browser, type Page } from "../support/chromium.ts";
import { LOW_CONTRAST } from "../support/contrast.ts";
import { longEvaluation, longHistory, overflow, record, runFolder, type RunFiles } from "./runs.ts";

const chromium = findChromium();

// A busy machine takes its time to start a browser.
setDefaultTimeout(120_000);

/** Screenshots stay here to be looked at: `QLORA_SCREENSHOTS`, else a folder of their own under the system's. */
const shots = process.env["QLORA_SCREENSHOTS"] ?? mkdtempSync(join(tmpdir(), "qlora-screenshots-"));

const phone = { width: 390, height: 844 };
const desktop = { width: 1280, height: 900 };

const whole: RunFiles = { "run.json": record, "metrics.jsonl": longHistory(), "evaluation.json": longEvaluation() };
const long = "a-very-long-name-without-any-place-to-break-it-".repeat(4);

/** Runs that are not a usual whole one. */
const others: Readonly<Record<string, RunFiles>> = {
  "nothing logged": { "run.json": record },
  "one point": {
    "run.json": {},
    "metrics.jsonl": [{ epoch: 0.01, step: 1, loss: 0.7, grad_norm: 0, learning_rate: 0 }],
  },
  "three epochs with a spike": {
    "run.json": { ...record, totalSteps: 90 },
    "metrics.jsonl": Array.from({ length: 90 }, (_, i) => ({
      epoch: (i + 1) / 30,
      step: i + 1,
      loss: i === 40 ? 55 : 1.1 - i / 200,
      grad_norm: i === 40 ? 900 : 3 + (i % 5),
      learning_rate: 1e-4,
      tokens_per_second: 812 + i,
    })),
  },
  "long names and many classes": {
    "run.json": {
      ...record,
      config: { ...record.config, model: { name: "gemma2", options: { checkpoint: long, [long]: [long, long] } } },
      device: { ...record.device, adapter: { description: long } },
    },
    "metrics.jsonl": [1, 2].map((step) => ({
      epoch: step,
      step,
      eval_loss: 1,
      eval_accuracy: 0.5,
      [`eval_${long}`]: 0.25,
    })),
    "evaluation.json": {
      step: 2,
      numLabels: 20,
      labelNames: Array.from({ length: 20 }, (_, i) => (i === 0 ? long : `class number ${i}`)),
      labels: Array.from({ length: 40 }, (_, i) => i % 20),
      probabilities: Array.from({ length: 40 }, () => new Array<number>(20).fill(0.05)),
      lengths: Array.from({ length: 40 }, (_, i) => i),
      maxLength: 2048,
    },
  },
};

describe.skipIf(chromium === undefined)("report.html in Chromium", () => {
  let browser: Browser;
  const folders: Disposable[] = [];

  beforeAll(async () => {
    mkdirSync(shots, { recursive: true });
    browser = await launchChromium(chromium!);
  });
  afterAll(async () => {
    await browser[Symbol.asyncDispose]();
    for (const folder of folders) folder[Symbol.dispose]();
    console.error(`screenshots: ${shots}`);
  });

  async function open(files: RunFiles, view: { width: number; height: number }, dark = false): Promise<Page> {
    const folder = await runFolder(files);
    folders.push(folder);
    return browser.open(pathToFileURL(await writeReport(folder.path)).href, { ...view, dark });
  }

  for (const [name, view] of Object.entries({ phone, desktop })) {
    for (const dark of [false, true]) {
      test(`a whole run at ${view.width} px, ${dark ? "dark" : "light"}`, async () => {
        const page = await open(whole, view, dark);
        await page.screenshot(join(shots, `report-${name}-${dark ? "dark" : "light"}.png`));
        expect(await page.evaluate<unknown[]>(overflow(view.width))).toEqual([0, 0]);
        await page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))");
        expect(await page.evaluate<unknown[]>(overflow(view.width))).toEqual([0, 0]);
        const { low, seen } = await page.evaluate<{ low: string[]; seen: number }>(LOW_CONTRAST);
        expect(low).toEqual([]);
        expect(seen).toBeGreaterThan(300);
        const paper = await page.evaluate<string>("getComputedStyle(document.body).backgroundColor");
        expect(paper).toBe(dark ? "rgb(19, 23, 27)" : "rgb(255, 255, 255)");
        expect(page.problems).toEqual([]);
        expect(page.requests.filter((url) => !url.startsWith("data:"))).toHaveLength(1);
      });
    }
  }

  for (const [name, files] of Object.entries(others)) {
    test(`${name} at phone and desktop width`, async () => {
      for (const view of [phone, desktop]) {
        const page = await open(files, view);
        await page.screenshot(join(shots, `${name.replaceAll(" ", "-")}-${view.width}.png`));
        await page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))");
        expect(await page.evaluate<unknown[]>(overflow(view.width))).toEqual([0, 0]);
        expect(page.problems).toEqual([]);
      }
    });
  }

  test("pointing at a curve reads the log's values, in every chart at once; keys move by one entry", async () => {
    const page = await open(whole, desktop);
    const [x, y] = await page.evaluate<[number, number]>(
      "(() => { const box = document.querySelector('.plot').getBoundingClientRect(); return [box.left + (box.width * 1500) / 2434, box.top + 20]; })()",
    );
    const readouts = () =>
      page.evaluate<string[]>(
        "[...document.querySelectorAll('[data-plot]')].map((plot) => plot.closest('figure').querySelector('.readout').textContent)",
      );
    const before = await readouts();
    await page.movePointer(x, y);
    const at1500 = longHistory().filter((entry) => entry["step"] === 1500);
    const [train, evaluation] = [at1500[0]!, at1500[1]!];
    const during = await readouts();
    expect(during[0]).toBe(
      `step 1,500 · epoch 0.62 · train ${train["loss"]!.toFixed(4)} · eval ${evaluation["eval_loss"]!.toFixed(4)}`,
    );
    expect(during[1]).toBe(`step 1,500 · epoch 0.62 · ${evaluation["eval_log_loss"]!.toFixed(4)}`);
    expect(during[4]).toBe(`step 1,500 · epoch 0.62 · ${train["grad_norm"]!.toFixed(4)}`);
    expect(await page.evaluate<string>("getComputedStyle(document.querySelector('line.cursor')).visibility")).toBe(
      "visible",
    );
    // A screenshot of the whole page resizes the view, which may count as moving the pointer.
    await page.screenshot(join(shots, "pointed.png"));
    await page.movePointer(5, 5);
    expect(await readouts()).toEqual(before);

    await page.evaluate("document.querySelector('.scrub').focus({ focusVisible: true })");
    await page.pressKey("Home");
    expect((await readouts())[0]).toStartWith("step 10 · ");
    await page.pressKey("ArrowRight");
    expect((await readouts())[0]).toStartWith("step 20 · ");
    expect(await page.evaluate<string>("document.querySelector('.scrub').getAttribute('aria-valuetext')")).toBe(
      (await readouts())[0]!,
    );
    await page.pressKey("Escape");
    expect(await readouts()).toEqual(before);
    expect(page.problems).toEqual([]);
  });

  test("prints light, unfolded, on few pages", async () => {
    const page = await open(whole, desktop, true);
    const file = join(shots, "report.pdf");
    await page.pdf(file);
    expect(statSync(file).size).toBeGreaterThan(20_000);
    const pages = (await Bun.file(file).text()).match(/\/Type\s*\/Page\b/g)!.length;
    expect(pages).toBeLessThanOrEqual(6);
    expect(await page.evaluate<boolean>("document.querySelector('details').open")).toBe(false);
  });
});
