"""What transformers finds in sequences of 8,192 tokens with scaled rotary embeddings: tests/long/.

    python tools/make_long_reference.py

A small random Llama for each way of scaling; its weights are written once. Of each layer's output the largest values
and the median, of its attention what the first keys receive, and the likelihood of the text: in float32, with the
largest difference to float64 beside each, which is what tests allow.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

OUT = Path(__file__).parent.parent / "tests" / "long"
TOKENS = 8192
CONFIG = {
    "model_type": "llama",
    "hidden_size": 36,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 12,
    "vocab_size": 61,
    "max_position_embeddings": TOKENS,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
SCALINGS = {
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
        "rope_theta": 10000.0,
    },
    "yarn": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 2048,
        "rope_theta": 10000.0,
    },
}
TOP, KEYS = 5, 4


def token_ids() -> list[int]:
    """The tests compute the same."""
    return [(7 * index + index * index // 3) % CONFIG["vocab_size"] for index in range(TOKENS)]


def model_of(scaling: dict, dtype: torch.dtype) -> torch.nn.Module:
    """With large weights, so that attention is far from uniform."""
    settings = {key: value for key, value in CONFIG.items() if key != "model_type"}
    config = AutoConfig.for_model("llama", **settings, rope_parameters=scaling)
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            weight.data = (weight.data * 15).bfloat16().float()
    return model.to(dtype)


def found_in(model: torch.nn.Module) -> dict:
    """All numbers as tensors."""
    layers, received = [], []

    def keep(module, arguments, output):
        layers.append(output[0] if isinstance(output, tuple) else output)

    def receive(module, arguments, output):
        probabilities = output[1][0]
        viewers = torch.arange(TOKENS, 0, -1, dtype=probabilities.dtype)
        received.append((probabilities.sum(1) / viewers)[:, :KEYS])

    for layer in model.model.layers:
        layer.register_forward_hook(keep)
        layer.self_attn.register_forward_hook(receive)
    ids = torch.tensor([token_ids()])
    with torch.no_grad():
        logits = model(ids).logits[0]
    chosen = logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])
    magnitudes = [layer[0].abs().flatten() for layer in layers]
    return {
        "top": torch.stack([magnitude.topk(TOP).values for magnitude in magnitudes]),
        "places": torch.stack([magnitude.topk(TOP).indices for magnitude in magnitudes]),
        "median": torch.stack([magnitude.median() for magnitude in magnitudes]),
        "sink_mass": torch.stack(received),
        "nll": -chosen.mean(),
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    OUT.mkdir(exist_ok=True)
    reference = {}
    for name, scaling in SCALINGS.items():
        single, double = (found_in(model_of(scaling, dtype)) for dtype in (torch.float32, torch.float64))
        own = {"config": CONFIG | {"rope_parameters": scaling}}
        for key, values in single.items():
            own[key] = values.tolist()
            if key != "places":
                own[f"{key}_noise"] = (values.double() - double[key]).abs().max().item()
        reference[name] = own
    model = model_of(SCALINGS["yarn"], torch.float32)
    weights = {name: weight.bfloat16() for name, weight in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, OUT / "model.safetensors", metadata={"format": "pt"})
    (OUT / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")


if __name__ == "__main__":
    main()
