"""The whole check as Markdown, for people, and as JSON, for programs."""

from records import FAILED, NOT_JUDGED, NOT_RUN, PASSED
from targets import Ratio, verdict


def markdown(document: dict, rows: list[Ratio]) -> str:
    machine, settings = document["machine"], document["settings"]
    lines = [
        f"### {machine['device']}, {settings['date']}",
        "",
        f"{machine['massact']} (commit {machine['commit']}); driver {machine['driver']}; "
        f"torch {machine['torch']}, CUDA {machine['cuda']}, transformers {machine['transformers']}; "
        f"shape {settings['shape']}, {settings['dtype']}{', quick' if settings['quick'] else ''}.",
        "",
    ]
    lines += ratios_table(rows, settings["judged"])
    lines += ["", "Ratios are massact over what is beside it: of rates more is better, of times (ms) less."]
    if not settings["judged"]:
        lines += ["The targets are a card's; on the CPU the ratios are only shown."]
    lines += ["", *parts_table(document["parts"]), ""]
    for part in document["parts"]:
        for record in part["records"]:
            result = record.get("verdict")
            if result in (FAILED, NOT_RUN):
                lines.append(f"- {part['name']}, {record['check']}: {result.upper()}: {record['detail']}")
        if part["ended"] != "done":
            lines.append(f"- {part['name']}: {part['ended'].upper()}")
    return "\n".join(lines).rstrip() + "\n\n" + summary(document) + "\n"


def ratios_table(rows: list[Ratio], judged: bool) -> list[str]:
    cells = [("what", "massact", "beside it", "", "ratio", "target", "verdict")]
    for row in rows:
        target = "" if row.target is None else f"{row.target[0]} {row.target[1]:g}"
        values = [number(value, row.unit) for value in (row.ours, row.beside)]
        result = verdict(row, judged).upper()
        cells.append((row.what, *values, row.beside_what.strip(), number(row.ratio), target, result))
    return table(cells)


def parts_table(parts: list[dict]) -> list[str]:
    cells = [("part", "passed", "failed", "not judged", "not run", "measured", "seconds", "of")]
    for part in parts:
        counts = [count(part["records"], kind) for kind in (PASSED, FAILED, NOT_JUDGED, NOT_RUN)]
        measured = sum("measured" in record for record in part["records"])
        times = (f"{part['seconds']:.0f}", f"{part['budget']:.0f}")
        cells.append((part["name"], *map(str, counts), str(measured), *times))
    return table(cells)


def count(records: list[dict], kind: str) -> int:
    return sum(record.get("verdict") == kind for record in records)


def number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:.4g} {unit}".rstrip()


def table(cells: list[tuple[str, ...]]) -> list[str]:
    """Markdown that is aligned in a terminal too."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    aligned = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    lines = ["| " + " | ".join(row) + " |" for row in aligned]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def summary(document: dict) -> str:
    """Everything that did not pass is in it."""
    total = document["summary"]
    text = f"{total['passed']} checks passed, {total['failed']} failed, {total['not_judged']} not judged, "
    text += f"{total['not_run']} not run; "
    text += f"{total['met']} targets met, {total['missed']} missed, {total['unmeasured']} not measured"
    if total["unfinished"]:
        text += f"; did not end: {', '.join(total['unfinished'])}"
    return text + "."
