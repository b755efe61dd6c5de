"""The committed checkpoints on the device, against the references stored beside them.

float32: as tests/parity.rs, a quantity may differ from the reference by four times the noise that
float32 has in transformers itself, plus a slack for sums in another order; places exactly.

16 bits: the reference is float32, so the error is mostly that of the type. It may be twice the error
that transformers makes in the same type on the same device: in the geometric mean over the
checkpoints, for each quantity. A single checkpoint may exceed it further: two programs of equal
precision round differently. Where transformers is missing, or does not know the model (attention KV
bias and other changed models), stated bounds serve. Not judged are the checkpoints in which one
rounding decides: about the expert of a token, or whether a planted value becomes massive.
"""

import json
import statistics
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

import tensors_file
from job import ROOT, Job
from processes import NoAnswer
from records import Records

CHECKPOINTS = ROOT / "tests" / "checkpoints"
# Processes side by side: each spends most of its time on opening the device.
WORKERS = 8
DTYPES = ("bfloat16", "float32", "float16")
STRIDE = 8
# Seconds that one checkpoint may take, and that are left for the verdict on all.
PATIENCE, JUDGING = 15, 2
# Half a unit in the last place, relative.
ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
# Of one checkpoint, times transformers' error or one rounding. Transformers' own errors in the two
# types, each in its roundings, differ by a factor of up to 3.6 (58 checkpoints, on a CPU).
ONE_CHECKPOINT = 5
ALL_CHECKPOINTS = 2
# In roundings: twice the largest error that transformers makes in any of those 58.
STATED_BOUNDS = {"max": 15, "median": 35, "top": 30, "nll": 8, "last_logits": 130}
# Of float32 on the CPU, where the sums are the tests'; on a card they have another order.
SLACK = {"cpu": 2e-6, "cuda": 1.2e-5}
CONTRACT = 1e-4


def run(job: Job, records: Records) -> None:
    folders = sorted(path for path in CHECKPOINTS.iterdir() if path.is_dir())
    # Every eighth, then the ones beside them: wherever the time ends, it was spent on all kinds.
    rounds = [folders[first::STRIDE] for first in range(1 if job.quick else STRIDE)]
    transformers = Transformers(job.device)
    if transformers.missing:
        records.not_run("16-bit errors of transformers", transformers.missing)
    dtypes = DTYPES if job.on_card else ("float32",)
    for dtype in set(DTYPES) - set(dtypes):
        records.not_run(f"parity in {dtype}", "checked on a card only")
    beside: dict[str, list] = {dtype: [] for dtype in dtypes}
    pool, missed = ThreadPoolExecutor(WORKERS), dict.fromkeys(dtypes, 0)
    for folders in rounds:
        for dtype in dtypes:
            if job.left() < JUDGING:
                missed[dtype] += len(folders)
                continue
            # Started together, judged in order: an early end leaves whole checkpoints.
            running = {folder: pool.submit(capture, job, folder, dtype) for folder in folders}
            for folder, ours in running.items():
                if job.left() < JUDGING:
                    missed[dtype] += 1
                    continue
                together = (records, ours, folder, dtype, job, transformers)
                # What was not foreseen of one leaves the others.
                name = f"{folder.name}, {dtype}"
                beside[dtype] += records.attempt(name, lambda of=together: judge_one(*of)) or []
    pool.shutdown(wait=False, cancel_futures=True)
    for dtype in dtypes:
        judge_together(records, dtype, beside[dtype])
        if missed[dtype]:
            records.not_run(f"{missed[dtype]} checkpoints in {dtype}", "no time was left")


def judge_one(
    records: Records, running: Future, folder: Path, dtype: str, job: Job, transformers: "Transformers"
) -> list[tuple[dict, dict]]:
    """Massact's errors and transformers', in roundings, where there are both."""
    name = f"{folder.name}, {dtype}"
    try:
        ours = running.result()
    except (RuntimeError, ValueError, OSError) as error:
        silent = isinstance(error, NoAnswer)
        if silent and job.left() < JUDGING:
            records.not_run(name, "no time was left")
        elif dtype == "float16" and not silent and transformers.overflows(folder):
            records.not_judged(name, f"transformers overflows too; {error}")
        else:
            records.check(name, False, str(error))
        return []
    if dtype == "float32":
        judge_float32(records, name, ours, folder, job)
        return []
    return judge_16_bit(records, name, ours, folder, dtype, transformers)


def reference_of(folder: Path) -> dict:
    return json.loads((folder / "reference.json").read_text())


def capture(job: Job, folder: Path, dtype: str) -> dict:
    """What massact says about the reference's sequences; in float32 its attention maps too."""
    reference = reference_of(folder)
    arguments = ["capture", "--quiet", "--pretrained", folder, "--device", job.device, "--dtype", dtype]

    def one(*more: object) -> dict:
        with tempfile.TemporaryDirectory() as results:
            document = job.json(*arguments, "--save-dir", results, *more, seconds=PATIENCE)
            maps = list(Path(results).rglob("attention.safetensors"))
            document["maps"] = {name: map.clone() for file in maps for name, map in tensors_file.read(file)}
        return document

    def ids(sequence: dict) -> list[str]:
        return ["--token-ids", ",".join(map(str, sequence["token_ids"]))]

    every = [argument for sequence in reference["sequences"] for argument in ids(sequence)]
    document = one("--nll", "--last-logits", 16, *every)
    # No map is made up where no layer has attention.
    if dtype == "float32" and any(tensors_file.read(folder / "reference.safetensors")):
        observed = ids(reference["sequences"][reference["attention_sequence"]])
        for kind in ("mean", "sink"):
            document["maps"] |= one("--attention", kind, *observed)["maps"]
    return document


# --- errors -----------------------------------------------------------------------------


def errors(ours: list[dict], theirs: list[dict]) -> dict[str, float]:
    """The largest error of each quantity over sequences and layers, in the units of the noise."""
    found = dict.fromkeys(("max", "median", "top", "nll", "last_logits"), 0.0)

    def note(quantity: str, value: float, truth: float, scale: float) -> None:
        error = abs(value - truth) / scale if value != truth else 0.0
        # A number that is none is the largest error.
        found[quantity] = max(found[quantity], error if error == error else float("inf"))

    for own, their in zip(ours, theirs, strict=True):
        if their["nll"] is not None:
            note("nll", own["nll"], their["nll"], abs(their["nll"]))
        scale = rms(torch.tensor(their["last_logits"]))
        for value, truth in zip(own["last_logits"], their["last_logits"], strict=True):
            note("last_logits", value, truth, scale)
        for layer, truth in zip(own["layers"], their["layers"], strict=True):
            for quantity in ("max", "median"):
                note(quantity, layer[quantity], truth[quantity], abs(truth[quantity]))
            for entry, expected in zip(layer["top"], truth["top"], strict=True):
                # In 16 bits places may change; the k-th largest magnitude is comparable all the same.
                note("top", abs(entry["value"]), abs(expected["value"]), abs(expected["value"]))
    return found


def rms(values: torch.Tensor) -> float:
    visible = values[~values.isnan()].double()
    return visible.pow(2).mean().sqrt().item()


def map_errors(ours: dict, folder: Path) -> dict[str, float]:
    """As `errors`, of the attention maps; a missing map, or one hidden elsewhere, is infinitely wrong."""
    found = {"attention_logits": 0.0, "attention_probs": 0.0}
    theirs = dict(tensors_file.read(folder / "reference.safetensors"))
    if ours.keys() != theirs.keys():
        return dict.fromkeys(found, float("inf"))
    for name, truth in theirs.items():
        logits = name.endswith(("logits_mean", "max_logit"))
        quantity, scale = ("attention_logits", rms(truth)) if logits else ("attention_probs", 1.0)
        own, hidden = ours[name], truth.isnan()
        same = own.shape == truth.shape and bool((own.isnan() == hidden).all())
        error = (own - truth)[~hidden].abs().max().item() / scale if same else float("inf")
        found[quantity] = max(found[quantity], error)
    return found


def places(sequences: list[dict]) -> list:
    """Where the largest and the massive values are."""
    return [
        [(entry["position"], entry["dimension"]) for kind in ("top", "massive") for entry in layer[kind]]
        for sequence in sequences
        for layer in sequence["layers"]
    ]


# --- verdicts ---------------------------------------------------------------------------


def judge_float32(records: Records, name: str, ours: dict, folder: Path, job: Job) -> None:
    reference = reference_of(folder)
    noise = reference["noise"]
    noise["nll"] = max(noise["nll"], noise["last_logits"])
    found = errors(ours["sequences"], reference["sequences"]) | map_errors(ours["maps"], folder)
    slack = SLACK["cuda" if job.on_card else "cpu"]
    allowed = {quantity: min(4 * noise[quantity] + slack, CONTRACT) for quantity in found}
    if places(ours["sequences"]) != places(reference["sequences"]):
        records.check(name, False, "other places of the largest or massive values")
        return
    judge(records, name, found, allowed)


def judge_16_bit(
    records: Records, name: str, ours: dict, folder: Path, dtype: str, transformers: "Transformers"
) -> list[tuple[dict, dict]]:
    """Returns massact's errors and transformers', in roundings, where there are both."""
    rounding, reference = ROUNDING[dtype], reference_of(folder)
    found = in_roundings(errors(ours["sequences"], reference["sequences"]), rounding)
    if folder.name.startswith("planted") or "experts" in (folder / "config.json").read_text():
        listed = ", ".join(f"{quantity} {error:.1f}" for quantity, error in found.items())
        records.not_judged(name, f"one rounding decides; errors in roundings: {listed}")
        return []
    theirs = transformers.sequences(folder, dtype)
    if theirs is None:
        judge(records, name, found, STATED_BOUNDS, "roundings")
        return []
    theirs = in_roundings(errors(theirs, reference["sequences"]), rounding)
    allowed = {quantity: ONE_CHECKPOINT * max(error, 1) for quantity, error in theirs.items()}
    judge(records, name, found, allowed, "roundings")
    return [(found, theirs)]


def in_roundings(found: dict[str, float], rounding: float) -> dict[str, float]:
    return {quantity: error / rounding for quantity, error in found.items()}


def judge_together(records: Records, dtype: str, beside: list[tuple[dict, dict]]) -> None:
    """The rule, for each quantity; errors below a rounding are equally good."""
    for quantity in STATED_BOUNDS if beside else ():
        shares = [max(ours[quantity], 1) / max(theirs[quantity], 1) for ours, theirs in beside]
        mean = statistics.geometric_mean(shares)
        detail = f"{mean:.2f} of transformers', allowed {ALL_CHECKPOINTS}; {len(beside)} checkpoints"
        records.check(f"all checkpoints, {dtype}, error of {quantity}", mean <= ALL_CHECKPOINTS, detail)


def judge(records: Records, name: str, found: dict, allowed: dict, unit: str = "") -> None:
    """By the quantity that comes nearest to what it is allowed, or exceeds it furthest."""
    worst = max(found, key=lambda quantity: found[quantity] / allowed[quantity])
    detail = f"{worst}: error {found[worst]:.2g}, allowed {allowed[worst]:.2g} {unit}".rstrip()
    records.check(name, found[worst] <= allowed[worst], detail)


class Transformers:
    """The same checkpoints in transformers, in another type."""

    def __init__(self, device: str):
        self.device = device
        try:
            import transformers
        except ImportError:
            self.missing = "transformers is not installed; a stated bound stands in for it"
        else:
            self.missing = None
            transformers.logging.set_verbosity_error()
            transformers.logging.disable_progress_bar()

    def sequences(self, folder: Path, dtype: str) -> list[dict] | None:
        """What reference.json holds, computed in `dtype`; None where transformers cannot."""
        if self.missing:
            return None
        from quantities import sequence_summary
        from record import observe
        from transformers import AutoModelForCausalLM

        found = []
        try:
            model, said = AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), attn_implementation="eager", output_loading_info=True
            )
            if said["missing_keys"] or said["unexpected_keys"]:
                return None
            model = model.eval().to(self.device)
            for sequence in reference_of(folder)["sequences"]:
                observed = observe(model, sequence["token_ids"])
                # Its numbers are taken as massact takes them: in float32.
                observed.logits = observed.logits.float().cpu()
                observed.layers = [layer.float().cpu() for layer in observed.layers]
                found.append(sequence_summary(observed, sequence["token_ids"]))
        except Exception:
            # A package that it wants, a model that it does not know, no room.
            return None
        return found

    def overflows(self, folder: Path) -> bool:
        """Whether float16 is too narrow for the model there, too."""
        found = self.sequences(folder, "float16")
        return bool(found) and float("inf") in errors(found, reference_of(folder)["sequences"]).values()
