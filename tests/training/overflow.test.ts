import { expect, test } from "bun:test";
import type { RunEvent } from "../../runtime/events.ts";
import { trainSteps } from "../../runtime/run/train.ts";
import type { ComputeGradients } from "../../runtime/training/gradients.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

test.skipIf(!tiers.includes("f16"))(
  "a planted overflow is skipped, named and survived",
  async () => {
    await using folder = await temporaryFolder();
    const config = await smallRun(folder.path, { device: { tier: "f16" } });
    const events: RunEvent[] = [];
    let planted = false;
    const scales: number[] = [];
    // Infinity goes into one parameter's gradient of the second step.
    const computeGradients: ComputeGradients = async ({ samples, backward, session: { gpu }, parameters }) => {
      await backward(samples);
      if (scales.length !== 1 || planted) return;
      planted = true;
      gpu.write(parameters.slabs[0]!.parameters[2]!.grad, Float32Array.of(Number.POSITIVE_INFINITY));
    };
    const skipped: boolean[] = [];
    for await (const step of trainSteps(config, { computeGradients, onEvent: (event) => events.push(event) })) {
      skipped.push(step.skipped);
      scales.push(step.lossScale);
    }
    expect(planted).toBe(true);
    expect(skipped[1]).toBe(true);
    expect(scales[2]).toBe(scales[1]! / 2);
    const said = events.flatMap((event) => (event.type === "warning" ? [event.message] : []));
    const [warning] = said.filter((message) => message.startsWith("step 2 skipped"));
    expect(warning).toContain("1 of 13 gradients");
    expect(warning).toContain("layers.2.self_attn.v_proj.lora_A");
  },
  120_000,
);
