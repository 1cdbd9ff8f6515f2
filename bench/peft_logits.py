"""Logits of a qlora adapter as peft computes them: the NF4 base is dequantized, the adapter loaded by peft.

usage: python3 bench/peft_logits.py CHECKPOINT ADAPTER ROWS.jsonl OURS.jsonl
ROWS holds {"input_ids": [...]} a line; OURS is what `qlora predict ADAPTER ROWS --logits --json` wrote. Prints the
largest difference from a base in f32, which is what the NF4 weights say, and from one that is rounded to bf16, which
peft's users have where bitsandbytes is not; and what that rounding does to peft's own logits, which nobody can be nearer
to. Fails where the first is above 6e-3.
"""
import json, sys
import numpy as np, torch
from safetensors.torch import load_file
from transformers import Gemma2Config, Gemma2ForSequenceClassification
from peft import PeftModel

checkpoint, adapter, rows, ours = sys.argv[1:]
tensors = load_file(f"{checkpoint}/model.safetensors")
STATE = ".quant_state.bitsandbytes__nf4"


def dequantize(name):
    state = json.loads(bytes(tensors[name + STATE].tolist()))
    absmax = tensors[name + ".nested_quant_map"][tensors[name + ".absmax"].long()]
    nested = tensors[name + ".nested_absmax"].repeat_interleave(state["nested_blocksize"])[: absmax.numel()]
    absmax = absmax * nested + state["nested_offset"]
    codes = tensors[name].flatten()
    codes = torch.stack([codes >> 4, codes & 15], 1).flatten().long()
    values = tensors[name + ".quant_map"][codes] * absmax.repeat_interleave(state["blocksize"])[: codes.numel()]
    return values.reshape(state["shape"])


weights = {}
for name in tensors:
    if name + STATE in tensors:
        weights[name] = dequantize(name)
    elif ".weight." not in name:
        weights[name] = tensors[name]
config = json.load(open(f"{checkpoint}/config.json"))
config.pop("quantization_config", None)
config["dtype"] = "float32"  # in bfloat16 transformers would round the scale of the embeddings too


def logits(base):
    """peft's logits of all rows, the linears of the base rounded to a dtype."""
    model = Gemma2ForSequenceClassification(Gemma2Config(**{**config, "num_labels": 3, "attn_implementation": "eager"})).float()
    rounded = {k: (v.to(base) if k + STATE in tensors else v).float() for k, v in weights.items()}
    missing, unexpected = model.load_state_dict(rounded, strict=False)
    assert not unexpected and missing == ["score.weight"], (missing, unexpected)
    model = PeftModel.from_pretrained(model, adapter).eval()
    with torch.no_grad():
        return np.array([model(input_ids=torch.tensor([json.loads(line)["input_ids"]])).logits[0].numpy() for line in open(rows)])


mine = np.array([[v for k, v in json.loads(line).items() if k != "id"] for line in open(ours)])
exact, rounded = logits(torch.float32), logits(torch.bfloat16)
assert mine.shape == exact.shape, (mine.shape, exact.shape)
worst = np.abs(mine - exact).max()
print(
    f"largest difference {worst:.2e}, logits up to {np.abs(exact).max():.2f}; from a base in bf16 {np.abs(mine - rounded).max():.2e}, "
    f"whose rounding moves peft's own by {np.abs(rounded - exact).max():.2e}"
)
sys.exit(0 if worst <= 6e-3 else 1)
