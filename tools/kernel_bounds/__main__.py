"""Bounds of the CUDA kernels, from their machine code and the chips' published rates.

    kernel_bounds [--check PAGE | --write PAGE] FOLDER

FOLDER is what .ci/disassemble leaves. Prints the tables of docs/cuda-bounds.md, or compares the page's with them, or
writes them into it. Of each kernel it takes the shortest way round its loop, or through it, that executes exactly
what a unit of work needs, so that branches of rare cases are left out, counts instructions by what executes them, and
holds the clocks of a multiprocessor that each needs beside memory's.
"""

import argparse
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from difflib import unified_diff
from multiprocessing import get_context
from pathlib import Path

from chips import CHIPS, UNIT_OF, UNITS, Chip, amounts
from path import Flow
from work import GROUPS, LATE, PRODUCTS, Kernel

from disassembly import kernels  # of .ci, where path.py has looked

BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"
KERNELS = [kernel for group in GROUPS for kernel in group.kernels]
TYPE = r"_(f32|bf16|f16)$"


def ways_of(path: Path) -> tuple[list[str], dict[tuple[str, str], list[str]], list[str]]:
    """Of a file's kernels: their names, their ways, and what has none."""
    target, found = path.name.rsplit(".", 2)[1], kernels(path.read_text())
    ways, wrong = {}, []
    for kernel in KERNELS:
        if kernel.name in found and target in kernel.targets:
            flow, way = Flow(found[kernel.name]), []
            looked = {}
            for needs in kernel.loops():
                key = tuple(needs.items())
                if key not in looked:
                    looked[key] = flow.shortest(needs, kernel.looped)
                part = looked[key]
                if part is None:
                    wrong.append(f"{kernel.name} for {target}: no way executes {needs}: the kernel has changed, and "
                                 "so must its row in tools/kernel_bounds/work.py")
                way += part or []
            ways[kernel.name, target] = way
    return list(found), ways, wrong


def without_row(names: set[str]) -> list[str]:
    """Kernels that no row speaks of."""
    rows = {re.sub(TYPE, "", row.name) for row in KERNELS + LATE}
    like = [re.compile(kernel.like) for kernel in KERNELS if kernel.like]
    return [f"{name}: no row of tools/kernel_bounds/work.py speaks of it" for name in sorted(names)
            if re.sub(TYPE, "", name) not in rows and not any(pattern.fullmatch(name) for pattern in like)]


def clocks_of(kernel: Kernel, way: list[str], chip: Chip) -> dict[str, float]:
    """Clocks of a multiprocessor that each resource needs for a unit, if every multiprocessor has as many units."""
    asked = amounts(way, kernel.shared_words)
    clocks = {unit: kernel.warps * asked[unit] / rate for unit, rate in chip.rates.items()}
    clocks["shared"] += kernel.tiles / chip.rates["shared"]
    clocks["cache"] = (kernel.again or kernel.bytes / kernel.units) * chip.processors / chip.cache
    clocks["memory"] = kernel.bytes / chip.memory * chip.hertz * chip.processors / kernel.units
    return clocks


def seconds_of(kernel: Kernel, clocks: float, chip: Chip) -> float:
    return clocks * kernel.units / (chip.hertz * chip.processors)


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def table(*head: str) -> str:
    return row(*head) + "\n|---|" + "---:|" * (len(head) - 1)


def three(value: float) -> str:
    """Three digits, or two where they are enough."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else (
        f"{value:.4f}".rstrip("0").rstrip(".") or "0")


def time(seconds: float, bound: str) -> str:
    return f"{three(1e3 * seconds)} {bound}"


NOT_MEASURED = "not measured"


def summary(ways: dict[tuple[str, str], list[str]]) -> list[str]:
    """A table a group: what has to be moved and computed, and the time that this takes at least."""
    lines = []
    for group in GROUPS:
        lines += [f"### {group.title}", "", group.note, "",
                  table("kernel", "GB", "GFLOP", "unit of work", "issued a unit, 8.0", "9.0",
                        *(f"{chip.name}, ms" for chip in CHIPS), "measured")]
        for kernel in group.kernels:
            issued = [str(kernel.warps * len(ways[kernel.name, target])) if target in kernel.targets else "-"
                      for target in ("sm_80", "sm_90a")]
            times = []
            for chip in CHIPS:
                if chip.target not in kernel.targets:
                    times.append("-")
                    continue
                clocks = clocks_of(kernel, ways[kernel.name, chip.target], chip)
                bound = max(clocks, key=clocks.get)
                times.append(time(seconds_of(kernel, clocks[bound], chip), bound))
            lines.append(row(f"`{kernel.name}`", three(kernel.bytes / 1e9), three(kernel.flop / 1e9), kernel.unit,
                             *issued, *times, NOT_MEASURED))
        lines.append("")
    lines += ["### Launch and latency", "", "These wait longer than they work: time is that of a launch and of a few "
              "round trips to memory, which no rate says. What they read and write:", "",
              table("kernel", "MB", "why it is short", "measured")]
    lines += [row(f"`{late.name}`", three(late.bytes / 1e6), late.why, NOT_MEASURED) for late in LATE]
    lines += ["", "### Products", "", "cuBLASLt's, whose machine code is not ours: the roofline of tensor cores and "
              "memory alone, bfloat16.", "",
              table("product", "GB", "GFLOP", *(f"{chip.name}, ms" for chip in CHIPS), "measured")]
    for name, rows, columns, depth in PRODUCTS:
        moved, flop = 2.0 * (rows * depth + depth * columns + rows * columns), 2.0 * rows * columns * depth
        times = [max((flop / chip.peak(), "tensor"), (moved / chip.memory, "memory")) for chip in CHIPS]
        lines.append(row(f"{name}, {rows:,} x {depth:,} x {columns:,}", three(moved / 1e9), three(flop / 1e9),
                         *(time(*each) for each in times), NOT_MEASURED))
    return [*lines, ""]


def details(ways: dict[tuple[str, str], list[str]]) -> list[str]:
    """Of the kernels of a layer's pass: instructions by what executes them, and the clocks of each resource."""
    hot = [kernel for kernel in KERNELS if kernel.hot]
    lines = ["### Instructions of a pass's kernels", "", "Of a warp and unit of work:", "",
             table("kernel, target", "unit of work", "all", *UNITS, "other")]
    for kernel in hot:
        for target in kernel.targets:
            way = ways[kernel.name, target]
            counts = Counter(UNIT_OF.get(opcode.split(".")[0], "other") for opcode in way)
            lines.append(row(f"`{kernel.name}`, {target}", kernel.unit, len(way),
                             *(counts[unit] for unit in [*UNITS, "other"])))
    lines += ["", "### Clocks of a pass's kernels", "",
              "Of a multiprocessor and unit of work, and the next bound in percent of the first:"]
    for chip in CHIPS:
        lines += ["", f"{chip.name}:", "",
                  table("kernel", *chip.rates, "cache", "memory", "bound by", "ms", "next", "of tensor peak")]
        for kernel in hot:
            if chip.target not in kernel.targets:
                continue
            clocks = clocks_of(kernel, ways[kernel.name, chip.target], chip)
            bound, second = sorted(clocks, key=clocks.get, reverse=True)[:2]
            seconds = seconds_of(kernel, clocks[bound], chip)
            share = f"{100 * kernel.flop / seconds / chip.peak():.0f} %" if clocks["tensor"] else ""
            lines.append(row(f"`{kernel.name}`", *(f"{value:.0f}" for value in clocks.values()), bound,
                             f"{1e3 * seconds:.2f}", f"{second}, {100 * clocks[second] / clocks[bound]:.0f} %",
                             share))
    return lines


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    page = arguments.add_mutually_exclusive_group()
    page.add_argument("--check", type=Path, metavar="PAGE")
    page.add_argument("--write", type=Path, metavar="PAGE")
    arguments.add_argument("folder", type=Path)
    given = arguments.parse_args()

    wanted = {target for kernel in KERNELS for target in kernel.targets}
    paths = [path for path in given.folder.glob("*.sass") if path.name.rsplit(".", 2)[1] in wanted]
    paths.sort(key=lambda path: -path.stat().st_size)
    names, ways, wrong = set(), {}, []
    # Forked: a process that began anew would not find what this folder's files import.
    with ProcessPoolExecutor(mp_context=get_context("fork")) as pool:
        for found, more, faults in pool.map(ways_of, paths):
            names |= set(found)
            ways |= more
            wrong += faults
    wrong += [f"{kernel.name} for {target}: {given.folder} has no code of it" for kernel in KERNELS
              for target in kernel.targets if (kernel.name, target) not in ways]
    wrong += [f"{late.name}: {given.folder} has no code of it" for late in LATE if late.name not in names]
    wrong += without_row(names)
    if wrong:
        sys.exit("\n".join(wrong))

    tables = "\n".join([*summary(ways), *details(ways)])
    file = given.check or given.write
    if not file:
        print(tables)
        return
    text = file.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"{file}: has not once \"{BEGIN}\" and \"{END}\", between which the tables go")
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    new = f"\n\n{tables}\n\n"
    if given.write:
        file.write_text(before + BEGIN + new + END + after)
    elif old != new:
        changes = unified_diff(old.splitlines(), new.splitlines(), f"{file}", "the machine code", n=0, lineterm="")
        sys.exit("\n".join([*changes, f"{file}: tables are not those of the machine code; look at them, and at what "
                            "the page says of them, after .ci/kernels --write"]))
    else:
        print(f"{file}: tables are those of the machine code")


if __name__ == "__main__":
    main()
