/** The server's page in headless Chromium: judges what is pasted, fits a phone, light and dark. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type JudgeServer, serve, train } from "../../index.ts";
import { findChromium, launchChromium, type Browser, type Page } from "../support/chromium.ts";
import { smallRun, temporaryFolder, testProvider } from "../support/run.ts";
import { until } from "../support/until.ts";

const chromium = findChromium();

// A busy machine takes its time to start a browser.
setDefaultTimeout(120_000);

const shots = process.env["QLORA_SCREENSHOTS"] ?? mkdtempSync(join(tmpdir(), "qlora-screenshots-"));
const example = { prompt: "Which is larger, 3 or 5?", response_a: "5 is larger than 3.", response_b: "I do not know." };

describe.skipIf(chromium === undefined)("the page of qlora serve", () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let browser: Browser;
  let run: string;
  let server: JudgeServer;
  beforeAll(async () => {
    mkdirSync(shots, { recursive: true });
    folder = await temporaryFolder();
    run = (await train(await smallRun(folder.path, { training: { maxSteps: 1 } }))).outputDir;
    server = await serve({ run, port: 0, device: { gpu: testProvider } });
    browser = await launchChromium(chromium!);
  });
  afterAll(async () => {
    await browser?.[Symbol.asyncDispose]();
    await server?.stop();
    await folder[Symbol.asyncDispose]();
  });

  const judge = async (page: Page): Promise<Record<string, string>> => {
    const fill = Object.entries(example).map(
      ([id, text]) => `document.getElementById("${id}").value = ${JSON.stringify(text)};`,
    );
    await page.evaluate(`${fill.join("")} document.querySelector("button").click()`);
    await until("the page's answer", () =>
      page.evaluate<boolean>('document.getElementById("state").textContent.includes(" ms")'),
    );
    return page.evaluate(
      '(() => { const text = (tag) => [...document.querySelectorAll("#answer " + tag)].map((e) => e.textContent); const [names, values] = [text("dt"), text("dd")]; return Object.fromEntries(names.map((name, i) => [name, values[i]])); })()',
    );
  };

  test.each([
    ["desktop", 1280, false],
    ["desktop-dark", 1280, true],
    ["phone", 390, false],
  ])("%s: shows the server's own probabilities and fits", async (name, width, dark) => {
    const page = await browser.open(server.url, { width, height: 844, dark });
    const shown = await judge(page);
    const answer = await fetch(`${server.url}classify`, { method: "POST", body: JSON.stringify({ input: example }) });
    const { data } = (await answer.json()) as { data: { probabilities: Record<string, number> }[] };
    const wanted = Object.entries(data[0]!.probabilities).map(([label, p]) => [label, `${(100 * p).toFixed(1)} %`]);
    expect(shown).toEqual(Object.fromEntries(wanted));
    expect(await page.evaluate("document.documentElement.scrollWidth <= innerWidth")).toBe(true);
    await page.screenshot(join(shots, `serve-${name}.png`));
    expect(page.problems).toEqual([]);
    expect(page.requests.filter((url) => !url.startsWith(server.url) && !url.startsWith("data:"))).toEqual([]);
  });

  test("an error is told in the page, and the key that it asks for is sent", async () => {
    await using keyed = await serve({ run, port: 0, device: { gpu: testProvider }, apiKey: "secret" });
    const page = await browser.open(keyed.url, { width: 1280, height: 900, dark: false });
    await page.evaluate('document.querySelector("button").click()');
    await until("the refusal", () =>
      page.evaluate<boolean>('document.getElementById("state").textContent.includes("Bearer")'),
    );
    await page.evaluate('document.getElementById("key").value = "secret"');
    expect(Object.keys(await judge(page))).toHaveLength(3);
  });
});
