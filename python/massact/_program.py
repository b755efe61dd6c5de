"""The program: where it is, and how it is called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

#: Overrides where the program is looked for.
VARIABLE = "MASSACT_PROGRAM"

#: Flags that take `true` or `false` as their value; others are there or not.
TRUE_OR_FALSE = frozenset({"add_bos_token"})


class Failed(Exception):
    """The program ended with an error; the message is its own.

    `exit_code`: 1 failed, 2 wrong usage, 3 interrupted. `command` is what was called.
    """

    def __init__(self, message: str, exit_code: int, command: list[str]):
        super().__init__(message)
        self.exit_code = exit_code
        self.command = command


def program() -> str:
    """Path of the program: `MASSACT_PROGRAM`, what was installed with this package, or PATH."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    name = "massact" + (sysconfig.get_config_var("EXE") or "")
    schemes = [sysconfig.get_path("scripts"), Path(sys.executable).parent]
    if sys.version_info >= (3, 10):
        schemes.append(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")))
    for folder in schemes:
        candidate = Path(folder) / name
        if candidate.is_file():
            return str(candidate)
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(
            f"the program massact is neither beside this Python nor on PATH; install the package anew, "
            f"or set {VARIABLE} to its path"
        )
    return found


def version() -> str:
    """What `massact -V` says; `massact --version` knows the commit and the built-in kernels, too."""
    return subprocess.run([program(), "-V"], capture_output=True, text=True, check=True).stdout.strip()


def flags(settings: Mapping[str, object]) -> list[str]:
    """Keyword arguments as flags of the command line.

    `context_length=512` is `--context-length 512`; `raw=True` is `--raw`, and False or None leaves a
    flag out; a list is joined by commas, and a list of lists is the flag once for each of them.
    """
    words: list[str] = []
    for name, value in settings.items():
        flag = "--" + name.strip("_").replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            if name in TRUE_OR_FALSE:
                words.append(f"{flag}={str(value).lower()}")
            elif value:
                words.append(flag)
        elif is_list(value) and any(is_list(one) for one in value):
            for one in value:
                words.append(f"{flag}={joined(one) if is_list(one) else one}")
        else:
            # One word, so that a value may begin with a hyphen.
            words.append(f"{flag}={joined(value) if is_list(value) else value}")
    return words


def is_list(value: object) -> bool:
    """Anything to go through but text and paths."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, os.PathLike))


def joined(values: Iterable) -> str:
    return ",".join(str(value) for value in values)


def call(words: list[str], quiet: bool = False) -> str:
    """Runs the program to its end and returns its stdout.

    What it says on stderr, progress among it, goes to `sys.stderr` line by line, where a notebook
    shows it. Its last line becomes the message of `Failed` if it fails.
    """
    command = [program(), *words]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        said: list[str] = []

        def listen() -> None:
            for line in process.stderr:
                said.append(line.rstrip("\n"))
                if not quiet:
                    print(line, end="", file=sys.stderr, flush=True)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            output = process.stdout.read()
            code = process.wait()
        except KeyboardInterrupt:
            # The program had the signal too if it shares the terminal; a notebook's kernel does not.
            process.terminate()
            process.wait()
            raise
        listener.join()
    if code != 0:
        raise Failed(message(said, code), code, command)
    return output


def message(said: list[str], code: int) -> str:
    """What the program gave as the reason."""
    lines = [line for line in said if line.strip()]
    for start, line in enumerate(lines):
        # Wrong usage is told in several lines.
        if line.startswith("error:"):
            return "\n".join(lines[start:])
    if not lines:
        return f"massact ended with {code}, without a word"
    return lines[-1].removeprefix("massact: ")
