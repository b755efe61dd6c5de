// What the attention kernels are told.
#pragma once

#include "../device.cuh"

// Some consecutive positions of one sequence: what a block works on.
struct AttentionTile {
    int start;     // row of the sequence's first position
    int length;    // positions of the sequence
    int first;     // first position of the tile
    int sequence;  // index of the sequence
};

// Tensors are row-major; sequences are ranges of their rows. Pointers to parts that are not wanted
// are null.
struct AttentionArguments {
    const void* q;               // [rows, heads * head_dim]
    const void* k;               // [rows, kv_heads * head_dim]
    const void* v;               // [rows, kv_heads * value_dim]
    const AttentionTile* tiles;  // one a block (blockIdx.y)
    const float* sinks;          // [heads]: a logit without value
    const float* extra_key;      // [heads * head_dim]: a key in front of all, never hidden
    const float* extra_value;    // [heads * value_dim]
    const float* slopes;         // [heads]: ALiBi
    void* out;                   // [rows, heads * value_dim]
    float* log_sums;             // [heads, rows]: log2 of the softmax's denominator
    float* extra_logits;         // [heads, rows]: logit of the extra key, times log2(e)
    int rows;
    int heads;
    int kv_heads;
    int head_dim;
    int value_dim;
    int window;      // position i sees the keys i - window < j <= i
    float scale;     // logits are q.k * scale,
    float soft_cap;  // then soft_cap * tanh(logit / soft_cap) unless this is 0,
    float alibi_factor;
    int alibi_from_last;
    int alibi_bfloat16;
    int aligned;  // heads start at multiples of 16 bytes
};

// The same as parameters of a kernel, whose types the emulator compares with what the host passes
// (src/backend/cuda/attention/arguments.rs).
#define ATTENTION_PARAMETERS                                                                     \
    const void *q, const void *k, const void *v, const AttentionTile *tiles, const float *sinks, \
        const float *extra_key, const float *extra_value, const float *slopes, void *out,        \
        float *log_sums, float *extra_logits, int rows, int heads, int kv_heads, int head_dim,   \
        int value_dim, int window, float scale, float soft_cap, float alibi_factor,              \
        int alibi_from_last, int alibi_bfloat16, int aligned
#define ATTENTION_ARGUMENTS                                                                       \
    AttentionArguments {                                                                          \
        q, k, v, tiles, sinks, extra_key, extra_value, slopes, out, log_sums, extra_logits, rows, \
            heads, kv_heads, head_dim, value_dim, window, scale, soft_cap, alibi_factor,          \
            alibi_from_last, alibi_bfloat16, aligned                                              \
    }

// Head-mean and per-head maps of one sequence of length T; `columns` is T, one more with an extra
// key.
struct AttentionMapArguments {
    AttentionArguments attention;
    int start;           // row of the sequence's first position
    int length;          // T
    float* probs_mean;   // [T, columns]
    float* logits_mean;  // [T, columns]
    float* probs;        // [heads, T, columns]
    float* logits;       // [heads, T, columns]
};

// What each key receives.
struct AttentionSinkArguments {
    AttentionArguments attention;
    float* mass;        // [heads, rows]: mean probability over the queries that see the key
    float* peak;        // [heads, rows]: largest logit among them
    float* extra_mass;  // [heads, sequences]: the same of the extra key
    float* extra_peak;
    int sequences;
};

// The part of the output that some keys give.
struct AttentionSubsetArguments {
    AttentionArguments attention;
    const int* keys;     // positions, sequence after sequence
    const int* offsets;  // [sequences + 1]: where each sequence's keys begin
};
