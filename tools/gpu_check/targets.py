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
    units = (measured.by_name.get(name, {}).get("unit") for name in (ours, beside))
    unit = next(filter(None, units), "")
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


# What is wanted of a card, at the 7B shape in bfloat16, 8 x 4096 tokens.
BARE_WALK, STATISTICS = at_least(0.75), at_most(0.01)
ATTENTION, ATTENTION_SINK = at_most(1.15), at_most(1.5)
WHOLE_PROCESS = at_most(1.5)
BESIDE_REFERENCE, BESIDE_BEST = at_least(30), at_least(5)
# The width of that shape's heads.
HEAD_DIM = 128


def ratios(found: list[dict]) -> list[Ratio]:
    """The table: what has a target first."""
    measured = Measured(found)
    # PyTorch's rates leave out its start and its load; a whole process of massact has both in its time.
    whole = "massact whole process"
    walk = "massact forward_with_statistics"
    own = "massact existence-validation"
    rows = [
        forward(measured, "bare walk, all products", "massact forward", BARE_WALK),
        added_by_statistics(measured),
        *attention(measured, HEAD_DIM, ATTENTION, ATTENTION_SINK),
        by_time(measured, "whole process beside the walk", whole, walk, WHOLE_PROCESS),
        by_rate(measured, "whole process beside the reference", whole, "reference", BESIDE_REFERENCE),
        by_rate(measured, "whole process beside PyTorch", whole, "torch best", BESIDE_BEST),
        # Without targets.
        by_rate(measured, "bare walk beside PyTorch", "massact forward", "torch best forward"),
        by_rate(measured, "walk beside PyTorch", walk, "torch best"),
        by_time(measured, "its pass beside the walk", own, walk),
        by_rate(measured, "statistics", "massact statistics", "ceiling copy"),
        by_time(measured, "statistics", "massact statistics", "torch statistics"),
        *(row for head_dim in (64, 256) for row in attention(measured, head_dim)),
        by_rate(measured, "copy", "massact copy", "ceiling copy"),
    ]
    for kind in ("untuned", "noise"):
        if measured.seconds(f"{kind} forward"):
            rows.append(forward(measured, f"bare walk, {kind}", f"{kind} forward"))
    if measured.seconds("untuned forward"):
        rows.append(
            by_time(measured, "bare walk, tuned beside untuned", "massact forward", "untuned forward")
        )
    for name in measured.by_name:
        rows += others(measured, name.removeprefix("massact ")) if name.startswith("massact ") else []
    return rows


# What has rows above.
SHOWN = ("forward", "forward_with_statistics", "existence-validation", "whole", "attention", "attention_sink")
SHOWN += ("statistics", "copy")


def others(measured: Measured, operation: str) -> list[Ratio]:
    """Any other operation: beside what bounds it, and beside PyTorch's, if there is one."""
    if operation.split()[0] in SHOWN:
        return []
    ours, twin, what = f"massact {operation}", f"torch {operation}", operation.replace("_", " ")
    ceilings = {"GB/s": "ceiling copy", "TFLOP/s": "ceiling matmul"}
    ceiling = ceilings.get(measured.by_name[ours]["unit"])
    rows = [by_rate(measured, what, ours, ceiling)] if ceiling else []
    return rows + ([by_time(measured, what, ours, twin)] if measured.fastest(twin) else [])


def attention(measured: Measured, head_dim: int, plain=None, with_sink=None) -> list[Ratio]:
    """Beside the fastest fused attention of PyTorch, which captures nothing."""
    twin = f"torch attention {head_dim}"
    return [
        by_time(measured, f"{what}, head_dim {head_dim}", f"massact {name} {head_dim}", twin, target)
        for what, name, target in (
            ("attention", "attention", plain),
            ("attention with sink mass", "attention_sink", with_sink),
        )
    ]


def forward(measured: Measured, what: str, ours: str, target=None) -> Ratio:
    """The rate of all products of the pass beside the measured ceiling."""
    seconds, done = measured.seconds(ours), measured.notes.get("pass")
    rate = done["flops"] / 1e12 / seconds if seconds and done else None
    ceiling = measured.rate("ceiling matmul")
    return compared(what, ours, rate, "ceiling matmul", ceiling, "TFLOP/s", target)


def added_by_statistics(measured: Measured) -> Ratio:
    """What the statistics of all layers add to a pass, as a share of it."""
    what, ours = "statistics of all layers add", "massact forward_with_statistics"
    row = by_time(measured, what, ours, "massact forward", STATISTICS)
    return row if row.ratio is None else replace(row, ratio=row.ratio - 1)


def verdict(row: Ratio, judged: bool) -> str:
    """In a word."""
    if row.ratio is None:
        return records.NOT_RUN
    met = row.met()
    if met is None or not judged:
        return "-"
    return "met" if met else "missed"
