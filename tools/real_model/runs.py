"""massact's experiments on the real model, and what is known of their results.

Calibration and evaluation text are two parts of the built-in text, so that nothing is downloaded and the same
windows can be given to other programs.
"""

import json
import subprocess
from pathlib import Path

from fetch import LABEL

TEXT = Path(__file__).resolve().parents[2] / "assets" / "text" / "technical_english.txt"
LENGTH = 512
# Sequences that layers, dimensions and means come from.
SAMPLES = 5
# Bytes of the text that make at least so many windows, and the windows that perplexity is measured on.
CALIBRATION_BYTES = 14_000
EVALUATION_BYTES = 12_000

MASSIVE_LAYERS = list(range(11, 28))
DIMENSION = 507
TOP1 = 24_926.0


def texts(work: Path) -> tuple[Path, Path]:
    """Calibration and evaluation text as files."""
    # ASCII, so that any cut is between characters.
    whole = TEXT.read_bytes()
    parts = {
        "calibration.txt": whole[:CALIBRATION_BYTES],
        "evaluation.txt": whole[CALIBRATION_BYTES : CALIBRATION_BYTES + EVALUATION_BYTES],
    }
    for name, part in parts.items():
        (work / name).write_bytes(part)
    calibration, evaluation = (work / name for name in parts)
    return calibration, evaluation


def commands(calibration: Path, evaluation: Path) -> dict[str, list[str]]:
    """Experiments and their arguments."""
    text = ["--text-file", str(calibration), "--context-length", str(LENGTH)]
    samples = [*text, "--nsamples", str(SAMPLES)]
    return {
        "existence-validation": samples,
        "tokens-analysis": samples,
        "intervention-analysis": [
            *samples,
            "--calibration-nsamples",
            str(SAMPLES),
            "--eval",
            f"text={evaluation}",
        ],
        "top-activation-magnitude": samples,
        "self-attention": [],
        "figures": [],
    }


def run(massact: Path, model: Path, command: str, arguments: list[str], out: Path) -> dict:
    """One experiment's JSON; its folder is among those under `out`."""
    line = [str(massact), command, "--pretrained", str(model), "--label", LABEL, *arguments]
    done = subprocess.run([*line, "--save-dir", str(out), "--json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def check(existence: dict, interventions: dict) -> list[str]:
    """What is known of the model and not found; empty if all is well."""
    wrong = []

    def expect(what: str, holds: bool, found: object) -> None:
        if not holds:
            wrong.append(f"{what}, found {found}")

    layers = existence["layers"]
    massive = [layer["layer"] for layer in layers if layer["massive"]]
    expect("massive layers are 11 to 27", massive == MASSIVE_LAYERS, massive)
    first = layers[MASSIVE_LAYERS[0]]
    expect(f"top-1 of layer 11 is {TOP1:.0f}", abs(first["top1_mean"] / TOP1 - 1) < 1e-3, first["top1_mean"])
    top = first["top"][0]
    place = (top["position"], top["dimension"])
    expect(f"its place is (0, {DIMENSION})", place == (0, DIMENSION), place)
    ratios = {name: sets["text"]["ratio"] for name, sets in interventions["ratios"].items()}
    expect("the first massive layer is 11", interventions["first_layer"] == 11, interventions["first_layer"])
    dimensions = interventions["dimensions"]
    expect("two numbers are overwritten", len(dimensions) == 2 and DIMENSION in dimensions, dimensions)
    zero, mean = ratios.get("set_to_zero"), ratios.get("set_to_mean_11")
    expect("zeros multiply perplexity by more than 100,000", zero is not None and zero > 1e5, zero)
    expect("means restore it to 1.000", mean is not None and abs(mean - 1) < 5e-4, mean)
    return wrong
