"""massact beside its ceilings and beside PyTorch, as ratios, and what they should be (on a card)."""

from dataclasses import dataclass

import records


@dataclass(frozen=True)
class Ratio:
    """One line of the table. `ours` and `beside` are seconds or rates, as `unit` says."""

    what: str
    ours: float | None
    beside: float | None
    unit: str
    beside_what: str
    ratio: float | None
    # "at least" or "at most", and the bound; none where the ratio is only shown.
    target: tuple[str, float] | None = None
    reason: str = ""

    def met(self) -> bool | None:
        if self.target is None or self.ratio is None:
            return None
        direction, bound = self.target
        return self.ratio >= bound if direction == "at least" else self.ratio <= bound


def at_least(bound: float) -> tuple[str, float]:
    return "at least", bound


def at_most(bound: float) -> tuple[str, float]:
    return "at most", bound


class Measured:
    """All measurements by name."""

    def __init__(self, found: list[dict]):
        self.by_name = {record["measured"]: record for record in found if "measured" in record}
        self.notes = {record["noted"]: record["content"] for record in found if "noted" in record}

    def seconds(self, name: str) -> float | None:
        return self.by_name.get(name, {}).get("seconds")

    def rate(self, name: str) -> float | None:
        return self.by_name.get(name, {}).get("rate")

    def fastest(self, start: str) -> tuple[str, float] | None:
        """The variant of a twin that takes least time."""
        found = [(name, record["seconds"]) for name, record in self.by_name.items() if name.startswith(start)]
        return min(found, key=lambda one: one[1], default=None)


def by_rate(measured: Measured, what: str, ours: str, beside: str, target=None) -> Ratio:
    """How many times as fast."""
    own, other = measured.rate(ours), measured.rate(beside)
    unit = measured.by_name.get(ours, {}).get("unit", "")
    return Ratio(what, own, other, unit, beside, own / other if own and other else None, target, missing(ours, own, beside, other))


def by_time(measured: Measured, what: str, ours: str, beside: str, target=None) -> Ratio:
    """How many times as long as the fastest variant of `beside`."""
    own, twin = measured.seconds(ours), measured.fastest(beside)
    name, other = twin or (beside, None)
    ratio = own / other if own and other else None
    return Ratio(what, scaled(own), scaled(other), "ms", name, ratio, target, missing(ours, own, beside, other))


def scaled(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def missing(ours: str, own: float | None, beside: str, other: float | None) -> str:
    return "; ".join(f"{name} was not measured" for name, value in ((ours, own), (beside, other)) if not value)


def ratios(found: list[dict]) -> list[Ratio]:
    """The table."""
    measured = Measured(found)
    names = list(measured.by_name)
    rows = [
        forward(measured),
        added_by_statistics(measured),
        by_rate(measured, "existence-validation", "massact existence-validation", "reference", at_least(30)),
        by_rate(measured, "existence-validation", "massact existence-validation", "torch best", at_least(5)),
        by_rate(measured, "its pass, weights on the device", "massact forward_with_statistics", "torch best"),
        by_rate(measured, "bare forward", "massact forward", "torch best forward"),
        by_rate(measured, "statistics", "massact statistics", "ceiling copy", at_least(0.7)),
        by_time(measured, "statistics", "massact statistics", "torch statistics"),
    ]
    for head_dim in (64, 128, 256):
        attention, twin = f"massact attention {head_dim}", f"torch attention {head_dim} "
        rows.append(by_time(measured, f"attention, head_dim {head_dim}", attention, twin, at_most(1.5)))
        sink = f"massact attention_sink {head_dim}"
        rows.append(by_time(measured, f"with sink mass, head_dim {head_dim}", sink, twin, at_most(2)))
    rows.append(by_rate(measured, "copy", "massact copy", "ceiling copy"))
    for name in names:
        operation = name.removeprefix("massact ")
        if operation != name and operation.startswith(("norm", "gated_activation", "product")):
            rows.append(by_time(measured, operation.replace("_", " "), name, f"torch {operation}"))
    return rows


def forward(measured: Measured) -> Ratio:
    """The time that the products of the pass take at the measured ceiling, over the pass's time."""
    what, target = "bare forward, all products", at_least(0.75)
    seconds, done = measured.seconds("massact forward"), measured.notes.get("pass")
    ceiling = measured.rate("ceiling matmul")
    if not (seconds and done and ceiling):
        return Ratio(what, None, None, "TFLOP/s", "ceiling matmul", None, target, "a part of it was not measured")
    rate = done["flops"] / 1e12 / seconds
    return Ratio(what, rate, ceiling, "TFLOP/s", "ceiling matmul", rate / ceiling, target)


def added_by_statistics(measured: Measured) -> Ratio:
    """What the statistics of all layers add to a pass, as a share of it."""
    bare, observed = (measured.seconds(f"massact {name}") for name in ("forward", "forward_with_statistics"))
    what, target = "statistics of all layers add", at_most(0.01)
    ratio = observed / bare - 1 if bare and observed else None
    reason = missing("massact forward", bare, "massact forward_with_statistics", observed)
    return Ratio(what, scaled(observed), scaled(bare), "ms", "massact forward", ratio, target, reason)


def verdict(row: Ratio, judged: bool) -> str:
    """In a word."""
    if row.ratio is None:
        return records.NOT_RUN
    met = row.met()
    if met is None or not judged:
        return "-"
    return "met" if met else "missed"
