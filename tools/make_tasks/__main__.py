"""Small items of every task, and what the lm-eval package makes of them: truth for tests/tasks.rs.

    pip install lm-eval==0.4.13
    pip download --no-deps lighteval==0.5.0 -d WHEELS
    python tools/make_tasks [--model FOLDER] [--lighteval WHEEL] [--out tests/tasks] [--check DOCUMENT]

Writes the items of `items.py` as one JSON lines file a set, and `reference.json` with what lm-eval's own
tasks, its HFLM and its metrics give for each on the model (default: the demo checkpoint) in float32: every
choice's log-likelihood, accuracies and standard errors. With `--lighteval` also what lighteval's prompt
functions make of them, scored by lm-eval's `loglikelihood`, whose tokenisation is the same. The
log-likelihoods under `set_to_zero` come from transformers with a hook, by the definitions in
docs/experiments.md.

With `--check` nothing is written but the largest difference of an intervention-analysis' `task_items.jsonl`
to the reference of this model.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch

import items
from zeroed import Zeroed

ROOT = Path(__file__).resolve().parent.parent.parent
NAMED = ["hellaswag", "piqa", "social_iqa", "winogrande", "truthfulqa_mc1", "truthfulqa_mc2", "arc_easy", "arc_challenge"]
# Sets with lists and objects in their rows, also as the hub serves them.
PARQUET = ["hellaswag", "truthfulqa", "arc_easy"]


def file_of(task: str) -> str:
    return f"{task.split('_mc')[0]}.jsonl"


def harness(folder: Path, add_bos_token: bool | None = None):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=1, add_bos_token=add_bos_token)


def lm_eval(model, out: Path, limit: int | None) -> dict:
    """The package's own tasks on our files."""
    from lm_eval import simple_evaluate
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    known = TaskManager()._index
    configured = []
    for task in NAMED:
        split = "test" if task.startswith("arc") else "validation"
        data = {split: str(out / file_of(task))}
        configured.append(
            {
                **load_yaml(known[task].yaml_path, resolve_func=True),
                "task": task,
                "dataset_path": "json",
                "dataset_name": None,
                "dataset_kwargs": {"data_files": data},
                "training_split": None,
                "validation_split": split if split == "validation" else None,
                "test_split": split if split == "test" else None,
                "num_fewshot": 0,
            }
        )
    for config in configured:
        config.pop("tag", None)
    own_data = [ConfigurableTask(config=config) for config in configured]
    found = simple_evaluate(model=model, tasks=own_data, log_samples=True, limit=limit)
    tasks = {}
    for task in NAMED:
        results, samples = found["results"][task], found["samples"][task]
        samples = sorted(samples, key=lambda sample: sample["doc_id"])
        # A sample a filter; there is one.
        tasks[task] = {
            "acc": results["acc,none"],
            "acc_stderr": results["acc_stderr,none"],
            "acc_norm": results.get("acc_norm,none"),
            "acc_norm_stderr": results.get("acc_norm_stderr,none"),
            "items": [
                {
                    "log_likelihoods": [float(response[0][0]) for response in sample["resps"]],
                    "acc": float(sample["acc"]),
                    **({"acc_norm": float(sample["acc_norm"])} if "acc_norm" in sample else {}),
                    "pairs": [list(arguments) for arguments in pairs(sample)],
                }
                for sample in samples
            ],
        }
    return tasks


def pairs(sample: dict):
    """Context and continuation of every choice, as the package made them."""
    arguments = sample["arguments"]
    if isinstance(arguments, dict):
        arguments = [list(value.values()) for value in arguments.values()]
    return [tuple(pair[:2]) for pair in arguments]


def scored(model, rows: list[tuple[list[tuple[str, str]], list[int], list[int]]], normed: bool, shares: bool) -> dict:
    """Accuracies of (pairs, right answers, characters), from the package's log-likelihoods."""
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import mean_stderr

    found, accs, norms = [], [], []
    for arguments, gold, characters in rows:
        requests = [
            Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=index) for index, pair in enumerate(arguments)
        ]
        logs = np.array([result[0] for result in model.loglikelihood(requests, disable_tqdm=True)])
        if shares:
            odds = np.exp(logs)
            acc = float(odds[gold].sum() / odds.sum())
        else:
            acc = float(np.argmax(logs) in gold)
        item = {"log_likelihoods": logs.tolist(), "acc": acc, "pairs": [list(pair) for pair in arguments]}
        accs.append(acc)
        if normed:
            item["acc_norm"] = float(np.argmax(logs / np.array(characters)) in gold)
            norms.append(item["acc_norm"])
        found.append(item)
    return {
        "acc": float(np.mean(accs)),
        "acc_stderr": mean_stderr(accs),
        "acc_norm": float(np.mean(norms)) if normed else None,
        "acc_norm_stderr": mean_stderr(norms) if normed else None,
        "items": found,
    }


def own(model) -> dict:
    """Items in massact's own fields, a file of each form."""
    rows = []
    for row in items.SETS["own"]:
        if "contexts" in row:
            arguments = [(context, f" {row['continuation']}") for context in row["contexts"]]
        else:
            arguments = [(row["context"], f" {choice}") for choice in row["choices"]]
        rows.append((arguments, [row["gold"]], [1] * len(arguments)))
    return scored(model, rows, normed=False, shares=False)


def lighteval(model, wheel: Path) -> dict:
    """lighteval's prompts: its own functions, and the two of examples/nanotron, which no package has."""
    sys.path.insert(0, str(wheel))
    from lighteval.tasks import default_prompts as prompts
    from lighteval.tasks.requests import Doc

    def hellaswag(line):
        doc = prompts.hellaswag_harness(line)
        return Doc(query=doc.query, choices=[f" {choice}" for choice in doc.choices], gold_index=doc.gold_index)

    def siqa(line):
        answers = [line["answerA"], line["answerB"], line["answerC"]]
        query = line["context"] + " " + line["question"]
        return Doc(query=query, choices=[f" {answer}" for answer in answers], gold_index=int(line["label"]) - 1)

    functions = {
        "hellaswag": hellaswag,
        "piqa": prompts.piqa_harness,
        "social_iqa": siqa,
        "winogrande": prompts.winogrande,
        "arc_easy": prompts.arc,
        "arc_challenge": prompts.arc,
    }
    tasks = {}
    for task, function in functions.items():
        rows = []
        for line in items.SETS[task]:
            doc = function(line)
            characters = [len(choice) - (choice[0] == " ") for choice in doc.choices]
            rows.append(([(doc.query, choice) for choice in doc.choices], [doc.gold_index], characters))
        tasks[task] = scored(model, rows, normed=True, shares=False)
    for task in ("truthfulqa_mc1", "truthfulqa_mc2"):
        rows = []
        for line in items.SETS["truthfulqa"]:
            doc = prompts.truthful_qa_multiple_choice(line)
            first = doc.specific["len_mc1"]
            part = range(first) if task == "truthfulqa_mc1" else range(first, len(doc.choices))
            gold = [place for place, index in enumerate(part) if index in doc.gold_index]
            rows.append(([(doc.query, doc.choices[index]) for index in part], gold, [1] * len(part)))
        tasks[task] = scored(model, rows, normed=False, shares=task == "truthfulqa_mc2")
    return tasks


def check(reference: dict, path: Path) -> None:
    """How far the items of an intervention-analysis are from the reference."""
    worst, choices, different = 0.0, 0, 0
    for line in path.read_text().splitlines():
        found = json.loads(line)
        expected = reference[found["convention"]][found["task"]]["items"][found["item"]]
        ours = found["results"]["original"]
        logs = expected["log_likelihoods"]
        worst = max(worst, np.abs(np.array(ours["log_likelihoods"]) - np.array(logs)).max())
        choices += len(logs)
        different += ours["chosen"] != int(np.argmax(logs)) or (ours["acc_norm"] or 0) != expected.get("acc_norm", 0)
    print(f"{choices} choices, largest difference {worst:.2e} nats, {different} items with another answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--lighteval", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "tasks")
    parser.add_argument("--check", type=Path)
    parser.add_argument("--limit", type=int, help="with --check: the first items of each task only")
    args = parser.parse_args()
    if args.limit and not args.check:
        parser.error("--limit goes with --check")
    torch.manual_seed(0)
    out = Path(tempfile.mkdtemp()) if args.check else args.out
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in items.SETS.items():
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in PARQUET:
        table = pyarrow.Table.from_pylist(items.SETS[name])
        pyarrow.parquet.write_table(table, out / f"{name}.parquet", compression="zstd")
    if args.limit:
        items.SETS = {name: rows[: args.limit] for name, rows in items.SETS.items()}
    model = harness(args.model)
    reference = {"lm-eval": {**lm_eval(model, out, args.limit), "own": own(model)}}
    if args.lighteval:
        reference["lighteval"] = lighteval(model, args.lighteval)
    if args.check:
        check(reference, args.check)
        return
    reference["with_bos"] = Zeroed(harness(args.model, add_bos_token=True)).reference(reference["lm-eval"])
    (args.out / "reference.json").write_text(compact(reference), encoding="utf-8")


def compact(reference: dict) -> str:
    """A line an item; pairs of texts follow from the items and are left out."""

    def rounded(value):
        if isinstance(value, float):
            return float(f"{value:.9g}")
        if isinstance(value, list):
            return [rounded(entry) for entry in value]
        if isinstance(value, dict):
            return {key: rounded(entry) for key, entry in value.items() if key != "pairs"}
        return value

    text = json.dumps(rounded(reference), indent=1)
    # Lists of numbers on one line.
    import re

    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text) + "\n"


if __name__ == "__main__":
    main()
