/** An exported page in headless Chromium, whose WebGPU computes on SwiftShader: it loads, seals itself and judges as `predict` does. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { softmaxRows } from "../../core/plugin/metric-rows.ts";
import { predict } from "../../index.ts";
import { type FolderServer, serveFolder } from "../../runtime/http/folder.ts";
import { parseManifest, type SiteManifest } from "../../web/manifest.ts";
import type { Verdict } from "../../web/judge.ts";
import { type Browser, findChromium, launchChromium, type Page } from "../support/chromium.ts";
import { LOW_CONTRAST } from "../support/contrast.ts";
import { tiers } from "../support/gpu.ts";
import { overflow } from "../report/runs.ts";
import { testProvider } from "../support/run.ts";
import { type TestSite, testSite, textsOf } from "./site.ts";

const chromium = findChromium();
setDefaultTimeout(180_000);

const shots = process.env["QLORA_SCREENSHOTS"] ?? mkdtempSync(join(tmpdir(), "qlora-screenshots-"));
const phone = { width: 390, height: 844 };
const desktop = { width: 1280, height: 900 };

/** Resolves, in the page, once the expression is true; what is shown as a problem rejects. */
const until = (condition: string): string => `new Promise((resolve, reject) => {
  const look = () => {
    const problem = document.querySelector("#problem");
    if (!problem.hidden) return reject(new Error(problem.textContent));
    if (${condition}) return resolve(true);
    setTimeout(look, 20);
  };
  look();
})`;

/** Resolves once a problem is shown. */
const SHOWN = `new Promise((resolve) => {
  const look = () => (document.querySelector("#problem").hidden ? setTimeout(look, 20) : resolve(true));
  look();
})`;

/** Pastes texts into the form and asks for a verdict. */
const paste = (texts: Readonly<Record<string, string>>): string => `{
  for (const [name, text] of Object.entries(${JSON.stringify(texts)})) document.querySelector("[name=" + name + "]").value = text;
  document.querySelector("#form button").click();
}`;

const READY = "!document.querySelector('#load').disabled";
const OPEN = "!document.querySelector('#fields').disabled";
const factOf = (name: string): string =>
  `[...document.querySelectorAll("dt")].find(({ textContent }) => textContent === ${JSON.stringify(name)})?.nextElementSibling.textContent`;

describe.skipIf(chromium === undefined || tiers.length === 0)("an exported page", () => {
  let made: TestSite;
  let manifest: SiteManifest;
  let server: FolderServer;
  let browser: Browser;

  beforeAll(async () => {
    mkdirSync(shots, { recursive: true });
    made = await testSite();
    manifest = parseManifest(await readFile(join(made.site, "site.json")));
    server = await serveFolder(made.site, { port: 0 });
    browser = await launchChromium(chromium!, "webgpu");
  }, 300_000);
  afterAll(async () => {
    await browser?.[Symbol.asyncDispose]();
    await server?.stop();
    await made?.[Symbol.asyncDispose]();
    console.error(`screenshots: ${shots}`);
  });

  async function open(url = server.url, inBrowser = browser): Promise<Page> {
    return inBrowser.open(url, { ...desktop, dark: false });
  }

  test("loads, seals itself, and gives predict's logits and averages", async () => {
    const page = await open();
    await page.evaluate(until(READY));
    expect(await page.evaluate<string>(factOf("Classes"))).toBe("A wins, B wins, tie");
    expect(await page.evaluate<string>(factOf("Base model"))).toBe("tiny-gemma2-nf4");
    const control = "fetch('site.json').then(({ status }) => String(status), (error) => error.name)";
    expect(await page.evaluate<string>(control)).toBe("200");
    await page.evaluate("document.querySelector('#load').click()");
    await page.evaluate(until(OPEN));
    const { run, file, rows } = made;
    const device = { gpu: testProvider, tier: "f32" } as const;
    const logits = await predict({ run, files: [file], logits: true, device });
    const averaged = await predict({ run, files: [file], tta: "swap", device });
    for (const [i, row] of rows.entries()) {
      const verdict = await page.evaluate<Verdict>(`judge.judge(${JSON.stringify(textsOf(row))}, true)`);
      verdict.logits.forEach((value, c) =>
        expect(Math.abs(value - logits.rows[i]!.values[c]!), `row ${i}`).toBeLessThanOrEqual(1e-4),
      );
      verdict.probabilities.forEach((value, c) =>
        expect(Math.abs(value - averaged.rows[i]!.values[c]!), `row ${i}`).toBeLessThanOrEqual(1e-4),
      );
    }
    expect(page.problems).toEqual([]);
    const asked = new Set(page.requests.filter((url) => !url.startsWith("data:")).map((url) => new URL(url).pathname));
    const files = ["", "judge.css", "judge.js", "site.json", ...Object.keys(manifest.files)];
    expect([...asked].toSorted()).toEqual(files.map((path) => `/${path}`).toSorted());

    // As a visitor does it.
    await page.evaluate(paste(textsOf(rows.at(-1)!)));
    await page.evaluate(until("!document.querySelector('#verdict').hidden"));
    const shown = await page.evaluate<string[]>("[...document.querySelectorAll('.bar > b')].map((b) => b.textContent)");
    const softmax = [...softmaxRows(logits.rows.at(-1)!.values, 3)];
    expect(shown).toEqual(softmax.map((value) => `${(100 * value).toFixed(1)} %`));
    expect(await page.evaluate<string>("document.querySelector('#notes').textContent")).toMatch(
      /^64 tokens in \d+ ms; cut from \d+ tokens, as the judge was trained; logits /,
    );

    // What the picture in docs/web.md shows.
    const shows = `document.querySelector("#notes").textContent`;
    const notes = await page.evaluate<string>(shows);
    await page.evaluate(paste(textsOf(rows[0]!)));
    await page.evaluate(until(`${shows} !== ${JSON.stringify(notes)}`));
    expect(await page.evaluate<string>(shows)).toMatch(/^\d+ tokens in \d+ ms; logits /);

    // What was answered before is not even asked for now, by whatever way.
    let strangers = 0;
    using stranger = Bun.serve({ port: 0, fetch: () => new Response(String(++strangers)) });
    expect(await page.evaluate<string>(control)).toBe("TypeError");
    const ways = `(async () => {
      const other = ${JSON.stringify(stranger.url.href)};
      const failed = (work) => Promise.resolve().then(work).then(() => 'answered', (error) => error.name);
      const event = (thing, done, broken) => new Promise((resolve) => { thing[done] = () => resolve('answered'); thing[broken] = () => resolve('refused'); });
      const image = new Image(); const seen = event(image, 'onload', 'onerror'); image.src = other;
      const frame = document.createElement('script'); const ran = event(frame, 'onload', 'onerror'); frame.src = other; document.head.append(frame);
      navigator.sendBeacon(other, 'text');
      return [await failed(() => fetch(other, { mode: 'no-cors' })), await seen, await ran];
    })()`;
    expect(await page.evaluate<string[]>(ways)).toEqual(["TypeError", "refused", "refused"]);
    expect(strangers).toBe(0);
    expect(page.problems.join("\n")).toContain("connect-src 'none'");

    for (const [name, view] of Object.entries({ phone, desktop })) {
      for (const dark of [false, true]) {
        await page.look({ ...view, dark });
        await page.screenshot(join(shots, `judge-${name}-${dark ? "dark" : "light"}.png`));
        expect(await page.evaluate<unknown[]>(overflow(view.width))).toEqual([0, 0]);
        const { low, seen } = await page.evaluate<{ low: string[]; seen: number }>(LOW_CONTRAST);
        expect(low).toEqual([]);
        expect(seen).toBeGreaterThan(25);
      }
    }
  });

  test("a second visit downloads nothing that is kept; removed, it is gone", async () => {
    const page = await open();
    await page.evaluate(until(READY));
    expect(await page.evaluate<string>(factOf("Download"))).toEndWith("(in this browser already)");
    expect(page.requests.filter((url) => /\/(model|adapter)\//.test(url))).toEqual([]);
    await page.evaluate("document.querySelector('#forget').click()");
    await page.evaluate(until(`${factOf("Download")}.endsWith("(removed from this browser)")`));
    const later = await open();
    await later.evaluate(until(READY));
    expect(await later.evaluate<string>(factOf("Download"))).toMatch(/^[\d.]+ MB$/);
  });

  const problemAfter = async (page: Page): Promise<string> => {
    await page.evaluate(SHOWN);
    return page.evaluate<string>("document.querySelector('#problem').textContent");
  };

  test("other bytes than were written are not taken, and a server without ranges is told of", async () => {
    let whole = false;
    using other = Bun.serve({
      port: 0,
      fetch: async (request) => {
        const path = new URL(request.url).pathname;
        const response = await fetch(new URL(path, server.url), {
          headers: whole ? {} : Object.fromEntries(request.headers),
        });
        const bytes = await response.bytes();
        // The whole of the adapter's weights, not the header that is looked at first.
        const { bytes: length } = manifest.files["adapter/adapter_model.safetensors"]!;
        if (path.startsWith("/adapter/") && bytes.length === length) bytes[length - 1]! ^= 1;
        const { status, headers } = response;
        return new Response(bytes, { status, headers });
      },
    });
    const page = await open(`http://localhost:${other.port}/`);
    await page.evaluate(until(READY));
    await page.evaluate("document.querySelector('#load').click()");
    expect(await problemAfter(page)).toMatch(
      /adapter_model\.safetensors: \d+ bytes from 0 on are not those that the page was written with/,
    );
    expect(await page.evaluate<boolean>("document.querySelector('#load').disabled")).toBe(false);
    expect(await page.evaluate<boolean>("document.querySelector('#sealed').hidden")).toBe(true);
    whole = true;
    const second = await open(`http://localhost:${other.port}/`);
    expect(await problemAfter(second)).toMatch(/asked for bytes 0 to 0, got status 200, expected 206/);
  });

  test("a browser without WebGPU is told what to use", async () => {
    await using plain = await launchChromium(chromium!);
    const page = await open(server.url, plain);
    expect(await problemAfter(page)).toMatch(/WebGPU.*\nOn Linux, use Chrome or Chromium/);
    expect(await page.evaluate<boolean>("document.querySelector('#load').disabled")).toBe(true);
    expect(page.problems.filter((problem) => !problem.includes("No available adapters"))).toEqual([]);
  });
});
