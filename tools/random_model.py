"""Checkpoints of real shapes with random weights, and texts for them, made where they are needed.

What a forward pass costs does not depend on the weights' values. The tokenizer has a word per
id, so that a text is as long in tokens as in words.
"""

import json
import random
from pathlib import Path

import torch

import tensors_file
from shapes import TENSORS


def write_checkpoint(config: dict, stored_dtype: str, folder: Path, device: str = "cpu") -> None:
    """config.json, weights as libraries initialise them, and the tokenizer."""
    folder.mkdir(parents=True)
    generator = torch.Generator(device).manual_seed(0)
    dtype = getattr(torch, stored_dtype)

    def make(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) == 1:
            return (torch.zeros if name.endswith("bias") else torch.ones)(shape)
        return 0.02 * torch.randn(shape, generator=generator, device=device, dtype=dtype)

    shapes = tensor_shapes(config)
    tensors_file.write(folder / "model.safetensors", shapes, dtype, make)
    write_json(folder / "config.json", config | {"dtype": stored_dtype})
    words = {word(index): index for index in range(config["vocab_size"])}
    parts = ("truncation", "padding", "normalizer", "post_processor", "decoder")
    tokenizer = {"version": "1.0", "added_tokens": []} | dict.fromkeys(parts)
    tokenizer["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    tokenizer["model"] = {"type": "WordLevel", "vocab": words, "unk_token": word(0)}
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})


def tensor_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Shapes by name: written down for the usual shapes, else those of transformers' own model."""
    if config["model_type"] in TENSORS:
        return TENSORS[config["model_type"]](config)
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def word(token_id: int) -> str:
    return f"w{token_id}"


def random_windows(samples: int, length: int, vocabulary: int) -> list[list[int]]:
    """Uniformly drawn ids."""
    chance = random.Random(0)
    return [[chance.randrange(vocabulary) for _ in range(length)] for _ in range(samples)]


def write_text(windows: list[list[int]], path: Path) -> None:
    """The text that has these tokens."""
    path.write_text(" ".join(word(token_id) for window in windows for token_id in window))
