import { afterAll, beforeAll } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { watchRun, type RunWatch } from "../../runtime/report/watch.ts";
import { fuzz } from "./harness.ts";

let folder = "";
let watch: RunWatch;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "qlora-fuzz-watch-"));
  watch = await watchRun(folder, { port: 0 });
});
afterAll(async () => {
  await watch.stop();
  rmSync(folder, { recursive: true });
});

/** Everything that comes back before the server closes, or all that it has to say within a while. */
const answers = (bytes: Uint8Array): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect(Number(new URL(watch.url).port), "127.0.0.1");
    let text = "";
    const end = (): void => {
      socket.destroy();
      resolve(text);
    };
    const timer = setTimeout(end, 200); // a request that is not whole is waited for by the server
    socket.on("data", (data) => {
      text += data.toString("latin1");
      if (text.length > 16) end();
    });
    socket.on("error", end).on("close", () => {
      clearTimeout(timer);
      end();
    });
    socket.write(bytes);
  });

fuzz({
  name: "watch",
  kind: "text",
  corpus: [
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "GET /events?after=x HTTP/1.1\r\nHost: localhost:6007\r\nLast-Event-ID: y\r\n\r\n",
    "HEAD / HTTP/1.0\r\nHost: [::1]\r\n\r\n",
  ],
  inputs: 150,
  run: async ({ bytes }) => {
    const text = await answers(bytes);
    if (text !== "" && !/^HTTP\/1\.1 (?:200|4\d\d|505)/.test(text)) throw new Error(`answered ${text.slice(0, 200)}`);
    const alive = await fetch(watch.url);
    if (alive.status !== 200) throw new Error(`then the page is ${alive.status}`);
    await alive.text();
  },
});
