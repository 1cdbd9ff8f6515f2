/** `qlora watch`: the live page over HTTP, and in headless Chromium while its run's folder changes. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { watchRun, type RunWatch } from "../../runtime/report/watch.ts";
import { findChromium, launchChromium, type Browser, type Page } from "../support/chromium.ts";
import { until } from "../support/until.ts";
import { longEvaluation, longHistory, overflow, record, runFolder } from "./runs.ts";

const chromium = findChromium();

// A busy machine takes its time to start a browser.
setDefaultTimeout(120_000);

const shots = process.env["QLORA_SCREENSHOTS"] ?? mkdtempSync(join(tmpdir(), "qlora-screenshots-"));

const phone = { width: 390, height: 844 };
const desktop = { width: 1280, height: 900 };

/** The long run's log up to a step. */
const historyTo = (step: number) =>
  longHistory().filter((entry) => (entry["step"] ?? 0) <= step && !("train_loss" in entry));

const append = (folder: string, entries: readonly object[]): void =>
  appendFileSync(join(folder, "metrics.jsonl"), entries.map((entry) => `${JSON.stringify(entry)}\n`).join(""));

const write = (folder: string, name: string, value: unknown): void =>
  writeFileSync(join(folder, name), JSON.stringify(value));

describe("the server", () => {
  test("listens on loopback only, answers to its names only, and serves one page and one stream", async () => {
    using folder = await runFolder({ "run.json": record });
    await using watch = await watchRun(folder.path, { port: 0 });
    expect(watch.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
    const page = await fetch(watch.url);
    expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(page.headers.get("cache-control")).toBe("no-store");
    const html = await page.text();
    expect(html).toContain("<h1>gemma-2-9b-fold-0</h1>");
    expect(html).not.toMatch(/\b(?:src|href|srcset|action)="(?!data:,")|url\(|@import|https?:/);
    expect((await fetch(`${watch.url}run.json`)).status).toBe(404);
    expect((await fetch(watch.url, { method: "POST" })).status).toBe(405);
    const foreign = await fetch(watch.url, { headers: { host: "attacker.example" } });
    expect([foreign.status, await foreign.text()]).toEqual([403, "attacker.example is not this machine\n"]);
  });

  test("streams each view once, from the one that the page has", async () => {
    using folder = await runFolder({ "run.json": record, "metrics.jsonl": historyTo(50) });
    await using watch = await watchRun(folder.path, { port: 0, interval: 20 });
    const id = /data-view="([^"]+)"/.exec(await (await fetch(watch.url)).text())![1]!;
    const reader = (await fetch(`${watch.url}events?after=${id}`)).body!.getReader();
    const decoder = new TextDecoder();
    let received = "";
    /** The next event, however the network cuts it. */
    const next = async (): Promise<string> => {
      while (!received.includes("\n\n")) {
        const { done, value } = await reader.read();
        if (done) throw new Error(`the stream ended after ${received}`);
        received += decoder.decode(value, { stream: true });
      }
      const end = received.indexOf("\n\n") + 2;
      const event = received.slice(0, end);
      received = received.slice(end);
      return event;
    };
    expect(await next()).toBe("retry: 1000\n\n");
    append(folder.path, [{ epoch: 0.02, step: 60, loss: 0.123_456 }]);
    const event = await next();
    const lines = event.split("\n");
    expect(lines[0]).toStartWith("id: ");
    expect(lines[0]).not.toContain(id);
    expect(lines[1]).toBe("event: view");
    const view = JSON.parse(lines[2]!.slice("data: ".length)) as { title: string; main: string };
    expect(view.title).toBe("gemma-2-9b-fold-0: step 60 of 2,434");
    expect(view.main).toContain('<data value="0.123456">0.1235</data>');
    await reader.cancel();
  });

  test("tells what is left of a run that goes on", async () => {
    // 32 samples of 480 tokens a step at 3,840 tokens a second are 4 s a step; 2,414 of 2,434 steps are left.
    const entry = { epoch: 0.01, step: 20, loss: 1, num_input_tokens_seen: 20 * 32 * 480, tokens_per_second: 3840 };
    using folder = await runFolder({ "run.json": record, "metrics.jsonl": [entry] });
    await using watch = await watchRun(folder.path, { port: 0 });
    const html = await (await fetch(watch.url)).text();
    expect(html).toContain('<dt>Time left</dt><dd><data value="9656">2\u00a0h 41\u00a0min</data></dd>');
  });

  test("a port in use is one error that says what to do", async () => {
    using folder = await runFolder({ "run.json": record });
    await using watch = await watchRun(folder.path, { port: 0 });
    const { port } = new URL(watch.url);
    const failed = await watchRun(folder.path, { port: Number(port) }).catch((error: unknown) => error);
    expect(failed).toMatchObject({
      code: "PORT_UNAVAILABLE",
      message: `port: ${port} on 127.0.0.1 is in use`,
      hint: "Name another --port; 0 takes any that is free.",
    });
  });

  test("says what it waits for, what it cannot read, and how a run ended", async () => {
    using folder = await runFolder({});
    await using watch = await watchRun(folder.path, { port: 0, interval: 20 });
    const reaches = (state: string) => until(state, () => watch.status.state === state);
    expect(watch.status).toEqual({
      state: "waiting",
      text: `Waiting for a run in ${folder.path}: there is no run.json yet.`,
    });
    mkdirSync(folder.path);
    write(folder.path, "run.json", record);
    await reaches("running");
    writeFileSync(join(folder.path, "metrics.jsonl"), `{"epoch":1}\n${JSON.stringify({ epoch: 1, step: 1 })}\n`);
    await reaches("unreadable");
    expect(watch.status.text).toStartWith(`${join(folder.path, "metrics.jsonl")}:1: expected a JSON object`);
    writeFileSync(join(folder.path, "metrics.jsonl"), `${JSON.stringify({ epoch: 0.5, step: 9, loss: 1 })}\n{"epo`);
    await reaches("running");
    write(folder.path, "trainer_state.json", { num_input_tokens_seen: 5 });
    await reaches("interrupted");
    write(folder.path, "run.json", record); // as a resumed run does
    await reaches("running");
    writeFileSync(join(folder.path, "metrics.jsonl"), `${JSON.stringify({ epoch: 1, step: 9, train_loss: 1 })}\n`);
    await reaches("finished");
    rmSync(folder.path, { recursive: true });
    await reaches("waiting");
  });

  test("a file is no run", async () => {
    const failed = await watchRun(import.meta.path).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: "RUN_NOT_FOUND" });
  });
});

test("qlora watch prints its address, and ends with 130 on SIGINT", async () => {
  using folder = await runFolder({ "run.json": record });
  const main = join(import.meta.dir, "../../cli/main.ts");
  const child = Bun.spawn([process.execPath, main, "watch", folder.path, "--port", "0"], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const { value } = await child.stdout.getReader().read();
  const url = new TextDecoder().decode(value).trim();
  expect(await (await fetch(url)).text()).toContain("<h1>gemma-2-9b-fold-0</h1>");
  const stream = await fetch(`${url}events`); // an open page must not keep it
  child.kill("SIGINT");
  expect(await child.exited).toBe(130);
  expect(await child.stderr.text()).toEndWith("Live: what the run logs appears here. Ctrl-C stops.\n");
  await stream.text().catch(() => "cut off"); // either end is fine, if only it ends
});

describe.skipIf(chromium === undefined)("the live page in Chromium", () => {
  let browser: Browser;
  const open: (Disposable | RunWatch)[] = [];

  beforeAll(async () => {
    mkdirSync(shots, { recursive: true });
    browser = await launchChromium(chromium!);
  });
  afterAll(async () => {
    await browser[Symbol.asyncDispose]();
    for (const one of open) await ("stop" in one ? one.stop() : one[Symbol.dispose]());
    console.error(`screenshots: ${shots}`);
  });

  async function openRun(
    files: Parameters<typeof runFolder>[0],
    view: { width: number; height: number },
    dark = false,
  ): Promise<{ folder: string; page: Page; watch: RunWatch }> {
    const folder = await runFolder(files);
    const watch = await watchRun(folder.path, { port: 0, interval: 20 });
    open.push(folder, watch);
    const page = await browser.open(watch.url, { ...view, dark });
    await page.evaluate("window.loadedOnce = true"); // gone after a reload
    return { folder: folder.path, page, watch };
  }

  const lead = "document.querySelector('.lead').textContent";
  const path = "document.querySelector('path.line.train').getAttribute('d')";

  for (const [name, view] of Object.entries({ phone, desktop })) {
    for (const dark of [false, true]) {
      test(`grows with its run at ${view.width} px, ${dark ? "dark" : "light"}`, async () => {
        const { folder, page } = await openRun({ "run.json": record, "metrics.jsonl": historyTo(200) }, view, dark);
        expect(await page.evaluate<string>(lead)).toStartWith("Running: 200 of 2,434 steps");
        expect(await page.evaluate<number>("document.querySelectorAll('table tbody tr').length")).toBe(20);
        const before = await page.evaluate<string>(path);
        append(
          folder,
          historyTo(600).filter((entry) => entry["step"]! > 200),
        );
        write(folder, "evaluation.json", { ...longEvaluation(), step: 500 });
        await until("the page shows step 600 and the evaluation", async () =>
          page.evaluate<boolean>(
            `${lead}.startsWith("Running: 600 of 2,434 steps") && document.getElementById("predictions") !== null`,
          ),
        );
        expect(await page.evaluate<string>(path)).not.toBe(before);
        const [logged, evaluations] = await page.evaluate<[number, string[]]>(
          `[document.querySelectorAll('.log tbody tr').length, [...document.querySelector('section[aria-labelledby=evaluations]').querySelectorAll('tbody tr')].map((row) => row.cells[0].textContent)]`,
        );
        expect(logged).toBe(60);
        expect(evaluations).toEqual(["250", "500"]);
        expect(await page.evaluate<boolean>("window.loadedOnce")).toBe(true);
        await page.screenshot(join(shots, `watch-${name}-${dark ? "dark" : "light"}.png`));
        expect(await page.evaluate<unknown[]>(overflow(view.width))).toEqual([0, 0]);
        expect(page.problems).toEqual([]);
      });
    }
  }

  test("what the reader opened, scrolled to, focused and points at stays; a rewound log is shown as it is", async () => {
    const { folder, page } = await openRun({ "run.json": record, "metrics.jsonl": historyTo(1000) }, desktop);
    const state = `({
      open: [...document.querySelectorAll("details")].map((details) => details.open),
      logTop: document.querySelector(".log .scroll").scrollTop,
      pageTop: scrollY,
      focused: document.activeElement === window.scrub,
      readout: document.querySelector(".readout").textContent,
    })`;
    await page.evaluate("document.querySelectorAll('details').forEach((details, i) => (details.open = i !== 1))");
    await page.evaluate("document.querySelector('.log .scroll').scrollTop = 300");
    await page.evaluate(
      "scrollTo(0, 150); window.scrub = document.querySelector('.scrub'); scrub.focus({ focusVisible: true })",
    );
    for (const key of ["Home", "ArrowRight"]) await page.pressKey(key);
    await page.evaluate("scrollTo(0, 150)");
    const before = await page.evaluate<Record<string, unknown>>(state);
    expect(before).toMatchObject({ logTop: 300, pageTop: 150, focused: true });
    expect(before["readout"]).toStartWith("step 20 · ");
    append(
      folder,
      historyTo(1200).filter((entry) => entry["step"]! > 1000),
    );
    await until("step 1,200", () => page.evaluate<boolean>(`${lead}.includes("1,200 of")`));
    expect(await page.evaluate<Record<string, unknown>>(state)).toEqual(before);
    await page.pressKey("End");
    expect(await page.evaluate<string>("document.querySelector('.readout').textContent")).toStartWith("step 1,200 · ");
    await page.pressKey("Escape");
    expect(await page.evaluate<string>("document.querySelector('.readout').textContent")).toMatch(/^train .* · eval /);

    // A run that resumes drops what lies beyond its checkpoint.
    writeFileSync(join(folder, "metrics.jsonl"), "");
    append(folder, historyTo(500));
    await until("step 500", () => page.evaluate<boolean>(`${lead}.includes("500 of")`));
    expect(await page.evaluate<number>("document.querySelectorAll('.log tbody tr').length")).toBe(50);
    expect(page.problems).toEqual([]);
  });

  test("opened before its run is there, it fills; when the server is gone, it says so", async () => {
    const { folder, page, watch } = await openRun({}, phone);
    const line = "document.getElementById('live').textContent";
    expect(await page.evaluate<string>(line)).toContain("there is no run.json yet");
    mkdirSync(folder);
    write(folder, "run.json", record);
    await until("a run", () => page.evaluate<boolean>(`${lead}.startsWith("Running: 0 of 2,434 steps")`));
    append(folder, longHistory());
    await until("its end", () => page.evaluate<boolean>(`${line}.includes("This run is finished.")`));
    expect(await page.evaluate<string>(lead)).toStartWith("Finished: 2,434 of 2,434 steps");
    expect(await page.evaluate<boolean>("window.loadedOnce")).toBe(true);
    expect(page.problems).toEqual([]);
    await watch.stop();
    await until("the loss", () => page.evaluate<boolean>(`${line}.includes("No connection to qlora watch")`));
    expect(await page.evaluate<string>(lead)).toStartWith("Finished: 2,434 of 2,434 steps");
    const again = await watchRun(folder, { port: Number(new URL(watch.url).port), interval: 20 });
    open.push(again);
    await until("the return", () => page.evaluate<boolean>(`${line}.includes("This run is finished.")`));
  });
});
