/** `qlora watch`: the report over HTTP on this machine alone, kept up to date by server-sent events. */
import { existsSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { ConfigError } from "../../core/errors.ts";
import { defineOptions, option } from "../../core/options/options.ts";
import { defineRequest } from "../../core/options/request.ts";
import { isFolder } from "../files/stat.ts";
import { requireBun } from "../host.ts";
import { listen, localUrl, refuse, respond } from "../http/local.ts";
import { openLiveView, renderLivePage, type LiveStatus, type LiveView } from "./live-page.ts";

/** Options of `qlora watch`. */
export const watchOptions = defineOptions({
  port: option("0 <= number.integer <= 65535", { default: 6007, help: "port on 127.0.0.1; 0 takes any that is free" }),
});

/** How a run is watched. */
export interface WatchOptions {
  /** Port on 127.0.0.1; 0 takes any that is free. */
  readonly port?: number;
  /** Milliseconds between looks at the folder. */
  readonly interval?: number;
}

const check = defineRequest<WatchOptions>("watchRun", {
  port: `${watchOptions.shape.port.definition}?`,
  interval: "number > 0?",
});

/** A server that shows a run. */
export interface RunWatch extends AsyncDisposable {
  readonly url: string;
  readonly status: LiveStatus;
  /** Ends the server and all its pages' streams. */
  stop(): Promise<void>;
}

/** Between comments that keep an idle stream open. */
const HEARTBEAT_MS = 15_000;

/**
 * Serves a run's report on 127.0.0.1 and updates it as the run's folder changes; the folder need not exist yet.
 * @throws QloraError PORT_UNAVAILABLE; ConfigError RUN_NOT_FOUND where `outputDir` is no folder
 * @example const watch = await watchRun("output", { port: 0 }); console.log(watch.url);
 */
export async function watchRun(outputDir: string, options: WatchOptions = {}): Promise<RunWatch> {
  const { port = 6007, interval = 500 } = check(options);
  requireBun("watchRun");
  if (existsSync(outputDir) && !isFolder(outputDir))
    throw new ConfigError("RUN_NOT_FOUND", `${outputDir}: is a file, expected a run's folder`);
  const look = openLiveView(outputDir);
  const instance = crypto.randomUUID();
  let view = await look();
  let count = 0;
  let stopped = false;
  let wake = Promise.withResolvers<void>();
  const viewId = (): string => `${instance}-${count}`;
  const wakeAll = (): void => {
    wake.resolve();
    wake = Promise.withResolvers();
  };

  let looking = false;
  const update = async (): Promise<void> => {
    if (looking) return;
    looking = true;
    const next = await look().finally(() => (looking = false));
    if (stopped || isSame(next, view)) return;
    view = next;
    count++;
    wakeAll();
  };
  /** Each view once, the latest only where the reader is slow. */
  const stream = (seen: string | undefined): ReadableStream<Uint8Array> => {
    const encoder = new TextEncoder();
    let sent = seen;
    return new ReadableStream({
      start: (controller) => controller.enqueue(encoder.encode("retry: 1000\n\n")),
      async pull(controller) {
        if (sent === viewId() && !stopped) await Promise.race([wake.promise, setTimeout(HEARTBEAT_MS)]);
        if (stopped) return controller.close();
        if (sent === viewId()) return controller.enqueue(encoder.encode(": still here\n\n"));
        sent = viewId();
        controller.enqueue(encoder.encode(`id: ${sent}\nevent: view\ndata: ${JSON.stringify(view)}\n\n`));
      },
    });
  };

  const answer = (request: Request): Response => {
    const url = localUrl(request);
    if (url instanceof Response) return url;
    const { pathname, searchParams } = url;
    if (request.method !== "GET" && request.method !== "HEAD") return refuse(405, "only GET");
    if (pathname === "/") return respond(renderLivePage(view, viewId()), "text/html; charset=utf-8");
    if (pathname !== "/events") return refuse(404, "nothing here; the report is at /");
    const seen = request.headers.get("last-event-id") ?? searchParams.get("after") ?? undefined;
    return respond(stream(seen), "text/event-stream");
  };
  const server = listen(port, answer);
  const timer = setInterval(() => void update(), interval);
  const stop = async (): Promise<void> => {
    stopped = true;
    clearInterval(timer);
    wakeAll();
    await server.stop(true);
  };
  return {
    url: `http://127.0.0.1:${server.port}/`,
    get status() {
      return view.status;
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function isSame(a: LiveView, b: LiveView): boolean {
  return a.main === b.main && a.title === b.title && a.status.text === b.status.text;
}
