/** Names that come from transformers and peft by habit: each is answered with what stands for it here. */
import { expect, test } from "bun:test";
import { qlora } from "../support/command-line.ts";
import { tinyCheckpoint } from "../support/reference.ts";

test("flags that are called otherwise, or that are not here, say so and what to do instead", async () => {
  const flags = [
    "--fp16",
    "--bf16=true",
    "--lora_dropout=0.1",
    "--lora-r=8",
    "--r=8",
    "--use_dora",
    "--optim=adamw_8bit",
  ];
  const more = [
    "--dataloader_num_workers=4",
    "--push_to_hub",
    "--auto_find_batch_size",
    "--warmup_step=3",
    "--deepspeed=a",
  ];
  const { code, stderr } = await qlora("train", "--model", tinyCheckpoint, "--train-files", "a.csv", ...flags, ...more);
  const told = stderr.split("\n");
  const line = (flag: string): string => told.find((text) => text.includes(`${flag}: `))!;
  expect(line("--fp16")).toContain("--fp16: transformers has this flag, qlora has not; device.tier says which numbers");
  expect(line("--bf16")).toContain("device.tier says which numbers");
  expect(line("--lora_dropout")).toEndWith('--lora_dropout: unknown flag; did you mean "--adapter.dropout"?');
  expect(line("--lora-r")).toEndWith('--lora-r: unknown flag; did you mean "--adapter.rank"?');
  expect(line("--r")).toEndWith('--r: unknown flag; did you mean "--adapter.rank"?');
  expect(line("--use_dora")).toEndWith('--use_dora: unknown flag; did you mean "--adapter"? (--adapter dora)');
  expect(line("--optim")).toContain('did you mean "--optimizer"? (adamw_torch is adamw, adamw_8bit is adamw8bit');
  expect(line("--dataloader_num_workers")).toContain("rows are tokenized ahead by worker threads");
  expect(line("--push_to_hub")).toContain("transformers has this flag, qlora has not; ");
  expect(line("--auto_find_batch_size")).toContain(
    'did you mean "--memory"? (the memory plan cuts micro-batches to fit',
  );
  expect(line("--warmup_step")).toEndWith('did you mean "--warmup-steps"?');
  expect(line("--deepspeed")).toContain("a model lies whole on each GPU");
  expect(code).toBe(2);
});

test("names that are the same are taken", async () => {
  const flags = ["--per-device-train-batch-size", "4", "--load-best-model-at-end", "--early-stopping-patience=2"];
  const more = [
    "--eval-strategy",
    "epoch",
    "--save-strategy",
    "epoch",
    "--label-smoothing-factor",
    "0.1",
    "--eval-steps",
    "0.1",
  ];
  const { code, stdout } = await qlora("train", "--model", tinyCheckpoint, "--print-config", ...flags, ...more);
  expect(JSON.parse(stdout).training).toMatchObject({
    perDeviceTrainBatchSize: 4,
    loadBestModelAtEnd: true,
    earlyStoppingPatience: 2,
    labelSmoothingFactor: 0.1,
    evalSteps: 0.1,
  });
  expect(code).toBe(0);
});
