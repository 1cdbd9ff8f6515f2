import { serveOptions } from "../../sdk/serve/index.ts";
import type { CommandData } from "../command.ts";
import { type AdapterFlags, inferenceRequest } from "../inference-flags.ts";
import { interruptCode, onStop } from "../interrupt.ts";
import { notes, writeData } from "../output.ts";
import { createProgress } from "../progress.ts";

/** Serves until it is interrupted; what has arrived by then is answered. */
export async function serve({ services, values, positionals }: CommandData, flags: AdapterFlags): Promise<number> {
  const sdk = await services.sdk();
  const { files: adapters, labelColumns: _, ...request } = inferenceRequest(values, positionals, flags);
  const progress = createProgress();
  const interrupted = Promise.withResolvers<void>();
  onStop((again) => {
    if (again) process.exit(interruptCode());
    interrupted.resolve();
  });
  const options = serveOptions.parse(values["serve"] ?? {});
  // A key in the command line would stand in every list of processes.
  const apiKey = process.env["QLORA_API_KEY"];
  const asked = { ...request, ...options, adapters, apiKey };
  const server = await sdk.serve(asked, { onEvent: progress.listen }).finally(progress.end);
  await writeData(`${server.url}\n`);
  notes.info(
    `serving ${server.models.join(", ")}. Ctrl-C answers what has arrived and stops; once more leaves at once`,
  );
  await interrupted.promise;
  await server.stop();
  return interruptCode();
}
