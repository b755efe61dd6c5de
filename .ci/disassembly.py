"""Machine code of compiled kernels as cuobjdump and nvdisasm show it: instructions, and where they lead."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Za-z0-9_.]*)([^;]*);")
LABEL = re.compile(r"^(\.L_x_\d+):")
TABLE = re.compile(r'BRANCH_TARGETS ([^"]*)"')
TARGET = re.compile(r"`\((\.L_x_\d+)\)")
# What ends a path for certain if it has no predicate.
ENDS = {"BRA", "EXIT", "RET", "BRX", "JMP"}


def images(cuobjdump, nvdisasm, binary):
    """Target and disassembly of each image in a fatbin."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [Path(cuobjdump).resolve(), "--extract-elf", "all", Path(binary).resolve()],
            cwd=folder, check=True, stdout=subprocess.DEVNULL,
        )
        found = sorted(Path(folder).glob("*.cubin"))
        if not found:
            sys.exit(f"{binary}: no machine code")
        for image in found:
            text = subprocess.run([nvdisasm, "-c", image], check=True, capture_output=True, text=True).stdout
            yield image.name.split(".")[-2], text


def kernels(text):
    """Lines of each function of a disassembly, by its name."""
    found, lines = {}, None
    for line in text.splitlines():
        if line.startswith(".text.") and line.endswith(":"):
            lines = found.setdefault(line[len(".text.") : -1], [])
        elif line.lstrip().startswith(".section"):
            lines = None
        elif lines is not None:
            lines.append(line)
    return found


def parse(lines):
    """Instructions as (opcode, whether it has a predicate, labels that it may go to), and where labels lie."""
    code, labels = [], {}
    for line in lines:
        if label := LABEL.match(line):
            labels[label[1]] = len(code)
        elif found := INSTRUCTION.match(line):
            target, table = TARGET.search(found[3]), TABLE.search(found[3])
            # Far branches are calls of a label.
            branches = target and found[2].split(".")[0] in ("BRA", "CALL")
            # Some branches have their condition among the operands.
            alone = found[3].strip().startswith("`")
            maybe = "@" in line.split(found[2])[0] or bool(branches and not alone)
            # Padding that is never executed.
            opcode = "NOP" if "@!PT " in line else found[2]
            ways = [target[1]] if branches else table[1].split(",") if table else []
            code.append((opcode, maybe, ways))
    return code, labels


def next_of(code, labels, at):
    """Instructions that may follow one."""
    opcode, predicated, targets = code[at]
    ways = [labels[target] for target in targets]
    if at + 1 < len(code) and (predicated or opcode.split(".")[0] not in ENDS):
        ways.append(at + 1)
    return [way for way in ways if way < len(code)]


def in_loops(code, labels):
    """Whether each instruction can be reached from itself: strongly connected parts of the flow."""
    count = len(code)
    loops, number, low = [False] * count, [None] * count, [0] * count
    on_path, path, clock = [False] * count, [], 0
    for root in range(count):
        if number[root] is not None:
            continue
        work = [(root, iter(next_of(code, labels, root)))]
        number[root] = low[root] = clock
        clock += 1
        path.append(root)
        on_path[root] = True
        while work:
            at, ways = work[-1]
            for way in ways:
                if number[way] is None:
                    number[way] = low[way] = clock
                    clock += 1
                    path.append(way)
                    on_path[way] = True
                    work.append((way, iter(next_of(code, labels, way))))
                    break
                if on_path[way]:
                    low[at] = min(low[at], number[way])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[at])
                if low[at] == number[at]:
                    part = []
                    while True:
                        member = path.pop()
                        on_path[member] = False
                        part.append(member)
                        if member == at:
                            break
                    around = len(part) > 1 or at in next_of(code, labels, at)
                    for member in part:
                        loops[member] = around
    return loops
