"""massact beside its ceilings and beside PyTorch, as ratios, and what they should be (on a card)."""

from dataclasses import dataclass, replace

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

    def fastest(self, name: str) -> tuple[str, float] | None:
        """The one of this name, or its variant, that takes least time."""
        found = [
            (variant, record["seconds"])
            for variant, record in self.by_name.items()
            if variant == name or variant.startswith(f"{name} ")
        ]
        return min(found, key=lambda one: one[1], default=None)


def by_rate(measured: Measured, what: str, ours: str, beside: str, target=None) -> Ratio:
    """How many times as fast."""
    unit = measured.by_name.get(ours, {}).get("unit", "")
    return compared(what, ours, measured.rate(ours), beside, measured.rate(beside), unit, target)


def by_time(measured: Measured, what: str, ours: str, beside: str, target=None) -> Ratio:
    """How many times as long as the fastest variant of `beside`."""
    name, seconds = measured.fastest(beside) or (beside, None)
    own, other = milliseconds(measured.seconds(ours)), milliseconds(seconds)
    return compared(what, ours, own, name, other, "ms", target)


def compared(what: str, ours: str, own: float | None, beside: str, other: float | None, unit: str, target):
    """The line of two values, either of which may be missing."""
    missing = [name for name, value in ((ours, own), (beside, other)) if not value]
    reason = f"not measured: {', '.join(missing)}" if missing else ""
    return Ratio(what, own, other, unit, beside, None if missing else own / other, target, reason)


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


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
        attention, twin = f"massact attention {head_dim}", f"torch attention {head_dim}"
        rows.append(by_time(measured, f"attention, head_dim {head_dim}", attention, twin, at_most(1.5)))
        sink = f"massact attention_sink {head_dim}"
        rows.append(by_time(measured, f"with sink mass, head_dim {head_dim}", sink, twin, at_most(2)))
    rows.append(by_rate(measured, "copy", "massact copy", "ceiling copy"))
    for name in names:
        operation = name.removeprefix("massact ")
        if operation != name and operation.startswith(("norm", "add_norm", "gated_activation", "product")):
            rows.append(by_time(measured, operation.replace("_", " "), name, f"torch {operation}"))
    return rows


def forward(measured: Measured) -> Ratio:
    """The rate of all products of the pass beside the measured ceiling."""
    seconds, done = measured.seconds("massact forward"), measured.notes.get("pass")
    rate = done["flops"] / 1e12 / seconds if seconds and done else None
    ceiling = measured.rate("ceiling matmul")
    what = "bare forward, all products"
    return compared(what, "massact forward", rate, "ceiling matmul", ceiling, "TFLOP/s", at_least(0.75))


def added_by_statistics(measured: Measured) -> Ratio:
    """What the statistics of all layers add to a pass, as a share of it."""
    what, ours = "statistics of all layers add", "massact forward_with_statistics"
    row = by_time(measured, what, ours, "massact forward", at_most(0.01))
    return row if row.ratio is None else replace(row, ratio=row.ratio - 1)


def verdict(row: Ratio, judged: bool) -> str:
    """In a word."""
    if row.ratio is None:
        return records.NOT_RUN
    met = row.met()
    if met is None or not judged:
        return "-"
    return "met" if met else "missed"
