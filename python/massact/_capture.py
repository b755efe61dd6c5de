"""Tensors of the forward pass, of any texts or token ids."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ._run import Run, run


def capture(
    model: str | Path | None = None,
    texts: str | Sequence[str] | None = None,
    *,
    token_ids: Sequence[Sequence[int]] | Sequence[int] | None = None,
    sites: Sequence[str] = ("layer_output",),
    save_dir: str | Path | None = None,
    quiet: bool = True,
    **settings: object,
) -> Capture:
    """Runs texts, or token ids, through a model, and keeps the tensors of these sites.

    `found[site][layer][sequence]` is an array `[tokens, width]`. Without `save_dir` the files are in
    a temporary folder that goes with the returned object and what was taken of it. Further
    arguments are flags of `massact capture`, such as `attention="heads"` or `nll=True`.
    """
    if texts is None and token_ids is None:
        raise TypeError("capture needs texts or token_ids")
    if texts is not None and token_ids is not None:
        raise TypeError("capture takes texts or token_ids, not both")
    if isinstance(texts, str):
        texts = [texts]
    if token_ids is not None:
        token_ids = [*token_ids]
        if token_ids and not hasattr(token_ids[0], "__iter__"):
            token_ids = [token_ids]
        settings["token_ids"] = [[int(one) for one in sequence] for sequence in token_ids]
    if texts is not None:
        # A list each, so that commas stay text.
        settings["text"] = [[text] for text in texts]
    place = None
    if save_dir is None:
        place = tempfile.TemporaryDirectory(prefix="massact-")
        save_dir = place.name
    finished = run(
        "capture", model, save_dir=save_dir, quiet=quiet, sites=list(sites), raw=True, **settings
    )
    return Capture(Run(finished.folder, place))


class Capture(Mapping):
    """What was captured, by site."""

    def __init__(self, finished: Run):
        #: The run that it is of.
        self.run = finished
        places: dict[str, dict[int, set[int]]] = {}
        for name in finished.tensors:
            parts = name.split(".")
            if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
                places.setdefault(parts[0], {}).setdefault(int(parts[1]), set()).add(int(parts[2]))
        self._places = {
            site: {layer: len(sequences) for layer, sequences in sorted(layers.items())}
            for site, layers in places.items()
        }

    @property
    def token_ids(self) -> list[list[int]]:
        """The ids of each sequence."""
        return [sequence["token_ids"] for sequence in self.run.json["sequences"]]

    @property
    def tokens(self) -> list[list[str]]:
        """Their texts."""
        return [sequence["tokens"] for sequence in self.run.json["sequences"]]

    @property
    def json(self) -> dict:
        """capture.json"""
        return self.run.json

    def __getitem__(self, site: str) -> Layers:
        return Layers(self.run, site, self._places[site])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<massact capture of {len(self.token_ids)} sequences: {', '.join(self._places)}>"


class Layers(Mapping):
    """The layers that have a site, by number; a site of no layer is in layer 0."""

    def __init__(self, finished: Run, site: str, layers: dict[int, int]):
        self._run, self._site, self._layers = finished, site, layers

    def __getitem__(self, layer: int) -> Sequences:
        if layer not in self._layers:
            known = ", ".join(map(str, self._layers))
            raise KeyError(f"layer {layer} has no {self._site}; these layers have: {known}")
        return Sequences(self._run, f"{self._site}.{layer}", self._layers[layer])

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


class Sequences(Sequence):
    """The arrays of a layer, one of each sequence."""

    def __init__(self, finished: Run, name: str, count: int):
        self._run, self._name, self._count = finished, name, count

    def __getitem__(self, sequence):
        if isinstance(sequence, slice):
            return [self[one] for one in range(*sequence.indices(self._count))]
        index = sequence + self._count if sequence < 0 else sequence
        if not 0 <= index < self._count:
            raise IndexError(f"sequence {sequence} of {self._count}")
        return self._run.tensors[f"{self._name}.{index}"]

    def __len__(self) -> int:
        return self._count
