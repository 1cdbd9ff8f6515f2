import { watchOptions, watchRun } from "../../runtime/report/watch.ts";
import type { CommandData } from "../command.ts";
import { interruptCode, onStop } from "../interrupt.ts";
import { notes, writeData } from "../output.ts";

interface WatchFlags {
  readonly run: string;
  readonly open: boolean;
}

/** Serves until it is interrupted, which is the only way to end it. */
export async function watch({ values }: CommandData, { run, open }: WatchFlags): Promise<number> {
  const interrupted = Promise.withResolvers<void>();
  onStop(() => interrupted.resolve());
  await using server = await watchRun(run, watchOptions.parse(values["watch"] ?? {}));
  await writeData(`${server.url}\n`);
  notes.info(`${server.status.text} Ctrl-C stops.`);
  if (open) openBrowser(server.url);
  await interrupted.promise;
  return interruptCode();
}

const OPENERS: Readonly<Record<string, readonly string[]>> = {
  darwin: ["open"],
  win32: ["cmd", "/c", "start", ""],
};

function openBrowser(url: string): void {
  const [command, ...rest] = OPENERS[process.platform] ?? ["xdg-open"];
  const path = Bun.which(command!);
  if (path === null) notes.warn(`--open: there is no ${command} here; open ${url} yourself`);
  else Bun.spawn([path, ...rest, url], { stdio: ["ignore", "ignore", "ignore"] }).unref();
}
