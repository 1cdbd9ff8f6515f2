/**
 * A sweep over LoRA ranks: the same data and seed, one run each, and a table at the end.
 *
 *   bun examples/sweep.ts
 */
import { inspect, train } from "qlora";
import { lora } from "qlora/plugins";
import { printTable, tinyConfig } from "./tiny.ts";

const rows = [];
for (const rank of [2, 8, 32]) {
  const config = await tinyConfig(`sweep/rank-${rank}`, {
    adapter: lora({ rank, alpha: 2 * rank, targetModules: ["q_proj", "v_proj"] }),
    training: { maxSteps: 5 },
  });
  const started = performance.now();
  const { trainLoss, metrics } = await train(config);
  rows.push({
    rank,
    parameters: (await inspect(config)).trainableParameters,
    "train loss": trainLoss,
    "eval log loss": metrics["eval_log_loss"]!,
    "eval accuracy": metrics["eval_accuracy"]!,
    seconds: Math.round((performance.now() - started) / 100) / 10,
  });
}
printTable(rows);
