"""Published rates of three chips, and what executes an instruction."""

from collections import Counter
from dataclasses import dataclass

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

    def peak(self) -> float:
        return self.rates["tensor"] * self.processors * self.hertz


A100 = dict(issue=128, float32=64, integer=64, multiply=64, float64=32, special=16, shuffle=32, tensor=2048, shared=128)
H100 = A100 | dict(float32=128, float64=64, tensor=4096)
CHIPS = (
    Chip("A100", "sm_80", 108, 1.41e9, 2.039e12, 5120, A100),
    Chip("H100", "sm_90a", 132, 1.83e9, 3.35e12, 5120, H100),
    Chip("H200", "sm_90a", 132, 1.83e9, 4.8e12, 5120, H100),
)


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


def amounts(path: list[str], shared_words: bool) -> Counter:
    """What a warp asks of each unit: lanes, FLOP or bytes. Where lanes share the words that they load from shared
    memory, a load is one clock of it."""
    total = Counter(issue=32 * len(path))
    for opcode in path:
        unit = UNIT_OF.get(opcode.split(".")[0])
        if unit == "tensor":
            total[unit] += product_flop(opcode)
        elif unit == "shared":
            total[unit] += 128 if shared_words and opcode.startswith("LDS.") else shared_bytes(opcode)
        elif unit:
            total[unit] += 32
    return total
