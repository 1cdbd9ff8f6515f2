import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";

export const prepare: CommandModule["prepare"] = async () => {
  const { watchOptions } = await import("../../runtime/report/watch.ts");
  return { groups: [{ title: "Server", section: "watch", flat: true, shape: watchOptions.shape }] };
};

export default defineCommand({
  meta: { name: "watch", description: "Serve a run's report on this machine and update it while the run trains" },
  args: {
    run: { type: "positional", description: "a run's output folder; it need not exist yet" },
    open: { type: "boolean", description: "Open it in the browser" },
  },
  async run(context) {
    const { watch } = await import("./watch.run.ts");
    return watch(dataOf(context), { run: context.args.run!, open: context.args.open ?? false });
  },
});
