import { ConfigError } from "../../core/errors.ts";
import { didYouMean } from "../../core/util/suggest.ts";
import { folderServerOptions, serveFolder } from "../../runtime/http/folder.ts";
import type { CommandData } from "../command.ts";
import { interruptCode, onStop } from "../interrupt.ts";
import { columns, notes, writeData, writeJson } from "../output.ts";
import { createProgress } from "../progress.ts";

interface ExportFlags {
  readonly baseModel: string | undefined;
  readonly output: string | undefined;
  readonly overwrite: boolean;
  readonly title: string | undefined;
  readonly serve: boolean;
  readonly json: boolean;
}

/** Writes the page, says what it takes, and serves it where that is asked for. */
export async function exportRun(
  { services, values, positionals: [target = "", run = ""] }: CommandData,
  { output: outputDir, serve, json, ...flags }: ExportFlags,
): Promise<number | undefined> {
  const problems: string[] = [];
  if (target !== "web")
    problems.push(`TARGET: got ${JSON.stringify(target)}, expected web${didYouMean(target, ["web"])}`);
  if (outputDir === undefined) problems.push("--output: got nothing, expected a folder");
  if (problems.length > 0) throw new ConfigError("USAGE", problems, { hint: "See qlora export --help." });
  const server = folderServerOptions.parse(values["server"] ?? {});
  const { exportWeb } = await services.sdk();
  const progress = createProgress();
  const request = { ...flags, run, outputDir: outputDir!, data: values["data"] };
  const result = await exportWeb(request, { onEvent: progress.listen }).finally(progress.end);
  notes.info(`wrote ${result.files} files to ${result.outputDir}`);
  if (json) await writeJson(result);
  else {
    const { downloadBytes, gpuBytes, classes } = result;
    await writeData(
      columns([
        ["classes", classes.join(", ")],
        ["download", size(downloadBytes)],
        ["GPU memory", `${size(gpuBytes.f16)} in tier f16, ${size(gpuBytes.f32)} in tier f32 (planned, longest text)`],
      ]),
    );
  }
  if (!serve) return undefined;
  const stopped = Promise.withResolvers<void>();
  onStop(() => stopped.resolve());
  await using site = await serveFolder(result.outputDir, server);
  await writeData(`${site.url}\n`);
  notes.info("Serving the page on this machine. Ctrl-C stops.");
  await stopped.promise;
  return interruptCode();
}

const size = (bytes: number): string =>
  bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
