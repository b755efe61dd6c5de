"""Bounds of the hot CUDA kernels, from their machine code and the chips' published rates.

    kernel_bounds.py --cuobjdump FILE --nvdisasm FILE FATBIN...

Prints the tables of docs/cuda-bounds.md. Of each kernel it takes the shortest way round its loop, or through
it, that executes exactly what a unit of work needs, so that branches of rare cases are left out, counts
instructions by what executes them, and holds the clocks of a multiprocessor that each needs beside memory's.
"""

import argparse
import sys
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / ".ci"))
from disassembly import images, in_loops, kernels, next_of, parse  # noqa: E402

Code = list[tuple[str, bool, list[str]]]

# What executes an instruction, by its first word. What is not named only takes an issue slot: branches, barriers,
# moves, predicates, the uniform datapath, copies that the memory's clocks count.
UNITS = {
    "float32": "FFMA FADD FMUL",
    "integer": "IADD IADD3 LOP3 ISETP FSETP FMNMX IMNMX VIMNMX SHF LEA SEL FSEL PRMT IABS POPC VIADD SGXT BREV FLO",
    "multiply": "IMAD",
    "float64": "DADD DFMA DMUL DSETP",
    "special": "MUFU F2F F2FP F2I I2F I2FP FRND",
    "shuffle": "SHFL",
    "tensor": "HMMA HGMMA",
    "shared": "LDS STS LDSM STSM ATOMS LDGSTS",
}
UNIT_OF = {word: unit for unit, words in UNITS.items() for word in words.split()}


@dataclass(frozen=True)
class Chip:
    """Rates of a multiprocessor: lanes a clock, but tensor in FLOP a clock and shared in bytes."""

    name: str
    target: str
    processors: int
    hertz: float  # at which the published FLOP/s of the tensor cores are reached
    memory: float  # bytes/s
    cache: int  # bytes a clock that the second-level cache gives all multiprocessors
    rates: dict[str, int]

    def clocks(self, unit: str, amount: float) -> float:
        return amount / self.rates[unit]


A100 = dict(issue=128, float32=64, integer=64, multiply=64, float64=32, special=16, shuffle=32, tensor=2048, shared=128)
H100 = A100 | dict(float32=128, float64=64, tensor=4096)
CHIPS = (
    Chip("A100 SXM 80 GB", "sm_80", 108, 1.41e9, 2.039e12, 5120, A100),
    Chip("H100 SXM", "sm_90a", 132, 1.83e9, 3.35e12, 5120, H100),
    Chip("H200 SXM", "sm_90a", 132, 1.83e9, 4.8e12, 5120, H100),
)


@dataclass(frozen=True)
class Kernel:
    """A kernel and its work at the shape of the page."""

    name: str
    needs: dict[str, int]  # what a unit of work executes as often as this, by the beginning of its opcode
    unit: str
    units: float
    warps: int  # that execute a unit together
    bytes: float  # to and from memory, of all units
    flop: float = 0.0  # that are wanted, of all units
    again: float = 0.0  # bytes of a unit from the second-level cache, where that is more than from memory
    tiles: float = 0.0  # bytes of a unit that tensor copies and warpgroup products move through shared memory
    targets: tuple[str, ...] = ("sm_80", "sm_90a")
    looped: bool = True  # the unit is once round a loop, else once through the kernel


# Llama-2-7B: 8 sequences of 4,096 tokens, 32 heads of 128, 4,096 wide, 11,008 inside the MLP.
SEQUENCES, LENGTH, HEADS, HEAD, WIDTH, INNER, VOCABULARY = 8, 4096, 32, 128, 4096, 11008, 32000
TOKENS = SEQUENCES * LENGTH
TENSOR = 2.0 * TOKENS * WIDTH  # bytes of a tensor in 16 bits
BLOCKS = LENGTH // 128  # of 128 queries; block i sees i + 1 times 128 keys
PAIRS = SEQUENCES * HEADS * BLOCKS * (BLOCKS + 1) / 2  # of 128 queries and 128 keys
ATTENTION = dict(bytes=4 * TENSOR, flop=4.0 * HEAD * SEQUENCES * HEADS * LENGTH * (LENGTH + 1) / 2)

KERNELS = (
    # 128 queries of a block share keys and values: a quarter of them a warp, half of them a warpgroup.
    Kernel("attention_128_bf16", {"HMMA": 128, "LDGSTS": 8}, "32 queries x 32 keys", PAIRS * 16, 1, **ATTENTION,
           again=32 * 2 * 2 * HEAD / 4),
    Kernel("attention_hopper_128_bf16", {"HGMMA": 16}, "64 queries x 128 keys", PAIRS * 2, 4, **ATTENTION,
           again=128 * 2 * 2 * HEAD / 2, tiles=128 * 2 * 2 * HEAD / 2 + (64 + 128 + 128) * 2 * HEAD,
           targets=("sm_90a",)),
    Kernel("norm_block_bf16_bf16", {"LDG.E.128": 4, "STG.E.128": 2, "SHFL": 10, "MUFU.RSQ": 1},
           "256 values, with a sum", TOKENS * WIDTH / 256, 1, 4 * TENSOR, looped=False),
    Kernel("split_rotated_bf16", {"LDG.E.128": 6, "STG.E.128": 2}, "512 values, rotated", 3 * TOKENS * WIDTH / 512, 1,
           6 * TENSOR),
    Kernel("gate_halves_bf16", {"LDG.E.128": 2, "MUFU.EX2": 8, "STG.E.128": 1}, "256 values", TOKENS * INNER / 256, 1,
           6.0 * TOKENS * INNER),
    Kernel("add_bf16", {"LDG.E.128": 2, "STG.E.128": 1}, "256 values", TOKENS * WIDTH / 256, 1, 3 * TENSOR),
    Kernel("statistics_read_bf16", {"LDG.E.128": 1, "ATOMS": 8}, "256 values", TOKENS * WIDTH / 256, 1, TENSOR),
    Kernel("statistics_read_added_bf16", {"LDG.E.128": 2, "ATOMS": 8, "STG.E.128": 1}, "256 values",
           TOKENS * WIDTH / 256, 1, 3 * TENSOR),
    Kernel("token_nll", {"LDG.E": 1, "MUFU.EX2": 1}, "32 logits", TOKENS * VOCABULARY / 32, 1,
           4.0 * TOKENS * VOCABULARY),
)


def shortest(code: Code, labels: dict[str, int], kernel: Kernel) -> list[str]:
    """Opcodes of the shortest way round a loop, or from start to end, that executes exactly what a unit needs."""
    loops = in_loops(code, labels)
    words, full = list(kernel.needs), tuple(kernel.needs.values())

    def seen(counts: tuple[int, ...], at: int) -> tuple[int, ...]:
        return tuple(count + code[at][0].startswith(word) for count, word in zip(counts, words, strict=True))

    def way(start: int, ends: set[int]) -> list[str] | None:
        first = (start, seen((0,) * len(full), start))
        came, queue = {first: None}, deque([first])
        while queue:
            state = queue.popleft()
            at, counts = state
            if counts == full and ends & ({len(code)} if code[at][0] == "EXIT" else set(next_of(code, labels, at))):
                path = []
                while state:
                    path.append(code[state[0]][0])
                    state = came[state]
                return path
            steps = next_of(code, labels, at)
            if code[at][0].startswith("CALL") and not code[at][1]:
                # A far branch; without a label of its own it is the slow way of a division or a root.
                steps = [labels[label] for label in code[at][2]]
            for step in steps:
                # Where a way round has been once: only what is in a loop can come back.
                if (ends == {len(code)} or loops[step]) and step != start:
                    after = (step, seen(counts, step))
                    if after not in came and all(map(int.__le__, after[1], full)):
                        came[after] = state
                        queue.append(after)
        return None

    if kernel.looped:
        hot = [at for at, (opcode, _, _) in enumerate(code) if loops[at] and opcode.startswith(words[0])]
        found = [way(at, {at}) for at in hot]
    else:
        found = [way(0, {len(code)})]
    ways = [path for path in found if path]
    if not ways:
        raise SystemExit(f"{kernel.name}: no way executes {kernel.needs}: the kernel has changed, and so must KERNELS")
    return min(ways, key=len)


def product_flop(opcode: str) -> int:
    """Floating-point operations of a tensor core instruction: of a warp, or a warp's quarter of a warpgroup's."""
    shape = opcode.split(".")[1]
    if opcode.startswith("HGMMA"):
        rows, columns, depth = map(int, shape.split("x"))
        return 2 * rows * columns * depth // 4
    return {"16816": 2 * 16 * 8 * 16, "1688": 2 * 16 * 8 * 8}[shape]


def shared_bytes(opcode: str) -> int:
    """What 32 lanes move: LDSM x4 and .128 have 16 bytes a lane; LDGSTS writes them."""
    parts = opcode.split(".")
    if parts[0] in ("LDSM", "STSM"):
        return 128 * int(parts[-1] if parts[-1].isdigit() else 1)
    return 32 * next((int(part) // 8 for part in parts if part in ("64", "128")), 4)


def amounts(path: list[str]) -> Counter:
    """What a warp asks of each unit: lanes, FLOP or bytes."""
    total = Counter(issue=32 * len(path))
    for opcode in path:
        unit = UNIT_OF.get(opcode.split(".")[0])
        if unit == "tensor":
            total[unit] += product_flop(opcode)
        elif unit == "shared":
            total[unit] += shared_bytes(opcode)
        elif unit:
            total[unit] += 32
    return total


def mix(path: list[str]) -> list[int]:
    """Instructions by unit, and the others."""
    counts = Counter(UNIT_OF.get(opcode.split(".")[0], "other") for opcode in path)
    return [counts[unit] for unit in [*UNITS, "other"]]


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def table(*head: str) -> str:
    return row(*head) + "\n|---|" + "---:|" * (len(head) - 1)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--cuobjdump", required=True)
    arguments.add_argument("--nvdisasm", required=True)
    arguments.add_argument("fatbins", nargs="+", type=Path)
    given = arguments.parse_args()

    wanted = {kernel.name: kernel for kernel in KERNELS}
    paths: dict[tuple[str, str], list[str]] = {}
    for fatbin in given.fatbins:
        for target, text in images(given.cuobjdump, given.nvdisasm, fatbin):
            for name, lines in kernels(text).items():
                if name in wanted and target in wanted[name].targets:
                    paths[name, target] = shortest(*parse(lines), wanted[name])

    missing = [f"{k.name} for {target}" for k in KERNELS for target in k.targets if (k.name, target) not in paths]
    if missing:
        raise SystemExit(f"the fatbins lack {', '.join(missing)}: compile its file, too")
    print("Instructions of a warp and unit of work:\n")
    print(table("kernel, target", "unit of work", "all", *UNITS, "other"))
    for kernel in KERNELS:
        for target in kernel.targets:
            path = paths[kernel.name, target]
            print(row(f"`{kernel.name}`, {target}", kernel.unit, len(path), *mix(path)))

    for chip in CHIPS:
        print(f"\n{chip.name}: clocks of a multiprocessor and unit of work, and the time of all units:\n")
        print(table("kernel", *chip.rates, "cache", "memory", "bound by", "ms", "next", "of tensor peak"))
        for kernel in KERNELS:
            if chip.target not in kernel.targets:
                continue
            asked = amounts(paths[kernel.name, chip.target])
            clocks = {unit: kernel.warps * chip.clocks(unit, asked[unit]) for unit in chip.rates}
            each = chip.hertz * chip.processors / kernel.units
            clocks["shared"] += chip.clocks("shared", kernel.tiles)
            clocks["cache"] = (kernel.again or kernel.bytes / kernel.units) * chip.processors / chip.cache
            clocks["memory"] = kernel.bytes / chip.memory * each
            bound, second = sorted(clocks, key=clocks.get, reverse=True)[:2]
            seconds = clocks[bound] / each
            peak = chip.rates["tensor"] * chip.processors * chip.hertz
            share = f"{100 * kernel.flop / seconds / peak:.0f} %" if kernel.flop else ""
            print(row(f"`{kernel.name}`", *(f"{value:.0f}" for value in clocks.values()), bound,
                      f"{1e3 * seconds:.2f}", f"{second}, {100 * clocks[second] / clocks[bound]:.0f} %", share))


main()
