import { configToJson } from "../../runtime/config/config.ts";
import type { CommandData } from "../command.ts";
import { columns, thousands, writeData, writeJson } from "../output.ts";

interface InspectFlags {
  readonly printConfig: boolean;
  readonly json: boolean;
}

/** Prints every parameter of the model with its adapter, then peft's line. */
export async function inspect({ services, config }: CommandData, flags: InspectFlags): Promise<void> {
  if (flags.printConfig) return writeJson(configToJson(config!));
  const sdk = await services.sdk();
  const report = await sdk.inspect(config!);
  if (flags.json) return writeJson(report);
  const rows = report.parameters.map(({ name, shape, dtype, trainable }) => [
    name,
    `[${shape.join(", ")}]`,
    dtype,
    trainable ? "trainable" : "",
  ]);
  const { trainableParameters: trainable, allParameters: all } = report;
  const share = ((100 * trainable) / all).toFixed(4);
  await writeData(
    `${columns(rows)}trainable params: ${thousands(trainable)} || all params: ${thousands(all)} || trainable%: ${share}\n`,
  );
}
