"""Logits of a checkpoint that `qlora merge` wrote, as transformers computes them.

usage: python3 bench/merged_logits.py MERGED ROWS.jsonl OURS.jsonl
ROWS holds {"input_ids": [...]} a line; OURS is what `qlora predict ADAPTER ROWS --logits --json` wrote for the adapter unmerged.
Prints the largest and the mean difference, to hold against what `qlora merge` printed for the same rows.
"""
import json, sys
import numpy as np, torch
from transformers import AutoModelForSequenceClassification

merged, rows, ours = sys.argv[1:]
model, info = AutoModelForSequenceClassification.from_pretrained(
    merged, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
)
assert not info["missing_keys"] and not info["unexpected_keys"], info
print(type(model).__name__, model.config.num_labels, "labels")
differences = []
with torch.no_grad():
    for line, mine in zip(open(rows), open(ours), strict=True):
        logits = model.eval()(input_ids=torch.tensor([json.loads(line)["input_ids"]])).logits[0].numpy()
        got = np.array([v for k, v in json.loads(mine).items() if k != "id"])
        differences.append(np.abs(got - logits))
differences = np.concatenate(differences)
print(f"max |logit difference| {differences.max():.3g} over {len(differences) // model.config.num_labels} rows")
print(f"mean |logit difference| {differences.mean():.3g}")
