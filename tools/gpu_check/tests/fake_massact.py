"""Answers as massact does on a machine with a card, and hangs or fails where the test says so.

The variable FAKE_MASSACT holds JSON: of a command, or of a part of `bench`, what happens there ("hang",
"crash", or seconds to wait); and of `selftest`, by step, "fail", "hang" or "crash".
"""

import json
import os
import sys
import time
from pathlib import Path

VERSION = """massact 0.1.0
commit   0123456789ab
compiler rustc 1.0.0
target   x86_64-unknown-linux-gnu
kernels  built in, by nvcc 13.0"""
CARD = {
    "device": "cuda:0",
    "name": "Card of the tests",
    "compute_capability": "9.0",
    "memory_bytes": 1 << 36,
    "usable": True,
    "unusable_because": None,
}
CHECKS = ("multiply", "norm", "attention of 128", "statistics", "product", "whole model")


def main() -> None:
    command, arguments = sys.argv[1], sys.argv[2:]
    wanted = json.loads(os.environ.get("FAKE_MASSACT", "{}"))
    if command == "--version":
        print(VERSION)
        return
    if command == "selftest":
        selftest(arguments, wanted.get("selftest", {}))
        return
    if command == "bench":
        parts = option(arguments, "--parts")
        if dims := option(arguments, "--head-dims"):
            parts += f" {dims}"
        happen(wanted.get(parts))
        print(json.dumps(bench(parts, arguments)))
        return
    happen(wanted.get(command))
    if command == "devices":
        unusable = wanted.get("unusable_because")
        card = CARD | {"usable": unusable is None, "unusable_because": unusable}
        print(json.dumps({"schema": "massact/devices/1", "cpu": {}, "gpus": [card]}))


def option(arguments: list[str], name: str) -> str | None:
    return arguments[arguments.index(name) + 1] if name in arguments else None


def happen(what: str | float | None) -> None:
    if what == "hang":
        Path(os.environ["FAKE_MASSACT_PID"]).write_text(str(os.getpid()))
        time.sleep(3600)
    if what == "crash":
        print("massact: cuda:0: an illegal memory access was encountered", file=sys.stderr)
        sys.exit(101)
    if what:
        time.sleep(what)


def selftest(arguments: list[str], wanted: dict) -> None:
    dtype, failed = option(arguments, "--dtype"), 0
    for step in range(int(option(arguments, "--from")), len(CHECKS)):
        what = wanted.get(str(step))
        check = {"name": CHECKS[step], "dtype": dtype, "error": 0.001, "allowed": 0.01, "passed": True}
        if what == "fail":
            failed += 1
            wrong = {"index": 7, "of": 64, "got": "3", "wanted": "2.5"}
            check |= {"error": 0.2, "passed": False, "first_wrong": wrong}
        else:
            happen(what)
        print(json.dumps(check | {"step": step}), flush=True)
    if failed:
        print(f"massact: cuda:0: {failed} of {len(CHECKS)} checks failed", file=sys.stderr)
        sys.exit(1)


def bench(parts: str, arguments: list[str]) -> dict:
    sequences, tokens = (int(option(arguments, f"--{name}")) for name in ("sequences", "tokens"))
    if parts == "model":
        # A pass is faster where it finds what was tuned.
        cache = Path(os.environ["MASSACT_CACHE_DIR"])
        if "--tune" in arguments:
            cache.mkdir(parents=True, exist_ok=True)
            (cache / "cublaslt-card.json").write_text('{"machine": "card", "algorithms": {}}')
        seconds = 1.0 if list(cache.glob("*.json")) else 1.25
        shape = {"sequences": sequences, "tokens": tokens, "layers": 32, "hidden": 4096}
        found = [
            measurement("forward", seconds, shape, sequences * tokens, "tokens/s"),
            measurement("forward_with_statistics", seconds * 1.005, shape, sequences * tokens, "tokens/s"),
        ]
    else:
        head_dim = int(parts.split()[1])
        shape = {"sequences": sequences, "tokens": tokens, "heads": 4096 // head_dim, "head_dim": head_dim}
        found = [
            measurement("attention", 0.010, shape, 1e12, "TFLOP/s"),
            measurement("attention_sink", 0.012, shape, 1e12, "TFLOP/s"),
        ]
    return {"schema": "massact/bench/1", "measurements": found}


def measurement(name: str, seconds: float, shape: dict, work: float, unit: str) -> dict:
    times = {"best_seconds": seconds, "median_seconds": seconds}
    return {"name": name, **times, "shape": shape, "work": work, "rate": work / seconds, "unit": unit}


main()
