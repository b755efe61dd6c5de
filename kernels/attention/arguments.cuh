// What the attention kernels are told: structs that a kernel takes by value. The host has them too, in
// src/backend/cuda/attention/arguments.rs.
#pragma once

#include "../device.cuh"

// Some consecutive positions of one sequence: what a block works on.
struct AttentionTile {
    int start;     // row of the sequence's first position
    int length;    // positions of the sequence
    int first;     // first position of the tile
    int sequence;  // index of the sequence
};

// The order of a sequence's blocks in the forward pass: all its tiles with some heads, then with the next, so that
// the keys and values that are read at a time stay in the second-level cache.
struct AttentionSection {
    int first;  // its first tile in the list, which has its tiles side by side
    int tiles;  // how many it has
    int heads;  // at a time
};

// Tensors are row-major; sequences are ranges of their rows. Pointers to parts that are not wanted
// are null.
struct AttentionArguments {
    const void* q;               // [rows, heads * head_dim]
    const void* k;               // [rows, kv_heads * head_dim]
    const void* v;               // [rows, kv_heads * value_dim]
    const AttentionTile* tiles;  // one a block
    const float* sinks;          // [heads]: a logit without value
    const float* extra_key;      // [heads * head_dim]: a key in front of all, never hidden
    const float* extra_value;    // [heads * value_dim]
    const float* slopes;         // [heads]: ALiBi
    void* out;                   // [rows, heads * value_dim]
    float* log_sums;             // [heads, rows]: log2 of the softmax's denominator
    float* extra_logits;         // [heads, rows]: logit of the extra key, times log2(e)
    const unsigned* chosen;      // [rows, words]: bit j is set if the row's query may see key j
    const AttentionSection* sections;  // [sequences], in the forward pass
    int rows;
    int heads;
    int kv_heads;
    int head_dim;
    int value_dim;
    int window;      // position i sees the keys i - window < j <= i
    int chunk;       // of those, the keys of its own chunk: j / chunk == i / chunk
    int words;
    float scale;     // logits are q.k * scale,
    float soft_cap;  // then soft_cap * tanh(logit / soft_cap) unless this is 0,
    float alibi_factor;
    int alibi_from_last;
    int alibi_bfloat16;
    int aligned;  // heads start at multiples of 16 bytes
};

static_assert(sizeof(AttentionArguments) == ATTENTION_BYTES);
static_assert(offsetof(AttentionArguments, out) == ATTENTION_OUT_OFFSET);
static_assert(offsetof(AttentionArguments, rows) == ATTENTION_ROWS_OFFSET);
static_assert(offsetof(AttentionArguments, scale) == ATTENTION_SCALE_OFFSET);
static_assert(offsetof(AttentionArguments, aligned) == ATTENTION_ALIGNED_OFFSET);

// What a block of the forward pass works on: one of `heads` heads (or tiles of heads) and a tile.
struct AttentionPlace {
    AttentionTile tile;
    int head;

    __device__ __forceinline__ AttentionPlace(const AttentionArguments& args, unsigned block,
                                              int heads) {
        // A sequence has as many blocks for each tile as there are heads, so this is one of its tiles.
        const int sequence = args.tiles[block / heads].sequence;
        const AttentionSection section = args.sections[sequence];
        const int within = int(block - unsigned(section.first) * heads);
        const int first_head = within / (section.tiles * section.heads) * section.heads;
        const int width = min(section.heads, heads - first_head);
        const int rest = within - first_head * section.tiles;
        tile = args.tiles[section.first + rest / width];
        head = first_head + rest % width;
    }
};

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
static_assert(sizeof(AttentionMapArguments) == ATTENTION_MAPS_BYTES);

// What each key receives.
struct AttentionSinkArguments {
    AttentionArguments attention;
    float* mass;        // [heads, rows]: mean probability over the queries that see the key
    float* peak;        // [heads, rows]: largest logit among them
    float* extra_mass;  // [heads, sequences]: the same of the extra key
    float* extra_peak;
    int sequences;
};
static_assert(sizeof(AttentionSinkArguments) == ATTENTION_SINK_BYTES);

// The parts of the output that some keys give and the others.
struct AttentionSubsetArguments {
    AttentionArguments attention;
    const unsigned* listed;  // bit r is set if row r's key is one of them
    void* rest;              // [rows, heads * value_dim]: of the others
};
static_assert(sizeof(AttentionSubsetArguments) == ATTENTION_SUBSET_BYTES);

// The forward pass by tensor copies.
struct AttentionHopperArguments {
    AttentionArguments attention;
    const void* maps;  // [sequences, 3]: TensorMap of a sequence's queries, keys, values
    int packed;        // heads of a tile, neighbours that share a key/value head
    int blocks;        // tiles of heads: heads / packed
};
static_assert(sizeof(AttentionHopperArguments) == ATTENTION_HOPPER_BYTES);

// The part of the output that some keys give, or the others, by tensor copies.
struct AttentionSubsetHopperArguments {
    AttentionHopperArguments attention;
    const unsigned* listed;  // bit r is set if row r's key is one of them, zeros for the tile behind the last
    const float* log_sums;   // the forward pass's; what this one finds is not wanted
    unsigned others;         // all bits for the part of the others, none for theirs
};
static_assert(sizeof(AttentionSubsetHopperArguments) == ATTENTION_SUBSET_HOPPER_BYTES);

// Maps of one sequence by tensor copies.
struct AttentionMapHopperArguments {
    AttentionMapArguments map;
    const void* maps;  // [2]: TensorMap of the sequence's queries and keys
};
static_assert(sizeof(AttentionMapHopperArguments) == ATTENTION_MAPS_HOPPER_BYTES);

// What each key receives, by tensor copies.
struct AttentionSinkHopperArguments {
    AttentionSinkArguments sink;
    const void* maps;  // [sequences, 2]: TensorMap of a sequence's queries and keys
};
static_assert(sizeof(AttentionSinkHopperArguments) == ATTENTION_SINK_HOPPER_BYTES);
