"""Compares massact with transformers under altered configs, with the same weights.

    python tools/config_sweep --massact target/release/massact --work DIR [--only NAME ...]

For every plain checkpoint of tests/checkpoints: each key of config.json changed, dropped and set
to null; for one checkpoint of each model_type also keys added that this or another family knows.
What transformers said is kept in DIR, so that a second run only runs massact. Ends with an error
if massact gave another number than transformers without a word.

`--write tests/config_reference.json` keeps the altered configs that matter (they change the
result, and massact computes them) with what transformers said, for the tests.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path += [str(HERE.parents[1]), str(HERE.parents[1] / "make_checkpoints")]

from alterations import Altered, of_added_keys, of_present_keys, others, pairs  # noqa: E402
from families import ROWS  # noqa: E402
from transformers import CONFIG_MAPPING, AutoConfig  # noqa: E402
from truth import Truth, link  # noqa: E402

# As numbers of float32 differ between two ways of adding up; an effect of a key is larger.
NLL_TOLERANCE = 2e-5
LOGITS_TOLERANCE = 3e-4

STATES = ("equal", "refused", "transformers refuses", "no truth", "DIFFERENT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--massact", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="what transformers said, and the results")
    parser.add_argument("--checkpoints", type=Path, default=Path("tests/checkpoints"))
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--write", type=Path, help="keep what matters for the tests")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/models.md")
    arguments = parser.parse_args()

    truth = Truth(arguments.work)
    results = []
    seen_types = set()
    for row in ROWS:
        if row.variant or row.tokenizer:
            continue
        first = row.config["model_type"] not in seen_types
        seen_types.add(row.config["model_type"])
        if arguments.only and row.name not in arguments.only:
            continue
        folder = arguments.checkpoints / row.name
        found = list(sweep(folder, first, truth, arguments.massact))
        results += found
        (arguments.work / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        counts = Counter(result["state"] for result in found)
        print(row.name, *(f"{state} {counts[state]}" for state in STATES if counts[state]), sep="; ", flush=True)
        for result in found:
            if result["state"] == "DIFFERENT":
                print("   ", result["what"], "|", result["detail"], flush=True)
    if arguments.write:
        arguments.write.write_text(reference(results), encoding="utf-8")
    if arguments.markdown:
        print(table(results))
    sys.exit(any(result["state"] == "DIFFERENT" for result in results))


def sweep(folder: Path, with_added: bool, truth: Truth, massact: Path):
    """The results of one checkpoint."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    reference = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    token_ids = max((entry["token_ids"] for entry in reference["sequences"]), key=len)
    altered = [Altered("", "unchanged", config), Altered("", "saved anew", saved_anew(folder))]
    altered += of_present_keys(config)
    if with_added:
        altered += [*of_added_keys(config, class_fields(config["model_type"])), *pairs(config)]
    fields = CONFIG_MAPPING[config["model_type"]]().to_dict()
    flags = {key for key, value in fields.items() if isinstance(value, bool)}
    seen = set()
    for case in altered:
        text = json.dumps(case.config)
        if text in seen:
            continue
        seen.add(text)
        right = truth.of(folder, case.config, token_ids)
        ours = run(massact, folder, case.config, token_ids)
        state, detail = judge(right, ours)
        if case.what == "unchanged":
            usual = right
        if case.what == "saved anew" and "nothing reads" in ours.get("notices", ""):
            state, detail = "DIFFERENT", ours["notices"]
        yield {
            "checkpoint": folder.name,
            "model_type": config["model_type"],
            "key": case.key,
            "what": case.what,
            "state": state,
            "detail": detail,
            "notices": ours.get("notices", ""),
            "changed": {key: value for key, value in case.config.items() if config.get(key, ...) != value},
            "dropped": [key for key in config if key not in case.config],
            "matters": state == "equal"
            and (judge(right, usual)[0] == "DIFFERENT" or case.key in flags and nulled(case.what)),
            "right": right,
            "token_ids": token_ids,
        }


def nulled(what: str) -> bool:
    return what.endswith((": null", "added: None"))


def saved_anew(folder: Path) -> dict:
    """The config as transformers saves it."""
    config = json.loads(AutoConfig.from_pretrained(folder).to_json_string())
    return {key: value for key, value in config.items() if key not in ("dtype", "transformers_version")}


def class_fields(model_type: str) -> dict[str, list]:
    """The fields of transformers' config class, with values other than their defaults."""
    config = CONFIG_MAPPING[model_type]()
    skip = {"vision_config", "text_config", "architectures", "transformers_version", "model_type"}
    fields = {key: others(key, value) for key, value in config.to_dict().items() if key not in skip}
    # The defaults of classes are sizes of real models.
    small = lambda value: not isinstance(value, int) or value < 600  # noqa: E731
    return {key: [value for value in values if small(value)] for key, values in fields.items()}


def run(massact: Path, folder: Path, config: dict, token_ids: list[int]) -> dict:
    """What massact says: `nll` and `logits`, or `refused`."""
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        model.mkdir()
        link(folder, model, config)
        ids = ",".join(map(str, token_ids))
        command = [massact.resolve(), "capture", "--pretrained", "model", "--token-ids", ids]
        command += ["--nll", "--last-logits", "16", "--json", "--save-dir", "out"]
        done = subprocess.run(
            command,
            cwd=place,
            capture_output=True,
            text=True,
            env={"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "RAYON_NUM_THREADS": "1"},
        )
    if done.returncode != 0:
        return {"refused": done.stderr.strip().splitlines()[-1][:200]}
    sequence = json.loads(done.stdout)["sequences"][0]
    return {"nll": sequence["nll"], "logits": sequence["last_logits"], "notices": done.stderr.strip()}


def judge(right: dict, ours: dict) -> tuple[str, str]:
    if "refused" in ours:
        return "refused", ours["refused"] + ("" if "nll" in right else " | transformers: " + str(right))
    if "refused" in right:
        return "transformers refuses", right["refused"]
    if "made_up" in right:
        return "no truth", f"transformers makes up {right['made_up']}"
    scale = (sum(value * value for value in right["logits"]) / len(right["logits"])) ** 0.5
    worst = max(abs(a - b) for a, b in zip(right["logits"], ours["logits"], strict=True)) / (scale or 1.0)
    off = abs(right["nll"] - ours["nll"]) / max(right["nll"], 1.0)
    if off <= NLL_TOLERANCE and worst <= LOGITS_TOLERANCE:
        return "equal", ""
    return "DIFFERENT", f"nll {ours['nll']:.6f}, transformers {right['nll']:.6f}; logits off by {worst:.1e} of rms"


def reference(results: list[dict]) -> str:
    """Altered configs whose result is another, for the tests: a line each."""
    kept = [
        {
            "checkpoint": result["checkpoint"],
            "what": result["what"],
            "changed": result["changed"],
            "dropped": result["dropped"],
            "nll": round(result["right"]["nll"], 6),
            "last_logits": [round(value, 5) for value in result["right"]["logits"][:8]],
        }
        for result in results
        # Values of other numbers say little; absent keys, nulls and added keys say what they mean.
        # A flag's null may do nothing: that it is not the flag's default is then the point.
        if result["matters"] and ("added" in result["what"] or tells(result["what"]))
    ]
    lines = ",\n".join(json.dumps(entry) for entry in kept)
    return f"[\n{lines}\n]\n"


def tells(what: str) -> bool:
    return nulled(what) or what.endswith("dropped") or what.startswith("together")


def table(results: list[dict]) -> str:
    """Counts by model_type, in Markdown."""
    counts = defaultdict(Counter)
    for result in results:
        counts[result["model_type"]][result["state"]] += 1
    lines = [
        "| model_type | altered configs | equal | refused by massact | refused by transformers alone | no truth | different |",
        "|---|---|---|---|---|---|---|",
    ]
    for model_type, count in sorted(counts.items()):
        numbers = [sum(count.values()), *(count[state] for state in STATES)]
        lines.append(f"| `{model_type}` | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
