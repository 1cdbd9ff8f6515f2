/**
 * Every argument of transformers' TrainingArguments and peft's LoraConfig, and what stands for it here: for whoever writes a name out of
 * habit. docs/compatibility.md is written from it.
 */

/** One argument of theirs. */
export interface TheirName {
  readonly name: string;
  /** `section.option` of a config; undefined where qlora has none. */
  readonly ours?: string;
  /** What is different, or why there is none and what to do instead. */
  readonly note?: string;
}

/** The arguments of one library's class, in its order. */
export interface TheirArguments {
  readonly library: string;
  readonly version: string;
  readonly className: string;
  readonly names: readonly TheirName[];
}

const same = (section: string, name: string, note?: string): TheirName => ({
  name,
  ours: `${section}.${camel(name)}`,
  ...(note === undefined ? {} : { note }),
});
const training = (name: string, note?: string): TheirName => same("training", name, note);
const other = (name: string, ours: string, note?: string): TheirName => ({ name, ours, ...(note && { note }) });
const none = (name: string, note: string): TheirName => ({ name, note });

/** `lora_alpha` -> `loraAlpha`. */
function camel(name: string): string {
  return name.replaceAll(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

const TIER = "device.tier says which numbers the kernels count in; auto takes the best that the GPU computes right";
const NO_PYTORCH = "of PyTorch, which is not here";
const NO_LOADER = "rows are tokenized ahead by worker threads, without a PyTorch data loader";
const NO_DDP = "of PyTorch's data parallel; ranks of MPI are started by --gpus or mpirun (docs/distributed.md)";
const NO_SHARDING = "a model lies whole on each GPU";
const PUSH = "qlora push RUN --repo org/name, once a run has ended; private by default";
const PACKED = "samples are packed without padding, so their order need not follow their length";

const trainingArguments: TheirArguments = {
  library: "transformers",
  version: "5.17",
  className: "TrainingArguments",
  names: [
    training("output_dir", "default output"),
    training("per_device_train_batch_size"),
    training("num_train_epochs"),
    training("max_steps"),
    training("learning_rate"),
    training("lr_scheduler_type", "without reduce_lr_on_plateau and greedy"),
    training("lr_scheduler_kwargs"),
    training("warmup_steps"),
    other(
      "optim",
      "optimizer",
      "adamw_torch is adamw, adamw_8bit is adamw8bit (the default), adafactor, lion_8bit is lion8bit, sgd",
    ),
    none("optim_args", "options of an optimizer are flags of their own: --optimizer.adam-beta1"),
    same("optimizer", "weight_decay"),
    same("optimizer", "adam_beta1"),
    same("optimizer", "adam_beta2"),
    same("optimizer", "adam_epsilon"),
    none("optim_target_modules", "of GaLore and APOLLO, which are not here"),
    training("gradient_accumulation_steps"),
    none("average_tokens_across_devices", "a step's loss is the mean over its samples, on however many ranks"),
    training("max_grad_norm"),
    training("label_smoothing_factor", "in training alone; eval_loss stays the cross entropy"),
    none("bf16", TIER),
    none("fp16", `${TIER}; losses are scaled where it is f16`),
    none("bf16_full_eval", TIER),
    none("fp16_full_eval", TIER),
    none("tf32", TIER),
    training("gradient_checkpointing", '"block" for true, "none" for false, or how many of the first blocks'),
    none("gradient_checkpointing_kwargs", NO_PYTORCH),
    none("torch_compile", NO_PYTORCH),
    none("torch_compile_backend", NO_PYTORCH),
    none("torch_compile_mode", NO_PYTORCH),
    none("use_liger_kernel", "the kernels are qlora's own, fused where that serves"),
    none("liger_kernel_config", "the kernels are qlora's own, fused where that serves"),
    none("use_cache", "a classifier generates nothing, so it keeps no keys and values"),
    training("neftune_noise_alpha", "by each sample's own length, not the padded one"),
    none("torch_empty_cache_steps", "memory is planned before a run; training.memory and device.memoryBudget say how"),
    other(
      "auto_find_batch_size",
      "training.memory",
      "the memory plan cuts micro-batches to fit; the step stays the same",
    ),
    none("logging_strategy", "loggingSteps says how often"),
    training("logging_steps", "default 10"),
    training("logging_first_step"),
    none("log_on_each_node", "rank 0 alone writes and tells"),
    none(
      "logging_nan_inf_filter",
      "a loss that is not finite is logged as it is, and ends a run that does not recover",
    ),
    none("include_num_input_tokens_seen", "every log entry has num_input_tokens_seen, without padding"),
    none("log_level", "what is told goes to stderr; metrics.jsonl and run.json hold all of it"),
    none("log_level_replica", "rank 0 alone tells"),
    none("disable_tqdm", "a line of progress is drawn on terminals only"),
    other("report_to", "reportTo", "--report-to tensorboard,wandb; docs/trackers.md has each one's options"),
    training("run_name"),
    none("project", "an option of the trackers that have projects: --report-to.trackio.project"),
    none("trackio_space_id", "--report-to.trackio.server names the Space"),
    none("trackio_bucket_id", "docs/trackers.md says what of Trackio is here"),
    none("trackio_static_space_id", "docs/trackers.md says what of Trackio is here"),
    training("eval_strategy"),
    training("eval_steps"),
    none("eval_delay", "evaluate less often with evalSteps"),
    training("per_device_eval_batch_size"),
    none("prediction_loss_only", "leave the metrics out: --metrics log-loss"),
    training("eval_on_start"),
    none("eval_do_concat_batches", "metrics are folded over all rows, whatever the batches"),
    none("eval_use_gather_object", "metrics are folded over all rows, whatever the ranks"),
    none("eval_accumulation_steps", "logits are read back batch by batch"),
    none("include_for_metrics", "a metric gets logits and labels; docs/plugins.md says what else"),
    none("batch_eval_metrics", "every metric is folded batch by batch"),
    none("save_only_model", "a checkpoint of an adapter is small, and resumes exactly"),
    training("save_strategy"),
    training("save_steps"),
    none("save_on_each_node", "rank 0 alone writes"),
    training("save_total_limit"),
    none("enable_jit_checkpoint", "always so: Ctrl-C or SIGTERM finishes the step and saves"),
    none("push_to_hub", PUSH),
    none("hub_token", "HF_TOKEN, or what huggingface-cli login wrote, is read where a model is downloaded"),
    none("hub_private_repo", PUSH),
    none("hub_model_id", PUSH),
    none("hub_strategy", PUSH),
    none("hub_always_push", PUSH),
    none("hub_revision", PUSH),
    training("load_best_model_at_end"),
    training("metric_for_best_model"),
    training("greater_is_better", "default false for brier, ece, mse, mae and rmse too"),
    none("ignore_data_skip", "a resumed run goes on at its place, at no cost"),
    none("restore_callback_states_from_checkpoint", "always so"),
    other(
      "full_determinism",
      "training.deterministic",
      "runs repeat to the byte without it on one GPU and a fixed budget; with it on any number of ranks",
    ),
    training("seed"),
    none("data_seed", "seed orders the data too"),
    none("use_cpu", "a software Vulkan driver serves where there is no GPU"),
    none("accelerator_config", NO_PYTORCH),
    none("parallelism_config", NO_SHARDING),
    none("dataloader_drop_last", "the last step of an epoch has the rows that are left"),
    none("dataloader_num_workers", NO_LOADER),
    none("dataloader_pin_memory", NO_LOADER),
    none("dataloader_persistent_workers", NO_LOADER),
    none("dataloader_prefetch_factor", NO_LOADER),
    none("dataloader_multiprocessing_context", NO_LOADER),
    none("dataloader_in_order", NO_LOADER),
    none("remove_unused_columns", "columns that are not read stay on the row"),
    none("label_names", "data.columns names the column of the labels; data.labelNames are names of classes"),
    other("train_sampling_strategy", "training.shuffle", `random is true, sequential is false; ${PACKED}`),
    none("length_column_name", PACKED),
    none("ddp_find_unused_parameters", NO_DDP),
    none("ddp_bucket_cap_mb", NO_DDP),
    none("ddp_broadcast_buffers", NO_DDP),
    none("ddp_static_graph", NO_DDP),
    none("ddp_backend", NO_DDP),
    none("ddp_timeout", "ranks that say nothing for ten minutes are given up"),
    none("fsdp", NO_SHARDING),
    none("fsdp_config", NO_SHARDING),
    none("deepspeed", NO_SHARDING),
    none("debug", "qlora doctor tests a GPU; allowNonFinite looks past NaN"),
    none("skip_memory_metrics", "the memory plan is in run.json"),
    none("do_train", "qlora train"),
    none("do_eval", "qlora eval"),
    none("do_predict", "qlora predict"),
    training("resume_from_checkpoint"),
    none("local_rank", "ranks come from MPI or from --gpus"),
  ],
};

const adapter = (name: string, note?: string): TheirName => same("adapter", name, note);
const NO_CALIBRATION = "first values from the data or its gradients are not here";

const loraConfig: TheirArguments = {
  library: "peft",
  version: "0.21",
  className: "LoraConfig",
  names: [
    other("r", "adapter.rank"),
    adapter("target_modules", "default q_proj and v_proj, for every model"),
    adapter("exclude_modules"),
    other("lora_alpha", "adapter.alpha"),
    other("lora_dropout", "adapter.dropout"),
    none("fan_in_fan_out", "every linear stores its weight as [out, in]"),
    none("bias", "biases stay frozen"),
    adapter("use_rslora"),
    none("modules_to_save", "the score head always trains and is saved, as peft does for SEQ_CLS; nothing else is"),
    adapter("init_lora_weights", "true, false or gaussian"),
    adapter("layers_to_transform"),
    none("layers_pattern", "layers are found by the model's own names"),
    adapter("rank_pattern"),
    adapter("alpha_pattern"),
    none("megatron_config", "Megatron's layers are not here"),
    none("megatron_core", "Megatron's layers are not here"),
    none("trainable_token_indices", "token embeddings stay frozen"),
    none("loftq_config", "the base keeps the codes of its checkpoint"),
    none("eva_config", NO_CALIBRATION),
    none("corda_config", NO_CALIBRATION),
    none("lora_ga_config", NO_CALIBRATION),
    other("use_dora", "adapter", "--adapter dora"),
    none("velora_config", "VeLoRA is not here"),
    none("alora_invocation_tokens", "of generation, which is not here"),
    none("use_qalora", "of GPTQ bases, which are not here"),
    none("qalora_group_size", "of GPTQ bases, which are not here"),
    none("monteclora_config", "MonteCLoRA is not here"),
    none("layer_replication", "a model keeps its layers"),
    none("runtime_config", "memory is planned before a run: training.memory"),
    none("lora_bias", "B has no bias"),
    none("target_parameters", "of mixture-of-experts models, which are not here"),
    none("use_bdlora", "BD-LoRA is not here"),
    none("arrow_config", "routing between adapters is not here"),
    none("kasa_config", "KaSA is not here"),
    none("ensure_weight_tying", "neither embeddings nor lm_head train"),
  ],
};

/** Both lists. */
export const theirArguments: readonly TheirArguments[] = [trainingArguments, loraConfig];

/** What qlora says to a name of theirs, in any spelling (`lora_alpha`, `loraAlpha`, `lora-alpha`); undefined for another name. */
export function theirName(written: string): (TheirName & Pick<TheirArguments, "library">) | undefined {
  const wanted = camel(written.replaceAll("-", "_"));
  for (const { library, names } of theirArguments) {
    const found = names.find(({ name }) => camel(name) === wanted);
    if (found !== undefined) return { ...found, library };
  }
  return undefined;
}
