"""A finished run: its folder, and what is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from . import _program

#: Forms of a figure, the first of which is there is shown.
FIGURES = (".svg", ".png", ".pdf")


def run(
    command: str,
    pretrained: str | Path | None = None,
    *,
    save_dir: str | Path | None = None,
    quiet: bool = False,
    **settings: object,
) -> Run:
    """Runs a command of the program, and returns what it left.

    `pretrained` is a hub id, the folder of a checkpoint or a GGUF file; without it the built-in demo
    runs. Further arguments are the command's flags (`massact <command> --help`):
    `context_length=512`, `raw=True`, `sites=["q", "k"]`.
    """
    words = [command.replace("_", "-"), "--print-folder"]
    words += _program.flags({"pretrained": pretrained, "save_dir": save_dir, "quiet": quiet} | settings)
    folder = _program.call(words, quiet).rstrip("\n")
    return Run(Path(folder))


def open_run(folder: str | Path) -> Run:
    """A run that was made before, by whatever means."""
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise FileNotFoundError(f"{folder} has no run.json: give the folder of a finished run")
    return Run(folder)


class Tensors(Mapping):
    """The tensors of a run's safetensors files, read when they are asked for.

    `tensors["layer_output.3.0"]` is numpy; `tensors.torch("layer_output.3.0")` is torch.
    """

    def __init__(self, files: list[Path], place: object = None):
        from safetensors import safe_open

        self._place = place
        self._files: dict[str, Path] = {}
        for file in files:
            with safe_open(file, framework="numpy") as opened:
                self._files |= dict.fromkeys(opened.keys(), file)

    def __getitem__(self, name: str):
        return self._read(name, "numpy")

    def torch(self, name: str):
        """The same as a torch tensor."""
        return self._read(name, "pt")

    def _read(self, name: str, framework: str):
        from safetensors import safe_open

        with safe_open(self._files[name], framework=framework) as opened:
            return opened.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"<{len(self)} tensors: {', '.join([*self][:4])}{', ...' if len(self) > 4 else ''}>"


class Run:
    """What a command left in its folder."""

    def __init__(self, folder: Path, place: object = None):
        #: Where everything is.
        self.folder = folder
        # A temporary folder around it, which goes with the last that reads from it.
        self._place = place

    @cached_property
    def record(self) -> dict:
        """run.json: what reproduces the run."""
        return _json(self.folder / "run.json")

    @property
    def command(self) -> str:
        """The command that was run."""
        return self.record["command"]

    @cached_property
    def json(self) -> dict:
        """The experiment's JSON."""
        return _json(self.folder / (self.command.replace("-", "_") + ".json"))

    @cached_property
    def tensors(self) -> Tensors:
        """All tensors that the run wrote, opened lazily."""
        return Tensors(sorted(self.folder.glob("*.safetensors")), self._place)

    @property
    def text(self) -> str:
        """What the program printed."""
        return (self.folder / "summary.txt").read_text(encoding="utf-8")

    @property
    def figures(self) -> Mapping[str, Path]:
        """Files of the figures by name, as vectors where there are."""
        found = {}
        for ending in reversed(FIGURES):
            found |= {file.stem: file for file in sorted(self.folder.rglob(f"*{ending}"))}
        return MappingProxyType(found)

    @property
    def tables(self) -> list[str]:
        """Names of the tables; `tables="csv"` in `massact.run` writes all of a command's."""
        endings = (".parquet", ".csv")
        return sorted({file.stem for file in self.folder.iterdir() if file.suffix in endings})

    def table(self, name: str, library: str | None = None):
        """A table as a data frame of pandas or polars, whichever is named or installed."""
        for ending in (".parquet", ".csv"):
            file = self.folder / (name + ending)
            if file.is_file():
                return _frame(file, library)
        known = ", ".join(self.tables) or 'none; massact.run(..., tables="csv") writes them'
        raise KeyError(f"no table {name!r} in {self.folder}; there are: {known}")

    def __repr__(self) -> str:
        return f"<massact {self.command}: {self.folder}>"

    def _repr_html_(self) -> str:
        page = self.folder / "report.html"
        if not page.is_file():
            from html import escape

            return f"<pre>{escape(self.text)}</pre>"
        from html import escape

        # A frame of its own: the page's styles and scripts stay inside it.
        content = escape(page.read_text(encoding="utf-8"), quote=True)
        return (
            f'<iframe srcdoc="{content}" style="width: 100%; height: 40em; border: 1px solid #ccc" '
            f'title="{escape(str(self.folder), quote=True)}"></iframe>'
        )


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _frame(file: Path, library: str | None):
    from importlib import import_module
    from importlib.util import find_spec

    library = library or next((name for name in ("pandas", "polars") if find_spec(name)), None)
    if library not in ("pandas", "polars"):
        raise ImportError("a table needs pandas or polars: install one of them")
    read = import_module(library)
    return read.read_parquet(file) if file.suffix == ".parquet" else read.read_csv(file)
