"""Which work each kernel has at the shape of the page, and what a unit of it executes."""

import re
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from path import Needs

CONSTANTS = Path(__file__).resolve().parents[2] / "kernels/constants.cuh"
BOTH = ("sm_80", "sm_90a")

# Llama-2-7B: 8 sequences of 4,096 tokens, 32 heads of 128, 4,096 wide, 11,008 inside the MLP.
SEQUENCES, LENGTH, HEADS, HEAD, WIDTH, INNER, VOCABULARY = 8, 4096, 32, 128, 4096, 11008, 32000
TOKENS = SEQUENCES * LENGTH
VALUES = TOKENS * WIDTH
TENSOR = 2.0 * VALUES  # bytes of a tensor in 16 bits
GATED = TOKENS * INNER
WEIGHT = WIDTH * INNER  # values of a matrix
CAUSAL = LENGTH * (LENGTH + 1) / 2  # queries and keys of a head that see each other


@dataclass(frozen=True)
class Kernel:
    """A kernel and its work."""

    name: str
    needs: Needs | tuple[Needs, ...]  # of a unit of work; where it is in several loops, of each
    unit: str
    units: float
    bytes: float  # to and from memory, of all units
    flop: float = 0.0  # that the formula has, of all units
    warps: int = 1  # that execute a unit together
    again: float = 0.0  # bytes of a unit from the second-level cache, where that is more than from memory
    tiles: float = 0.0  # bytes of a unit that tensor copies and warpgroup products move through shared memory
    shared_words: bool = False  # lanes load the same words of shared memory: 8 vectors of 16 bytes at most a load
    targets: tuple[str, ...] = BOTH
    looped: bool = True  # the unit is once round a loop, else once through the kernel
    like: str = ""  # a pattern of the names of those whose row this is, too; of the other types in any case
    hot: bool = False  # has a row in the tables of instructions and clocks

    def loops(self) -> tuple[Needs, ...]:
        return self.needs if isinstance(self.needs, tuple) else (self.needs,)


@dataclass(frozen=True)
class Late:
    """A kernel whose launch and whose waits are longer than what it executes: the bytes say nothing of its time."""

    name: str
    bytes: float
    why: str


@dataclass(frozen=True)
class Group:
    title: str
    note: str
    kernels: list = field(default_factory=list)


def table(name: str) -> list[list[int]]:
    """Rows of a table of constants.cuh."""
    (line,) = re.findall(rf"^#define {name}\(.*$", CONSTANTS.read_text().replace("\\\n", " "), re.MULTILINE)
    rows = re.findall(r"ROW\(type, name, ([\d, ]+)\)", line)
    return [[int(number) for number in row.split(",")] for row in rows]


def tiles(queries: int, keys: int) -> int:
    """Pairs of a block of queries and a tile of keys of a head, one of which at least is seen."""
    return sum(ceil(min(last, LENGTH) / keys) for last in range(queries, LENGTH + queries, queries))


ALL_HEADS = SEQUENCES * HEADS


def piece(copies: int, exponentials: int, divisions: int, **products: int) -> Needs:
    """A piece of heads whose rows are copied in vectors, without a cap, maps of each head or ends of a sequence."""
    return {"BAR.SYNC": 1, "LDGSTS": copies, "MUFU.EX2": exponentials, "MUFU.RCP": divisions, "STS": 0, "STG": 0,
            **{word.replace("_", "."): count for word, count in products.items()}}


def attention() -> Group:
    group = Group("Attention", "32 heads of the row's width, as many of keys, causal. Of maps one sequence, the mean "
                  "of all heads; what keys receive, and one part of the output, of all sequences. The parts without "
                  "wgmma are made both at once.")
    forward = [("", row[:5]) for row in table("FORWARD_KERNELS")]
    forward += [("roomy_", row) for row in table("FORWARD_ROOMY_KERNELS")]
    for kind, (width, value, warps, rows, keys) in forward:
        if width in (32, 80, 512):
            continue
        group.kernels.append(Kernel(
            f"attention_{width}_{kind}bf16",
            {"LDGSTS": keys * (width + value) * 2 // (512 * warps),
             "HMMA": rows // 16 * (keys // 8 * (width // 16) + value // 8 * (keys // 16))},
            f"{rows} queries x {keys} keys", ALL_HEADS * tiles(warps * rows, keys) * warps,
            2.0 * (width + value) * 2 * TOKENS * HEADS, 2.0 * (width + value) * ALL_HEADS * CAUSAL,
            again=keys * (width + value) * 2 / warps, hot=width == HEAD,
            like=r"attention_(32|80|512|512_roomy)_(bf16|f16)" if width == 64 else ""))
    for width, value, keys, _ in table("HOPPER_KERNELS"):
        both = keys * (width + value) * 2
        product = dict(
            needs={"HGMMA": width // 16 + keys // 16}, unit=f"64 queries x {keys} keys",
            units=ALL_HEADS * tiles(128, keys) * 2, warps=4, again=both / 2,
            tiles=both / 2 + 2 * (64 + keys) * width + 2 * keys * value, targets=("sm_90a",))
        flop = 2.0 * (width + value) * ALL_HEADS * CAUSAL
        moved = 2.0 * (width + value) * 2 * TOKENS * HEADS
        group.kernels.append(Kernel(f"attention_hopper_{width}_bf16", bytes=moved, flop=flop, hot=width == HEAD,
                                    **product))
        group.kernels.append(Kernel(f"attention_subset_hopper_{width}_bf16", bytes=moved, flop=flop, **product))
    for width, _ in table("HOPPER_SINK_KERNELS"):
        group.kernels.append(Kernel(
            f"attention_sink_hopper_{width}_bf16", {"HGMMA": width // 16, "MUFU.EX2": 64}, "64 keys x 128 queries",
            ALL_HEADS * tiles(128, 128) * 2, 2.0 * 2 * width * TOKENS * HEADS, 2.0 * width * ALL_HEADS * CAUSAL,
            warps=4, again=128 * width, tiles=128 * width + 2 * (64 + 128) * width, shared_words=True,
            targets=("sm_90a",)))
    for width, keys, _ in table("HOPPER_MAP_KERNELS"):
        group.kernels.append(Kernel(
            f"attention_maps_hopper_{width}_bf16", {"HGMMA": width // 16, "MUFU.EX2": keys // 2},
            f"64 queries x {keys} keys", HEADS * tiles(128, keys) * 2,
            2.0 * 2 * width * LENGTH * HEADS + 8.0 * LENGTH * LENGTH, 2.0 * width * HEADS * CAUSAL,
            warps=4, again=(128 + keys) * width, tiles=(128 + keys) * width + 2 * (64 + keys) * width,
            targets=("sm_90a",)))
    group.kernels.extend([
        Kernel("attention_128_f32", {"BAR.SYNC": 2, "LDGSTS": 16, "LDS": HEAD // 8 * 20 + 4 * HEAD, "MUFU.RCP": 0,
                                     "LDG.E": 0, "STG": 0}, "16 queries x 32 keys", ALL_HEADS * tiles(64, 32) * 4,
               8 * TENSOR, 4.0 * HEAD * ALL_HEADS * CAUSAL, again=32 * 2 * 4 * HEAD / 4, like=r"attention_\d+_f32",
               shared_words=True),
        # Heads come in pieces of 128 bytes, the last with the exponentials. Of what keys receive in 16 bits that one
        # counts without its 12 copies, some 1 % of the instructions: a search with them takes minutes.
        Kernel("attention_sink_bf16", (piece(12, 0, 0, HMMA=64), piece(0, 64, 0, HMMA=64)), "32 keys x 64 queries",
               ALL_HEADS * tiles(64, 128) * 4, 2 * TENSOR, 2.0 * HEAD * ALL_HEADS * CAUSAL,
               again=(64 + 128) * 2 * HEAD / 4),
        Kernel("attention_sink_f32", (*3 * [piece(8, 0, 0, LDS_128=144)], piece(8, 32, 0, LDS_128=144)), "16 keys x 64 queries",
               ALL_HEADS * tiles(64, 64) * 4, 4 * TENSOR, 2.0 * HEAD * ALL_HEADS * CAUSAL,
               again=(64 + 64) * 4 * HEAD / 4, shared_words=True),
        Kernel("attention_maps_bf16", (piece(8, 0, 1, HMMA=32), piece(8, 32, 1, HMMA=32)), "16 queries x 64 keys",
               HEADS * tiles(64, 64) * 4, 2 * TENSOR / SEQUENCES + 8.0 * LENGTH * LENGTH, 2.0 * HEAD * HEADS * CAUSAL,
               again=128 * 2 * HEAD / 4),
        Kernel("attention_maps_f32", (*3 * [piece(8, 0, 1, LDS_128=144)], piece(8, 32, 1, LDS_128=144)),
               "16 queries x 64 keys", HEADS * tiles(64, 64) * 4, 4 * TENSOR / SEQUENCES + 8.0 * LENGTH * LENGTH,
               2.0 * HEAD * HEADS * CAUSAL, again=128 * 4 * HEAD / 4,
               shared_words=True),
        # 16 loads of a key, of which 12 are beyond its 128 values and do nothing, and 4 of a value.
        Kernel("attention_subset_bf16", {"SHFL": 5, "LDG.E.U16": 20}, "1 query x 1 key", ALL_HEADS * CAUSAL,
               5 * TENSOR, 4.0 * HEAD * ALL_HEADS * CAUSAL, like="attention_subset_f32", again=4.0 * HEAD / 64),
    ])
    return group


def streams(name: str, loads: int, stores: int, values: float, moved: float, flop: float = 0.0, **other) -> Kernel:
    """A loop over vectors of 16 bytes of 16-bit values."""
    needs = {"LDG.E.128": loads} | other.pop("needs", {}) | {"STG.E.128": stores}
    return Kernel(name, needs, "256 values", values / 256, moved, flop * values, **other)


def singles(name: str, needs: Needs | tuple[Needs, ...], values: float, moved: float, flop: float = 0.0,
            **other) -> Kernel:
    """A loop over single values."""
    return Kernel(name, needs, "32 values", values / 32, moved, flop * values, **other)


COPY = {"LDG.E.U16": 1, "STG.E.U16": 1}


def layer() -> Group:
    return Group("Between the products of a layer", "The norm adds what the layer before made. Single values of a row "
                 "are what kernels take that models in the common shapes do not start.", [
        Kernel("norm_block_bf16_bf16", {"LDG.E.128": 4, "STG.E.128": 2, "SHFL": 10, "MUFU.RSQ": 1},
               "256 values, with a sum", VALUES / 256, 4 * TENSOR, 5.0 * VALUES, looped=False, hot=True,
               like=r"norm_block_\w+"),
        Kernel("norm_warp_bf16_bf16", {"LDG.E.128": 3, "STG.E.128": 1, "SHFL": 5, "MUFU.RSQ": 1}, "a head of 128",
               VALUES / HEAD, 2 * TENSOR, 4.0 * VALUES, looped=False, like=r"norm_warp_\w+"),
        Kernel("split_rotated_bf16", {"LDG.E.128": 6, "STG.E.128": 2}, "512 values, rotated", 3 * VALUES / 512,
               6 * TENSOR, 2 * 3.0 * VALUES, hot=True),
        Kernel("rotate_bf16", {"LDG.E.128": 2, "STG.E.128": 2}, "512 values", 2 * VALUES / 512, 4 * TENSOR,
               2 * 3.0 * VALUES),
        Kernel("gate_halves_bf16", {"LDG.E.128": 2, "MUFU.EX2": 8, "STG.E.128": 1}, "256 values", GATED / 256,
               6.0 * GATED, 5.0 * GATED, hot=True),
        streams("gate_bf16", 2, 1, GATED, 6.0 * GATED, 5.0, needs={"MUFU.EX2": 8}),
        streams("activate_bf16", 1, 1, GATED, 4.0 * GATED, 4.0, needs={"MUFU.EX2": 8}),
        streams("xielu_bf16", 1, 1, GATED, 4.0 * GATED, 6.0),
        streams("add_bf16", 2, 1, VALUES, 3 * TENSOR, 1.0, hot=True),
        streams("multiply_bf16", 2, 1, VALUES, 3 * TENSOR, 1.0),
        streams("multiply_heads_bf16", 1, 1, VALUES, 2 * TENSOR, 1.0, needs={"LDG.E.U16": 8}),
        streams("affine_bf16", 1, 1, VALUES, 2 * TENSOR, 2.0),
        streams("clamp_bf16", 1, 1, VALUES, 2 * TENSOR, 2.0),
        streams("cast_f32_bf16", 2, 1, VALUES, 3 * TENSOR, like=r"cast_f32_f16"),
        streams("cast_bf16_f32", 1, 2, VALUES, 3 * TENSOR, like=r"cast_f16_f32"),
        streams("cast_bf16_f16", 1, 1, VALUES, 2 * TENSOR, like=r"cast_f16_bf16"),
        singles("embed_bf16_bf16", COPY, VALUES, TENSOR + 2.0 * VOCABULARY * WIDTH, 1.0, like=r"embed_\w+"),
        Kernel("token_nll", {"LDG.E": 1, "MUFU.EX2": 1}, "32 logits", TOKENS * VOCABULARY / 32,
               4.0 * TOKENS * VOCABULARY, 3.0 * TOKENS * VOCABULARY, hot=True),
        singles("match_magnitude_bf16", ({"LDG.E.U16": 2}, COPY), VALUES, 3 * TENSOR, 5.0),
        singles("keep_largest_bf16", ({"LDG.E.U16": 1, "FADD": 1}, {"LDG.E.U16": 1, "FFMA": 1}, COPY), VALUES,
                2 * TENSOR, 6.0),
        singles("multiply_columns_bf16", {"LDG.E": 2, "STG.E.U16": 1}, VALUES, 2 * TENSOR, 1.0),
        singles("gather_rows_bf16", COPY, VALUES, 2 * TENSOR),
        singles("gather_columns_bf16", COPY, VALUES, 2 * TENSOR),
        singles("scale_rows_bf16", COPY, VALUES, 2 * TENSOR, 1.0),
        singles("add_scaled_bf16", {"LDG.E.U16": 2, "STG.E.U16": 1}, VALUES, 3 * TENSOR, 2.0),
        singles("join_heads_bf16", COPY, VALUES, 2 * TENSOR),
    ])


def statistics() -> Group:
    return Group("Statistics, profiles and TVR", "Of a layer's output, all of it; TVR of a matrix of 4,096 x 11,008. "
                 "Values are spread over many bins, and none is listed.", [
        Kernel("statistics_read_bf16", {"LDG.E.128": 1, "ATOMS": 8}, "256 values", VALUES / 256, TENSOR, 1.0 * VALUES,
               hot=True),
        Kernel("statistics_read_added_bf16", {"LDG.E.128": 2, "ATOMS": 8, "STG.E.128": 1}, "256 values", VALUES / 256,
               3 * TENSOR, 2.0 * VALUES, hot=True),
        Kernel("statistics_read_f32", {"LDG.E.128": 1, "ATOMS": 4}, "128 values", VALUES / 128, 2 * TENSOR,
               1.0 * VALUES),
        Kernel("statistics_fine_f32", {"LDG.E.128": 1}, "128 values", VALUES / 128, 2 * TENSOR,
               like="statistics_fine_.*"),
        Kernel("profile_fine_bf16", {"LDG.E.128": 1, "LDS.128": 32}, "256 values, 16 ranks", VALUES / 256, TENSOR,
               like="profile_fine_.*", shared_words=True),
        Kernel("profile_errors_bf16", {"LDG.E.128": 1, "DADD": 2}, "256 values", VALUES / 256, TENSOR, 12.0 * VALUES),
        singles("profile_tokens_bf16",
                ({"LDG.E.U16": 1, "DADD": 3, "DMUL": 1, "DFMA": 2}, {"LDG.E.U16": 1, "DSETP": 1},
                 {"LDG.E.U16": 1, "DSETP": 1}), VALUES, TENSOR, 10.0),
        Kernel("inner_products_bf16", {"STG.E.64": 1, "LDG.E.U16": 8, "DFMA": 4, "SHFL": 10}, "a part of 128 values",
               VALUES / HEAD, 2 * TENSOR, 2.0 * VALUES),
        Kernel("moments_bf16", ({"LDG.E.U16": 16, "DADD": 16}, {"LDG.E.U16": 16, "DADD": 48}), "512 values",
               WEIGHT / 512, 2.0 * WEIGHT, 6.0 * WEIGHT),
        Kernel("rescale_bf16", {"LDG.E.128": 1, "STG.E.128": 1, "MUFU.RCP64H": 8}, "256 values", WEIGHT / 256,
               4.0 * WEIGHT, 4.0 * WEIGHT),
    ])


def packed() -> Group:
    def decode(name: str, needs: Needs, bits: float, flop: float, **other) -> Kernel:
        return singles(f"decode_{name}_bf16", {"STG.E.U16": 1} | needs, WEIGHT, (2 + bits / 8) * WEIGHT, flop, **other)

    return Group("Packed weights", "A matrix of 4,096 x 11,008 to bfloat16. Integers in four bits with bfloat16 scales "
                 "of 128 values, small floats as their formats have them.", [
        decode("int8", {"LDG.E": 3, "LDG.E.U16": 1}, 8, 1),
        decode("integer_rows", {"LDG.E": 3, "LDG.E.U16": 1}, 4.125, 1),
        decode("gptq", {"LDG.E": 5, "LDG.E.U16": 1}, 4.156, 2),
        decode("awq", {"LDG.E": 3, "LDG.E.U16": 1}, 4.156, 2),
        decode("e4m3", {"LDG.E.U8": 1, "LDG.E.U16": 1}, 8, 1, like="decode_e5m2_.*"),
        decode("mxfp4", {"LDG.E.U8": 2}, 4.25, 1),
        decode("nvfp4", {"LDG.E.U8": 2}, 4.5, 2),
        decode("table", {"LDG.E.U8": 1, "LDG.E": 3}, 4.5, 1),
        decode("random", {}, 0, 1),
        decode("ggml_q4_0", {"LDG.E.U16": 1, "LDG.E.U8": 1}, 4.5, 1, like=r"decode_ggml_(q[45]_[01]|iq4_nl|mxfp4)_.*"),
        decode("ggml_q8_0", {"LDG.E.U16": 1, "LDG.E.S8": 1}, 8.5, 1, like=r"decode_ggml_(f32|f16|bf16)_.*"),
        decode("ggml_q4_k", {"LDG.E.U16": 2, "LDG.E.U8": 4}, 4.5, 3, like=r"decode_ggml_(q[25]_k|iq4_xs)_.*"),
        decode("ggml_q6_k", {"LDG.E.U8": 2, "LDG.E.S8": 1, "LDG.E.U16": 1}, 6.5625, 2,
               like=r"decode_ggml_(q3_k|tq[12]_0)_.*"),
    ])


def mixers() -> Group:
    channels = TOKENS * 5120
    return Group("In the place of attention, experts, streams", "The delta rule: 32 heads of 128 x 128; Mamba: 5,120 "
                 "channels of 16 numbers; Mamba-2: 80 heads of 64 values, states of 128; convolutions of four taps "
                 "over 8,192 channels, SiLU. An indexer of 64 heads of 128, one sequence. Four streams. Entries of four "
                 "tokens. The recurrences' loop over tokens alone, with warps enough to fill the schedulers.", [
        Kernel("delta_rule_128_bf16", {"LDS.128": 8, "SHFL": 12}, "a token, 8 columns", TOKENS * HEADS * 16, 4 * TENSOR,
               7.0 * HEAD * VALUES, like=r"delta_rule_\d+_.*", shared_words=True),
        Kernel("delta_rule_channels_128_bf16", {"LDS.128": 12, "SHFL": 12}, "a token, 8 columns", TOKENS * HEADS * 16,
               5 * TENSOR, 7.0 * HEAD * VALUES, like=r"delta_rule_channels_\d+_.*", shared_words=True),
        Kernel("state_space_128_bf16", {"LDS.128": 8, "SHFL": 6}, "a token, 8 values", channels / 8, 4.0 * channels,
               5.0 * 128 * channels, like=r"state_space_\d+_.*", shared_words=True),
        Kernel("selective_scan_16_bf16", {"STS": 2, "MUFU.EX2": 72, "STG.E.U16": 8},
               "8 tokens, 16 channels", channels / 128, 6.0 * channels, 6.0 * 16 * channels,
               like=r"selective_scan_64_.*", shared_words=True),
        streams("convolve_bf16", 1, 1, 2 * VALUES, 4 * TENSOR, 12.0, needs={"MUFU.EX2": 8}),
        Kernel("choose_keys_bf16", {"LDG.E.U16": 32}, "16 products of 32 keys", 64 * HEAD / 16 * CAUSAL / 32,
               2.0 * LENGTH * (64 * HEAD + HEAD + 64), 2.0 * 64 * HEAD * CAUSAL),
        singles("gather_visitors_bf16", COPY, VALUES, 2 * TENSOR),
        singles("add_visitors_bf16", {"LDG.E.U16": 2, "STG.E.U16": 1}, VALUES, 3 * TENSOR, 2.0),
        singles("spread_bf16", {"LDG.E.U16": 1, "STG.E.U16": 4}, VALUES, 5 * TENSOR),
        singles("collapse_bf16", {"STG.E.U16": 1, "LDG.E.U16": 8}, VALUES, 5 * TENSOR, 8.0),
        singles("mix_streams_bf16", {"STG.E.U16": 1, "LDG.E.U16": 10}, 4 * VALUES, 9 * TENSOR, 10.0),
        singles("compress_bf16", {"STG.E.U16": 1, "LDG.E.U16": 12, "MUFU.EX2": 4}, VALUES / 4, 2.25 * TENSOR, 24.0),
        singles("gather_both_bf16", COPY, VALUES, 2 * TENSOR),
    ])


LATE = [
    Late("statistics_rank", 8.0 * 4 * 2**15, "a block a sequence, one pass over a histogram in the cache"),
    Late("statistics_top_bf16", 8.0 * 33 * 32 * 8, "a warp a sequence"),
    Late("statistics_collect_bf16", 8.0 * 8 * 1024, "some candidates; a sequence with more is read once more"),
    Late("profile_select", 16.0 * 8 * 4 * 2**15, "a block a rank, a histogram in the cache"),
    Late("profile_bins_bf16", 8.0 * 4 * (2**15 + 512), "a histogram in the cache; of float16 the tensor once more"),
    Late("route_bf16", TOKENS * (2.0 * 64 + 8 * 8), "64 experts, 8 of them: some shuffles and compares a round"),
    Late("route_visitors", 2.0 * 64 * 4 * 8 * TOKENS, "the choices, twice for each of 64 experts, from the cache"),
    Late("see_entries", 4.0 * (LENGTH + LENGTH // 4) * 160, "a bit a key, shifted together"),
    Late("stream_weights_bf16", 4.0 * 24 * TOKENS, "a thread a row, twenty rounds of divisions"),
    Late("overwrite_bf16", 13.0 * 1024, "a few values"),
    Late("values_at_bf16", 14.0 * 1024, "a few values"),
]

# cuBLASLt's: rows, columns of the result, and what is summed over.
PRODUCTS = [
    ("queries, keys, values", TOKENS, 3 * WIDTH, WIDTH),
    ("attention's output", TOKENS, WIDTH, WIDTH),
    ("gate and up", TOKENS, 2 * INNER, WIDTH),
    ("down", TOKENS, WIDTH, INNER),
    ("logits", TOKENS, VOCABULARY, WIDTH),
]
GROUPS = [attention(), layer(), statistics(), packed(), mixers()]
