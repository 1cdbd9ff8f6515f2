import { expect, spyOn, test } from "bun:test";
import { appendFileSync, closeSync, openSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { openLiveView } from "../../runtime/report/live-page.ts";
import { openMetricsTail } from "../../runtime/report/metrics-tail.ts";
import { watchRun } from "../../runtime/report/watch.ts";
import { record, runFolder } from "./runs.ts";

/** What the server answers to these bytes: its first line, and its body. */
const ask = (url: string, text: string): Promise<readonly [line: string, body: string]> =>
  new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    let answer = "";
    const done = (): void => {
      const [head = "", body = ""] = answer.split("\r\n\r\n");
      const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
      if (!answer.includes("\r\n\r\n") || body.length < length) return;
      socket.destroy();
      resolve([head.split("\r\n")[0]!, body]);
    };
    socket.on("data", (data) => {
      answer += data.toString("latin1");
      done();
    });
    socket.on("error", reject);
    socket.write(text);
  });

test("a Host that is none, or that means another one, is 400, without a line of source", async () => {
  using folder = await runFolder({ "run.json": record });
  await using watch = await watchRun(folder.path, { port: 0 });
  const hosts = [
    "[",
    "a b",
    "%%%",
    "127.0.0.1:99999999",
    "evil@127.0.0.1",
    "localhost#a",
    "localhost/x",
    "localhost\\x",
    "[::1",
    "a,b",
    "?",
  ];
  for (const request of [
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\n\r\n",
    ...hosts.map((host) => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`),
    ...hosts.map((host) => `GET /events HTTP/1.0\r\nHost: ${host}\r\n\r\n`),
  ]) {
    const [line, body] = await ask(watch.url, request);
    expect(line, request).toBe("HTTP/1.1 400 Bad Request");
    expect(["", "expected a request with a Host and a path\n"]).toContain(body);
  }
  expect((await ask(watch.url, "GET / HTTP/1.0\r\nHost: LocalHost\r\n\r\n"))[0]).toBe("HTTP/1.1 200 OK");
});

test("an exception while a page is made is 500 in one sentence, and the next page is served", async () => {
  using folder = await runFolder({ "run.json": record });
  await using watch = await watchRun(folder.path, { port: 0 });
  const broken = spyOn(URL, "canParse").mockImplementation(() => {
    throw new Error("a secret of the source");
  });
  const [line, body] = await ask(watch.url, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  broken.mockRestore();
  expect([line, body]).toEqual(["HTTP/1.1 500 Internal Server Error", "the answer could not be made\n"]);
  expect((await fetch(watch.url)).status).toBe(200);
});

const line = (step: number): string => `${JSON.stringify({ step, epoch: step / 10, loss: 1 })}\n`;

test("a log that grows is read on from where it ended; half a line waits, a log that was replaced or cut is read anew", async () => {
  using folder = await runFolder({ "run.json": record });
  const path = join(folder.path, "metrics.jsonl");
  const read = openMetricsTail(path);
  const steps = async (): Promise<number[]> => (await read()).map(({ step }) => step);
  expect(await steps()).toEqual([]);
  writeFileSync(path, line(1) + line(2));
  expect(await steps()).toEqual([1, 2]);
  const half = line(3).slice(0, 9);
  appendFileSync(path, half);
  expect(await steps()).toEqual([1, 2]);
  appendFileSync(path, line(3).slice(9).trimEnd());
  expect(await steps()).toEqual([1, 2, 3]); // whole but for its end
  appendFileSync(path, `\n${line(4)}`);
  expect(await steps()).toEqual([1, 2, 3, 4]);
  // What stands before is not read again: here it is no longer a log.
  const handle = openSync(path, "r+");
  writeSync(handle, "#", 0);
  closeSync(handle);
  appendFileSync(path, line(5));
  expect(await steps()).toEqual([1, 2, 3, 4, 5]);
  appendFileSync(path, "no entry\n");
  expect(await steps().catch((error: Error) => error.message)).toBe(
    `${path}:6: expected a JSON object of numbers with step and epoch`,
  );
  await writeFile(`${path}.new`, line(7).repeat(90));
  await rename(`${path}.new`, path);
  expect(await steps()).toHaveLength(90);
  truncateSync(path, line(7).length);
  expect(await steps()).toEqual([7]);
});

test("a view of a hundred thousand lines is not made anew for each line that comes", async () => {
  using folder = await runFolder({ "run.json": record });
  const path = join(folder.path, "metrics.jsonl");
  writeFileSync(path, Array.from({ length: 100_000 }, (_, i) => line(i + 1)).join(""));
  const look = openLiveView(folder.path);
  const first = await look();
  expect(first.title).toContain("100,000");
  const before = process.cpuUsage();
  for (let step = 100_001; step <= 100_020; step++) {
    appendFileSync(path, line(step));
    await look();
  }
  const { user, system } = process.cpuUsage(before);
  expect((user + system) / 1e6).toBeLessThan(3); // twenty views took 40 s
});
