"""The row type of the checkpoint table: what one small test checkpoint is.

A family file lists rows; everything else in this package turns a row into a folder
with `config.json`, weights and references. A row holds the configuration as a model
hub would serve it (old and new spellings included), because reading such files is
part of what the checkpoints test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """One row: a model's configuration and how its folder departs from the plain form."""

    name: str
    config: dict
    """config.json, written verbatim."""

    max_length: int
    """Length of the longest reference sequence, usually the model's position limit."""

    dtype: torch.dtype = torch.float32
    """Dtype the weights are stored in; the reference always computes in float32."""

    shards: int = 1
    """Number of safetensors files; more than one adds the index file."""

    rename: Callable[[str], str] | None = None
    """Maps the tensor names that transformers saves to the ones found on disk."""

    extra_tensors: Callable[[dict], Tensors] | None = None
    """Tensors without a meaning to the model (stale buffers), made from the config."""

    variant: Callable[[torch.nn.Module], None] | None = None
    """Changes the modules of transformers' model (see tools/variants.py)."""

    layout: Callable[[Tensors], Tensors] | None = None
    """Maps the tensors, under their names on disk, to how they are laid out there."""

    packing: "Packing | None" = None
    """Which matrices are stored in few bits, and how (see `packing/`)."""

    plant: Callable[[dict, Tensors], None] | None = None
    """Edits the random weights in place, to give some of them known values."""

    mixers: tuple[str, ...] = ()
    """Modules of a layer whose output is what its token mixer adds to the residual stream. With
    these the folder gets `sites.safetensors`, too (see `inside.py`)."""

    outputs: tuple[tuple[str, str], ...] = ()
    """Other sites, each with the module of a layer whose output it is; `sites.safetensors` has them, too."""

    tokenizer: str | None = None
    """Which tokenizer of `tokenizers_and_text` the folder gets, if any."""

    text_start: str = ""
    """With a tokenizer: what the text begins with, before the sentences all such folders share."""

    context_length: int = 0
    """With a tokenizer: window length of the experiment summaries."""

    start_id: int | None = None
    """Token id that every reference sequence of more than one token starts with."""

    include_ids: tuple[int, ...] = ()
    """Token ids that must occur, not at the start, in every sequence long enough."""

    noise_allowance: float = 1.0
    """How many times the usual limit of float32 noise this model may have."""

    allowed_unused: tuple[str, ...] = ()
    """Regular expressions of stored tensors that transformers is right not to use."""

    lengths: tuple[int, ...] = field(default=(1, 2, 19))
    """Lengths of the other reference sequences; the last one carries the attention maps."""
