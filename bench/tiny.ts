/** `bun run bench`: training steps of the bundled tiny model in every tier that the device offers, and the share of each kernel. */
import { bench, doctor } from "../index.ts";
import { deviceOptions } from "../runtime/config/device-options.ts";
import { benchOptions } from "../sdk/bench-options.ts";

const { tiers, adapter, provider } = await doctor();
console.log(`${adapter} through ${provider}`);
for (const tier of tiers) {
  const options = benchOptions.parse({ tokens: 128, batch: 8, steps: 4, warmup: 1, profile: true });
  const result = (await bench({ ...options, device: deviceOptions.parse({ tier }) }))!;
  const total = result.profile.reduce((sum, line) => sum + line.ms, 0);
  console.log(
    `\ntier ${tier}: ${result.tokensPerSecond.toFixed(0)} tokens/s, ${result.samplesPerSecond.toFixed(2)} samples/s`,
  );
  for (const { key, calls, ms } of result.profile.slice(0, 12)) {
    console.log(
      `  ${((100 * ms) / total).toFixed(1).padStart(5)} %  ${ms.toFixed(1).padStart(8)} ms  ${String(calls).padStart(4)} x  ${key}`,
    );
  }
}
process.exit(0); // GPU bindings keep threads alive
