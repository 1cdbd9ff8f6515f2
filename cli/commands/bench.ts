import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";

export const prepare: CommandModule["prepare"] = async () => {
  const { benchOptions } = await import("../../sdk/bench-options.ts");
  const { deviceOptions } = await import("../../runtime/config/device-options.ts");
  return {
    groups: [
      { title: "Benchmark", section: "bench", flat: true, shape: benchOptions.shape },
      { title: "Device", section: "device", flat: true, shape: deviceOptions.shape },
    ],
  };
};

export default defineCommand({
  meta: { name: "bench", description: "Time training steps, on the bundled model or on random weights of full size" },
  args: {
    gpus: { type: "string", valueHint: "N|all", description: "Run on so many GPUs of this machine, through mpirun" },
    json: { type: "boolean", description: "Print the result as JSON" },
  },
  async run(context) {
    const { bench } = await import("./bench.run.ts");
    return bench(dataOf(context), context.args.json ?? false);
  },
});
