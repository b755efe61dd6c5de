"""The whole check as Markdown, for people, and as JSON, for programs: what is wrong comes first."""

import json
import os
import re
from pathlib import Path

from records import FAILED, NOT_JUDGED, NOT_RUN, PASSED
from targets import Ratio, ratios, verdict


def document(parts: list[dict], waiting: list[str], machine: dict, settings: dict) -> dict:
    """What was found so far; `waiting` are the parts that have not begun."""
    records = [record for part in parts for record in part["records"]]
    rows = ratios(records)
    verdicts = [verdict(row, settings["judged"]) for row in rows]
    notes = {record["noted"]: record["content"] for record in records if "noted" in record}
    return {
        "machine": machine,
        "settings": settings | {"shape": notes.get("pass", {}).get("shape")},
        "summary": {
            "passed": count(records, PASSED),
            "failed": count(records, FAILED),
            "not_judged": count(records, NOT_JUDGED),
            "not_run": count(records, NOT_RUN),
            "met": verdicts.count("met"),
            "missed": verdicts.count("missed"),
            "unmeasured": sum(row.target is not None and row.ratio is None for row in rows),
            "unfinished": [part["name"] for part in parts if part["ended"] != "done"],
            "not_begun": waiting,
        },
        "ratios": [vars(row) | {"verdict": result} for row, result in zip(rows, verdicts, strict=True)],
        "parts": parts,
    }


def count(records: list[dict], kind: str) -> int:
    return sum(record.get("verdict") == kind for record in records)


def stem(document: dict, folder: Path) -> Path:
    card = re.sub(r"[^a-z0-9]+", "-", document["machine"]["device"].lower()).strip("-")
    return folder / f"gpu-check-{card}-{document['settings']['date']}"


def write(document: dict, folder: Path) -> None:
    """`gpu-check-<card>-<date>.md` and `.json`, each whole at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = stem(document, folder)
    for suffix, text in ((".md", markdown(document)), (".json", json.dumps(document, indent=1) + "\n")):
        unfinished = path.with_suffix(f"{suffix}.unfinished")
        unfinished.write_text(text)
        os.replace(unfinished, path.with_suffix(suffix))


def markdown(document: dict) -> str:
    machine, settings, parts = (document[key] for key in ("machine", "settings", "parts"))
    rows = [Ratio(**{key: row[key] for key in row if key != "verdict"}) for row in document["ratios"]]
    wrong = [f"- {part['name']}, {line}" for part in parts for line in failures(part)]
    late = [row for row in rows if verdict(row, settings["judged"]) == "missed"]
    wrong += [f"- target missed: {missed(row)}" for row in late]
    lines = [f"### {machine['device']}, {settings['date']}", "", summary(document), ""]
    lines += [*wrong, ""] if wrong else []
    lines += [
        f"{machine['massact']} (commit {machine['commit']}; kernels {machine['kernels']}); "
        f"driver {machine['driver']}; torch {machine['torch']}, CUDA {machine['cuda']}, "
        f"transformers {machine['transformers']}; "
        f"shape {settings['shape']}, {settings['dtype']}{', quick' if settings['quick'] else ''}.",
        "",
        *ratios_table(rows, settings["judged"]),
        "",
        "Ratios are massact over what is beside it: of rates more is better, of times (ms) less.",
    ]
    if not settings["judged"]:
        lines += ["The targets are a card's, at the whole shape; here the ratios are only shown."]
    lines += ["", *parts_table(parts), ""]
    for part in parts:
        for record in part["records"]:
            if record.get("verdict") == NOT_RUN:
                lines.append(f"- {part['name']}, {record['check']}: NOT RUN: {record['detail']}")
    return "\n".join(lines).rstrip() + "\n"


def failures(part: dict) -> list[str]:
    """What failed in a part, and how it ended if not as it should."""
    failed = [record for record in part["records"] if record.get("verdict") == FAILED]
    lines = [f"{record['check']}: FAILED: {record['detail']}" for record in failed]
    how, colon, why = part["ended"].partition(":")
    return lines + ([] if how == "done" else [how.upper() + colon + why])


def missed(row: Ratio) -> str:
    direction, bound = row.target
    return f"{row.what}: {number(row.ratio)}, wanted {direction} {bound:g}"


def summary(document: dict) -> str:
    """Everything that did not pass is in it."""
    total = document["summary"]
    text = f"{total['passed']} checks passed, {total['failed']} failed, {total['not_judged']} not judged, "
    text += f"{total['not_run']} not run; "
    text += f"{total['met']} targets met, {total['missed']} missed, {total['unmeasured']} not measured"
    for key, what in (("unfinished", "did not end"), ("not_begun", "not begun")):
        text += f"; {what}: {', '.join(total[key])}" if total[key] else ""
    return text + "."


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
