"""Logits of a qlora adapter as peft computes them: the NF4 base is dequantised to bf16, the adapter loaded by peft.

usage: python3 bench/peft_logits.py CHECKPOINT ADAPTER ROWS.jsonl OURS.jsonl
ROWS holds {"input_ids": [...]} a line; OURS is what `qlora predict ADAPTER ROWS --logits --json` wrote. Prints the
largest difference.
"""
import json, sys
import numpy as np, torch
from safetensors.torch import load_file
from transformers import Gemma2Config, Gemma2ForSequenceClassification
from peft import PeftModel

checkpoint, adapter, rows, ours = sys.argv[1:]
tensors = load_file(f"{checkpoint}/model.safetensors")
STATE = ".quant_state.bitsandbytes__nf4"


def dequantise(name):
    state = json.loads(bytes(tensors[name + STATE].tolist()))
    absmax = tensors[name + ".nested_quant_map"][tensors[name + ".absmax"].long()]
    nested = tensors[name + ".nested_absmax"].repeat_interleave(state["nested_blocksize"])[: absmax.numel()]
    absmax = absmax * nested + state["nested_offset"]
    codes = tensors[name].flatten()
    codes = torch.stack([codes >> 4, codes & 15], 1).flatten().long()
    values = tensors[name + ".quant_map"][codes] * absmax.repeat_interleave(state["blocksize"])[: codes.numel()]
    return values.reshape(state["shape"]).to(torch.bfloat16)


weights = {}
for name in tensors:
    if name + STATE in tensors:
        weights[name] = dequantise(name)
    elif ".weight." not in name:
        weights[name] = tensors[name]
config = json.load(open(f"{checkpoint}/config.json"))
config.pop("quantization_config", None)
model = Gemma2ForSequenceClassification(Gemma2Config(**{**config, "num_labels": 3, "attn_implementation": "eager"})).float()
missing, unexpected = model.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
assert not unexpected and missing == ["score.weight"], (missing, unexpected)
model = PeftModel.from_pretrained(model, adapter).eval()
worst = 0.0
with torch.no_grad():
    for line, mine in zip(open(rows), open(ours), strict=True):
        logits = model(input_ids=torch.tensor([json.loads(line)["input_ids"]])).logits[0].numpy()
        got = np.array([v for k, v in json.loads(mine).items() if k != "id"])
        worst = max(worst, float(np.abs(got - logits).max()))
print(f"largest difference {worst:.2e}")
sys.exit(0 if worst <= 6e-3 else 1)
