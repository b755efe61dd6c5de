"""What transformers makes of a checkpoint's weights under an altered config."""

import hashlib
import json
import math
import os
import tempfile
from pathlib import Path

import torch
import transformers
from auto_class import auto_class
from transformers import AutoConfig

# Beyond this an altered config is another model, whose weights would be made up.
LARGEST = 4096


class Truth:
    """transformers in float32, eager, with what it said kept in a file."""

    def __init__(self, kept: Path):
        transformers.logging.set_verbosity(transformers.logging.CRITICAL)
        transformers.logging.disable_progress_bar()
        torch.set_num_threads(1)
        kept.mkdir(parents=True, exist_ok=True)
        self.file = kept / f"truth-{transformers.__version__}.jsonl"
        self.known = {}
        if self.file.exists():
            for line in self.file.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self.known[entry.pop("key")] = entry

    def of(self, folder: Path, config: dict, token_ids: list[int]) -> dict:
        """`nll` and `logits`, or `refused` with the reason, or `made_up` with missing weights."""
        text = json.dumps([folder.name, config, token_ids])
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in self.known:
            self.known[key] = entry = compute(folder, config, token_ids)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key} | entry) + "\n")
        return self.known[key]


def too_large(config) -> str | None:
    """A size that shows the altered config to be another model's."""
    text = config.get_text_config()
    for name, value in text.to_dict().items():
        sizes = name.endswith(("_size", "_dim", "_layers", "_heads", "_rank")) or name.startswith("n_")
        if sizes and isinstance(value, int) and value > LARGEST:
            return f"{name} is {value}"
    layers = getattr(text, "num_hidden_layers", None) or 0
    return f"{layers} layers" if layers > 20 else None


@torch.no_grad()
def compute(folder: Path, config: dict, token_ids: list[int]) -> dict:
    with tempfile.TemporaryDirectory() as place:
        link(folder, Path(place), config)
        try:
            settings = AutoConfig.from_pretrained(place)
            if reason := too_large(settings):
                return {"refused": f"not tried: {reason}"}
            model, info = auto_class(settings).from_pretrained(
                place,
                dtype=torch.float32,
                attn_implementation="eager",
                # One expert after another: the fused form refuses odd sizes.
                experts_implementation="eager",
                output_loading_info=True,
            )
            if info["missing_keys"] or info["mismatched_keys"]:
                missing = [*info["missing_keys"], *info["mismatched_keys"]]
                return {"made_up": str(sorted(map(str, missing))[0])}
            ids = torch.tensor([token_ids])
            logits = model.eval()(ids, use_cache=False).logits[0]
        except Exception as error:
            return {"refused": f"{type(error).__name__}: {str(error).strip()[:160]}"}
    nll = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:]).item()
    last = logits[-1, :16].tolist()
    if not all(map(math.isfinite, [nll, *last])):
        return {"refused": "its result is not finite"}
    return {"nll": nll, "logits": last}


def link(folder: Path, place: Path, config: dict) -> None:
    """A folder with these weights and another config."""
    for path in folder.iterdir():
        if path.name.startswith("model") and path.suffix in (".safetensors", ".json"):
            os.symlink(path.resolve(), place / path.name)
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
