"""Files of weights as torch.save writes them."""

import json
import pickle
import shutil
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file

CHECKPOINTS = Path(__file__).resolve().parents[2] / "tests/checkpoints"


def build(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    kinds(out)
    refused(out)
    whole(out / "single", "gpt-neox-parallel")
    sharded(out / "sharded", "opt-pre-norm")


def kinds(out: Path) -> None:
    """Every type and every way in which a tensor may lie in its storage."""
    base = torch.randn(6, 5)
    cube = torch.randn(2, 3, 4, dtype=torch.bfloat16)
    flat = torch.randn(20)
    tensors = OrderedDict(
        float32=base,
        bfloat16=cube,
        float16=torch.randn(3, 2, dtype=torch.float16),
        float64=torch.randn(3, dtype=torch.float64),
        int64=torch.tensor([[-1, 2**40]]),
        int32=torch.tensor([7, -7], dtype=torch.int32),
        int16=torch.tensor([7, -7], dtype=torch.int16),
        int8=torch.tensor([7, -7], dtype=torch.int8),
        uint8=torch.tensor([7, 255], dtype=torch.uint8),
        bool=torch.tril(torch.ones(3, 3, dtype=torch.bool)),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(2, 2)),
        shared=base,
        transposed=base.t(),
        rows=base[1:4],
        columns=base[:, 1:4],
        every_second=base[::2, ::2],
        permuted=cube.permute(2, 0, 1),
        vector=flat[3:9],
        strided_vector=flat[1::3],
    )
    tensors["two words, ein Wört"] = torch.ones(1)
    # What a module's state has beside its tensors.
    tensors._metadata = OrderedDict({"": {"version": 1}, "layer": {"version": 2}})
    torch.save(tensors, out / "kinds.bin")
    numbers = {
        name: {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "values": tensor.detach().contiguous().flatten().to(torch.float64).tolist(),
        }
        for name, tensor in tensors.items()
    }
    (out / "kinds.json").write_text(json.dumps(numbers, indent=1) + "\n")


class Call:
    """Becomes a call of a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.made = (function, arguments)

    def __reduce__(self):
        return self.made


def refused(out: Path) -> None:
    """Files that must not be read, each with what its error must name."""
    import os

    tensors = {"weight": torch.ones(2)}
    torch.save(tensors, out / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({**tensors, "more": Call(os.getenv, "HOME")}, out / "call.bin")
    torch.save({"state_dict": tensors, "epoch": 3}, out / "training.bin")
    torch.save([1, 2], out / "list.bin")
    torch.save({"weight": torch.ones(2, 2).to_sparse()}, out / "sparse.bin")
    torch.jit.script(torch.nn.Linear(2, 2)).save(out / "program.bin")
    base = torch.randn(60, 60)
    torch.save({f"view{number}": base.t() for number in range(60)}, out / "crossed.bin")
    (out / "pickle.bin").write_bytes(pickle.dumps({"weight": [1.0]}))


def whole(out: Path, name: str) -> None:
    """As training steps of Pythia have it: with buffers that are no weights, and for once with a matrix
    that lies column after column."""
    out.mkdir(exist_ok=True)
    shutil.copy(CHECKPOINTS / name / "config.json", out)
    tensors = load_file(CHECKPOINTS / name / "model.safetensors")
    turned = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    tensors[turned] = tensors[turned].t().contiguous().t()
    for layer in range(2):
        attention = f"gpt_neox.layers.{layer}.attention"
        tensors[f"{attention}.bias"] = torch.tril(torch.ones(1, 1, 8, 8, dtype=torch.bool))
        tensors[f"{attention}.masked_bias"] = torch.tensor(-1e9)
        tensors[f"{attention}.rotary_emb.inv_freq"] = torch.ones(2)
    torch.save(tensors, out / "pytorch_model.bin")


def sharded(out: Path, name: str) -> None:
    """As facebook/opt-6.7b has it: two shards, names without the model's prefix."""
    out.mkdir(exist_ok=True)
    shutil.copy(CHECKPOINTS / name / "config.json", out)
    tensors = load_file(CHECKPOINTS / name / "model.safetensors")
    names = sorted(tensors)
    half = len(names) // 2
    weight_map = {}
    for number, part in enumerate((names[:half], names[half:]), start=1):
        shard = f"pytorch_model-0000{number}-of-00002.bin"
        bare = {name: name.removeprefix("model.") for name in part}
        torch.save({bare[name]: tensors[name] for name in part}, out / shard)
        weight_map |= {bare[name]: shard for name in part}
    index = {"metadata": {}, "weight_map": weight_map}
    text = json.dumps(index, indent=1, sort_keys=True) + "\n"
    (out / "pytorch_model.bin.index.json").write_text(text)
