// Numbers that both sides must know: the kernels, and the host code that launches them.
//
// build/constants.rs reads this file and hands the numbers to src/backend/cuda/constants.rs under the same
// names. It knows two forms: `#define NAME number`, and tables, whose rows are ROW(type, name, numbers).
#pragma once

// Activations (src/model/spec/mlp.rs), and the kinds of norms and of a router's scores.
#define ACTIVATION_SILU 0
#define ACTIVATION_SCALED_SILU 1
#define ACTIVATION_SIGMOID 2
#define ACTIVATION_GELU_ERF 3
#define ACTIVATION_GELU_TANH 4
#define ACTIVATION_RELU 5
#define ACTIVATION_RELU_SQUARED 6
#define ACTIVATION_SOFTPLUS 7
#define NORM_RMS 0
#define NORM_LAYER 1
#define NORM_TANH 2
#define SCORE_SOFTMAX 0
#define SCORE_SIGMOID 1
#define SCORE_SPARSE 2
#define SCORE_SQRT_SOFTPLUS 3

// Norms: the widest group that a warp normalises, warps of such a block, most threads of the other
// kind, values that a thread takes at a time.
#define NORM_WARP_WIDTH 512
#define NORM_WARPS 4
#define NORM_BLOCK_THREADS 1024
#define NORM_CHUNK 8

// Convolutions: rows of a tile, threads of a block.
#define CONVOLUTION_ROWS 64
#define CONVOLUTION_THREADS 128

// Experts: rows (warps) of a block that routes, entries that a warp keeps in order, threads of a
// block that lists visitors.
#define ROUTE_WARPS 4
#define ROUTE_MOST 32
#define VISITORS_THREADS 1024

// Residual streams: the most of a token, threads of a block that makes weights.
#define STREAMS_MOST 8
#define STREAMS_THREADS 64

// Statistics: threads of a block, entries that a warp keeps, static shared memory of statistics_read.
#define STATISTICS_THREADS 1024
#define STATISTICS_ROUND 32
#define STATISTICS_STATIC_BYTES 9216

// Profiles: threads of a block of profile_tokens, most ranks that are looked for at once, bins, and
// the exponent of the first bin's lower edge without its sign.
#define PROFILE_THREADS 256
#define PROFILE_SLOTS 16
#define PROFILE_BINS 512
#define PROFILE_LOWEST 32

// Packed weights (packed.cuh): parts and numbers that an encoding may have, the size of what kernels are
// told, and where its last member lies; the types of small numbers, whose zero points integers have, and
// the orders of rows in a GGUF file.
#define PACKED_PARTS 5
#define PACKED_NUMBERS 8
#define PACKED_BYTES 112
#define PACKED_FACTOR_OFFSET 104
#define NUMBER_FLOAT32 0
#define NUMBER_BFLOAT16 1
#define NUMBER_FLOAT16 2
#define NUMBER_E4M3 3
#define NUMBER_E8M0 4
#define NUMBER_INT8 5
#define ZEROS_MIDDLE 0
#define ZEROS_PACKED 1
#define ZEROS_INT8 2
#define ORDER_KEPT 0
#define ORDER_ROTARY 1
#define ORDER_PARTED 2

// Stored tensors: values whose moments a block takes, and its threads.
#define MOMENTS_CHUNK 65536
#define MOMENTS_THREADS 512

// Threads of a block for a row of logits.
#define TOKEN_NLL_THREADS 256

// Recurrences: columns of a head's state that a block takes, its threads, and the rows of a state that
// kernels exist for.
#define RECURRENCE_COLUMNS 32
#define RECURRENCE_THREADS 128
#define RECURRENCE_KERNELS(ROW, type, name) \
    ROW(type, name, 32)                     \
    ROW(type, name, 64)                     \
    ROW(type, name, 96)                     \
    ROW(type, name, 128)                    \
    ROW(type, name, 256)

// Selective scans: numbers of a channel's state that a lane keeps, threads of a block,
// and the longest states of its two kernels.
#define SCAN_NUMBERS 8
#define SCAN_THREADS 128
#define SCAN_SHORT 16
#define SCAN_LONG 64
// Threads of a block that chooses a query's keys.
#define KEY_CHOICE_THREADS 256

// Attention: spare bytes of a row in shared memory; the ring of the kernels that look again: bytes of a
// row, stages; their threads, and what a block of each works on.
#define SHARED_ROW_PADDING 16
#define STREAM_ROW_BYTES 128
#define STREAM_STAGES 3
#define CAPTURE_THREADS 128
#define MAP_TILE 64
#define SINK_QUERIES 64
#define SINK_KEYS_32 64
#define SINK_KEYS_16 128
#define SUBSET_QUERIES 64

// The widths of heads that forward kernels exist for: width of a key and of a value; in 16 bits warps,
// rows of a warp and keys of a tile; the same three in float32.
//
// 32 rows a warp read each key fragment for twice the work; beyond 128 values a head the output no
// longer fits the registers so, and eight warps take 16 rows each. Tiles are as long as registers (no
// spills) and the 99 KiB of shared memory of the smallest cards allow, but at most 64 keys, and shorter where that lets a
// second block onto a multiprocessor of capability 8.0 (82,944 bytes each). 192 with values of 128 is
// multi-head latent attention. In the widest row a block makes so many of a head's values at a time, and
// the grid's third axis has as many blocks as that takes: the output of 512 fits no registers.
#define FORWARD_KERNELS(ROW, type, name)              \
    ROW(type, name, 32, 32, 4, 32, 64, 4, 16, 32)     \
    ROW(type, name, 64, 64, 4, 32, 64, 4, 16, 32)     \
    ROW(type, name, 80, 80, 4, 32, 64, 4, 16, 32)     \
    ROW(type, name, 96, 96, 4, 32, 64, 4, 16, 32)     \
    ROW(type, name, 128, 128, 4, 32, 64, 4, 16, 32)   \
    ROW(type, name, 192, 128, 8, 16, 64, 4, 16, 16)   \
    ROW(type, name, 256, 256, 8, 16, 32, 4, 16, 16)   \
    ROW(type, name, 512, 256, 3, 16, 32, 2, 16, 8)

// The same for 16 bits alone, in the place of these where a block may have the shared memory that they take.
#define FORWARD_ROOMY_KERNELS(ROW, type, name) \
    ROW(type, name, 192, 128, 8, 32, 48)       \
    ROW(type, name, 256, 256, 8, 16, 64)       \
    ROW(type, name, 512, 256, 6, 16, 32)

// Attention on Hopper: warpgroups of a block that compute, beside one that copies, rows of each, threads; of
// each kernel the widths of a key and of a value, keys of a tile, stages of its ring. A head of another width
// takes the next one; one that none holds, those above. 64 rows are what a product of a warpgroup has. Tiles
// are as long as the 240 registers of a thread allow, which hold its part of scores, weights and output, and
// the stages are what 227 KiB have room for. HOPPER_PLACE numbers beside them say what a block works on.
#define HOPPER_CONSUMERS 2
#define HOPPER_ROWS 64
#define HOPPER_THREADS 384
#define HOPPER_PLACE 5
#define HOPPER_KERNELS(ROW, type, name) \
    ROW(type, name, 64, 64, 128, 4)     \
    ROW(type, name, 96, 96, 128, 3)     \
    ROW(type, name, 128, 128, 128, 2)   \
    ROW(type, name, 192, 128, 128, 2)   \
    ROW(type, name, 256, 256, 80, 2)

// What keys receive on Hopper: queries of a tile, whose log-sums a thread each of a warpgroup fetches; of each
// kernel the width of a head and the stages of its ring. Whatever holds a head of HOPPER_KERNELS has room for
// these.
#define HOPPER_SINK_QUERIES 128
#define HOPPER_SINK_KERNELS(ROW, type, name) \
    ROW(type, name, 64, 4)                   \
    ROW(type, name, 96, 4)                   \
    ROW(type, name, 128, 3)                  \
    ROW(type, name, 192, 3)                  \
    ROW(type, name, 256, 2)

// Maps on Hopper: of each kernel the width of a head, keys of a tile, stages of its two rings. A thread has its
// part of a tile three times in registers: scores, sums of probabilities and of logits.
#define HOPPER_MAP_KERNELS(ROW, type, name) \
    ROW(type, name, 64, 96, 4)              \
    ROW(type, name, 96, 96, 3)              \
    ROW(type, name, 128, 96, 2)             \
    ROW(type, name, 192, 96, 2)             \
    ROW(type, name, 256, 80, 2)

// Sizes of the structs that attention kernels take by value, and where some of their members lie. Both
// sides refuse to compile where theirs differ.
#define ATTENTION_BYTES 160
#define ATTENTION_OUT_OFFSET 64
#define ATTENTION_ROWS_OFFSET 104
#define ATTENTION_SCALE_OFFSET 136
#define ATTENTION_ALIGNED_OFFSET 156
#define ATTENTION_MAPS_BYTES 200
#define ATTENTION_SINK_BYTES 200
#define ATTENTION_SUBSET_BYTES 176
#define ATTENTION_HOPPER_BYTES 176
#define ATTENTION_SUBSET_HOPPER_BYTES 200
#define ATTENTION_MAPS_HOPPER_BYTES 208
#define ATTENTION_SINK_HOPPER_BYTES 208
