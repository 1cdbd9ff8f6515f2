#!/bin/sh
# Two ranks beside one on a machine with two GPUs: training steps of 64 and 16 samples of real lengths at 9B, evaluation, losses.
# usage: sh bench/ranks.sh lengths.json OUT
lengths=$1 out=$2
step() { # name, steps, batch, then what runs on several
  name=$1 steps=$2 batch=$3
  shift 3
  bun cli/main.ts bench --gpu webgpu --shape gemma2-9b --lengths "$lengths" --token-budget 8192 --batch "$batch" --warmup 2 --steps "$steps" \
    --json "$@" > "$out/$name.json" 2> "$out/$name.log" || tail -5 "$out/$name.log"
}
bun cli/main.ts doctor --gpu webgpu 2>&1 | sed -n '1,10p'
step one-64 4 64
step two-64 6 64 --gpus 2
step one-16 18 16
step two-16 18 16 --gpus 2
bun bench/ranks-eval.ts "$lengths" 512 > "$out/eval-1.json" 2> "$out/eval-1.log"
grep -h '^starting\|starting ' "$out/two-64.log" | head -2
hide='n=${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-0}}; mount --bind /dev/null /dev/nvidia$((1 - n)); exec "$@"'
OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -n 2 --bind-to none unshare -m sh -c "$hide" sh bun bench/ranks-eval.ts "$lengths" 512 \
  > "$out/eval-2.json" 2> "$out/eval-2.log" || tail -5 "$out/eval-2.log"
bun -e '
const read = (name) => { try { return JSON.parse(require("fs").readFileSync(`${process.argv[1]}/${name}.json`, "utf8")); } catch { return undefined; } };
for (const batch of [64, 16]) {
  const [one, two] = [read(`one-${batch}`), read(`two-${batch}`)];
  for (const [name, run] of [["1 rank", one], ["2 ranks", two]]) if (run) console.log(`${batch} samples, ${name}: ${run.tokensPerSecond.toFixed(0)} tokens/s, ${run.secondsPerStep.toFixed(3)} s a step`, JSON.stringify(run.ranks ?? {}), `steps ${run.stepSeconds.map((s) => s.toFixed(2)).join(" ")}`, `first ${run.secondsToFirstStep.toFixed(0)} s`);
  if (one && two) console.log(`  ratio ${(two.tokensPerSecond / one.tokensPerSecond).toFixed(3)}`);
}
const [one, two] = [read("one-16"), read("two-16")];
if (one && two) console.log("losses 1", one.losses.map((l) => l.toFixed(4)).join(" "), "\nlosses 2", two.losses.map((l) => l.toFixed(4)).join(" "));
const [a, b] = [read("eval-1"), read("eval-2")];
console.log("eval", JSON.stringify(a), JSON.stringify(b), a && b ? `ratio ${(b.rowsPerSecond / a.rowsPerSecond).toFixed(3)}` : "");
' "$out"
