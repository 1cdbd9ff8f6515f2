/** A headless Chromium that tests drive over the DevTools protocol, through a plain WebSocket. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--hide-scrollbars",
  "--remote-debugging-port=0",
];

/** What a page's graphics are: none, or WebGPU on SwiftShader, which computes on the CPU (f32, no subgroups, 10 storage buffers). */
const GRAPHICS = {
  none: ["--disable-gpu"],
  webgpu: ["--use-webgpu-adapter=swiftshader", "--enable-unsafe-webgpu"],
} as const;

/** How a page is looked at. */
export interface View {
  readonly width: number;
  readonly height: number;
  readonly dark: boolean;
}

/** One open page. */
export interface Page {
  /** Console errors and warnings, uncaught exceptions, and what the browser itself complains of. */
  readonly problems: readonly string[];
  /** Addresses that the page asked for. */
  readonly requests: readonly string[];
  /** Value of an expression in the page. */
  evaluate<T>(expression: string): Promise<T>;
  movePointer(x: number, y: number): Promise<void>;
  pressKey(key: string): Promise<void>;
  /** Another size, or light and dark exchanged. */
  look(view: View): Promise<void>;
  /** PNG of the whole page. */
  screenshot(path: string): Promise<void>;
  /** The page as a PDF. */
  pdf(path: string): Promise<void>;
}

/** A running browser. */
export interface Browser extends AsyncDisposable {
  /** Opens an address and waits until it is loaded. */
  open(url: string, view: View): Promise<Page>;
}

/** Path of a Chromium (`QLORA_CHROMIUM`, or one on PATH); undefined, said loudly, where there is none. */
export function findChromium(): string | undefined {
  const path = process.env["QLORA_CHROMIUM"] ?? NAMES.map((name) => Bun.which(name)).find((found) => found !== null);
  if (path === undefined) {
    console.error("SKIPPED: no Chromium for the page tests; install it (Debian: chromium) or set QLORA_CHROMIUM");
  }
  return path;
}

type Message = {
  readonly id?: number;
  readonly method?: string;
  readonly sessionId?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
};

/** Starts a browser with a profile of its own. */
export async function launchChromium(path: string, graphics: keyof typeof GRAPHICS = "none"): Promise<Browser> {
  const profile = mkdtempSync(join(tmpdir(), "qlora-chromium-"));
  const process = Bun.spawn([path, ...FLAGS, ...GRAPHICS[graphics], `--user-data-dir=${profile}`, "about:blank"], {
    stdout: "ignore",
    stderr: "pipe",
  });
  const socket = new WebSocket(await debuggerAddress(process.stderr));
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", reject);
  });
  const waiting = new Map<number, { resolve: (result: Record<string, unknown>) => void; reject: (e: Error) => void }>();
  const listeners = new Set<(message: Message) => void>();
  let lastId = 0;
  socket.addEventListener("message", (event) => {
    const message = JSON.parse(String(event.data)) as Message;
    const call = message.id === undefined ? undefined : waiting.get(message.id);
    if (call === undefined) return listeners.forEach((listener) => listener(message));
    waiting.delete(message.id!);
    if (message.error === undefined) call.resolve(message.result ?? {});
    else call.reject(new Error(message.error.message));
  });
  const send = (method: string, params: object = {}, sessionId?: string): Promise<Record<string, unknown>> => {
    const id = ++lastId;
    socket.send(JSON.stringify({ id, method, params, ...(sessionId === undefined ? {} : { sessionId }) }));
    return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  };

  return {
    async open(url, view) {
      const { targetId } = await send("Target.createTarget", { url: "about:blank" });
      const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
      const call = (method: string, params: object = {}) => send(method, params, sessionId as string);
      const problems: string[] = [];
      const requests: string[] = [];
      const loaded = new Promise<void>((resolve) => {
        listeners.add((message) => {
          if (message.sessionId !== sessionId) return;
          if (message.method === "Page.loadEventFired") resolve();
          const problem = problemOf(message);
          if (problem !== undefined) problems.push(problem);
          const request = message.params?.["request"] as { url: string } | undefined;
          if (message.method === "Network.requestWillBeSent" && request !== undefined) requests.push(request.url);
        });
      });
      await Promise.all(["Page", "Runtime", "Log", "Network"].map((domain) => call(`${domain}.enable`)));
      const look = async ({ width, height, dark }: View): Promise<void> => {
        const mobile = width < 600;
        await call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile });
        const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
        await call("Emulation.setEmulatedMedia", { features });
      };
      await look(view);
      await call("Page.navigate", { url });
      await loaded;
      return {
        problems,
        requests,
        look,
        async evaluate<T>(expression: string) {
          const { result, exceptionDetails } = await call("Runtime.evaluate", {
            expression,
            returnByValue: true,
            awaitPromise: true,
          });
          if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
          return (result as { value: T }).value;
        },
        async movePointer(x, y) {
          await call("Input.dispatchMouseEvent", { type: "mouseMoved", x, y });
        },
        async pressKey(key) {
          for (const type of ["keyDown", "keyUp"]) await call("Input.dispatchKeyEvent", { type, key, code: key });
        },
        async screenshot(file) {
          const { data } = await call("Page.captureScreenshot", { captureBeyondViewport: true, ...(await clip(call)) });
          await Bun.write(file, Buffer.from(data as string, "base64"));
        },
        async pdf(file) {
          const { data } = await call("Page.printToPDF", { printBackground: false, preferCSSPageSize: true });
          await Bun.write(file, Buffer.from(data as string, "base64"));
        },
      };
    },
    async [Symbol.asyncDispose]() {
      await send("Browser.close").catch(() => process.kill());
      await process.exited;
      socket.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** The whole page as a rectangle. */
async function clip(call: (method: string) => Promise<Record<string, unknown>>): Promise<object> {
  const { cssContentSize } = await call("Page.getLayoutMetrics");
  const { width, height } = cssContentSize as { width: number; height: number };
  return { clip: { x: 0, y: 0, width, height, scale: 1 } };
}

function problemOf({ method, params }: Message): string | undefined {
  const text = JSON.stringify(params);
  if (method === "Runtime.exceptionThrown") return text;
  if (method === "Runtime.consoleAPICalled" && ["error", "warning", "assert"].includes(String(params?.["type"])))
    return text;
  const entry = params?.["entry"] as { level?: string } | undefined;
  return method === "Log.entryAdded" && entry?.level !== "info" && entry?.level !== "verbose" ? text : undefined;
}

/** The address Chromium prints when it is ready; the rest of its output is read and dropped. */
async function debuggerAddress(output: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  const reader = output.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`Chromium ended before it was ready:\n${text}`);
    text += decoder.decode(value, { stream: true });
    const address = /DevTools listening on (ws:\/\/\S+)/.exec(text)?.[1];
    if (address === undefined) continue;
    void (async () => {
      while (!(await reader.read()).done);
    })();
    return address;
  }
}
