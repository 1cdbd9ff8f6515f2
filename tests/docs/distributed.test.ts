/** docs/distributed.md: its commands run, with a stand-in for srun; its job file and its YAML start what they say. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { chmod, rm } from "node:fs/promises";
import { join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { writeFileAtomic } from "../../index.ts";
import { tiers } from "../support/gpu.ts";
import { hasMpi } from "../support/ranks.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { docsFolder, readBlocks, runShell } from "./blocks.ts";

const blocks = readBlocks(readFileSync(join(import.meta.dir, "../../docs/distributed.md"), "utf8"));
const shell = blocks
  .filter(({ language }) => language === "sh")
  .map(({ code }) => [code.trim().split("\n").at(-1)!, code] as const);

describe.skipIf(!hasMpi || !tiers.includes("f32"))("docs/distributed.md", () => {
  let folder = "";
  beforeAll(async () => {
    folder = await docsFolder("distributed");
    await writeFileAtomic(join(folder, "train.csv"), demoCsv(24, 3));
    const config = `import { defineConfig } from "qlora";
import { adamW8bit, gemma2, lora } from "qlora/plugins";
export default defineConfig({
  model: gemma2({ checkpoint: ${JSON.stringify(tinyCheckpoint)} }), adapter: lora({ rank: 4, targetModules: ["q_proj"], layersToTransform: [3] }), optimizer: adamW8bit(), metrics: [],
  data: { maxLength: 32, cacheDir: "cache" }, training: { perDeviceTrainBatchSize: 4 }, device: { tier: "f32" },
});
`;
    await writeFileAtomic(join(folder, "qlora.config.ts"), config);
    // What srun does for a step of two tasks.
    await writeFileAtomic(join(folder, "bin/srun"), `#!/bin/sh\nshift 2\nexec mpirun -n 2 "$@"\n`);
    await chmod(join(folder, "bin/srun"), 0o755);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test.each(shell)(
    "%s",
    async (_, code) => {
      const env =
        "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1\n";
      const { out, exit } = await runShell(env + code, folder);
      expect({ exit, out }).toEqual({ exit: 0, out });
      expect(out).toMatch(
        code.includes("doctor") ? /^devices \(--device\), /m : /over 2 ranks[\s\S]*2 steps, train loss/,
      );
    },
    120_000,
  );

  test("the MPIJob starts ranks of the command line", () => {
    const [yaml] = blocks.filter(({ language }) => language === "yaml");
    const job = Bun.YAML.parse(yaml!.code) as {
      spec: {
        mpiReplicaSpecs: {
          Launcher: { template: { spec: { containers: { command: string[] }[] } } };
          Worker: { replicas: number };
        };
      };
    };
    const { Launcher, Worker } = job.spec.mpiReplicaSpecs;
    const { command } = Launcher.template.spec.containers[0]!;
    expect(command.slice(0, 8).join(" ")).toBe(`mpirun -n ${Worker.replicas} --bind-to none bunx qlora train`);
  });
});
