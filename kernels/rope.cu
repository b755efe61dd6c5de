// Rotary position embedding: rotates pairs of dimensions of every head, in place, or of queries and keys on their
// way out of the product that made them and the values.
//
// x          [rows, heads * head_dim]; the rotated part of a head starts at `first`
// positions  [rows]: the position of each row; what is NOWHERE stays as it is
// cos, sin   float32 [any position, pairs]; sines count with `sign`, -1 rotates back
// A pair is dimension i with i + pairs, or 2i with 2i + 1 where `interleaved`.
//
// A block per row (grid-stride). A thread has a part of the pairs: two 16-byte vectors of a head, one of left and
// one of right dimensions, or one vector of neighbours where `interleaved`; it loads their cosines and sines
// once a row and goes over the heads. Where a vector would cross the ends of what is rotated a thread has a pair.
// Moves twice the rotated part of x and, once a row, 8 bytes a pair of the tables, from cache but for the
// first sequence; 6 FLOP a pair. Bound by memory.
#include "numeric.cuh"

#define NOWHERE 0xffffffffu

// SPAN pairs of one head, by SPAN cosines and sines; `to` may be `from`.
template <class T, bool NEIGHBOURS, int SPAN>
__device__ __forceinline__ void rotate_part(const T* from, T* to, int pairs, const float* cosine,
                                            const float* sine) {
    if constexpr (SPAN == 1) {
        const int right = NEIGHBOURS ? 1 : pairs;
        float a = float(from[0]), b = float(from[right]);
        to[0] = T(a * cosine[0] - b * sine[0]);
        to[right] = T(b * cosine[0] + a * sine[0]);
    } else if constexpr (NEIGHBOURS) {
        Vector<T> both = load_vector(from);
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            float a = both[2 * i], b = both[2 * i + 1];
            both.set(2 * i, a * cosine[i] - b * sine[i]);
            both.set(2 * i + 1, b * cosine[i] + a * sine[i]);
        }
        store_vector(to, both);
    } else {
        Vector<T> first = load_vector(from), second = load_vector(from + pairs);
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            float a = first[i], b = second[i];
            first.set(i, a * cosine[i] - b * sine[i]);
            second.set(i, b * cosine[i] + a * sine[i]);
        }
        store_vector(to, first);
        store_vector(to + pairs, second);
    }
}

// SPAN neighbours of a table.
template <int SPAN>
__device__ __forceinline__ void load_part(float (&part)[SPAN], const float* table, float sign) {
    if constexpr (SPAN % 4 == 0) {
#pragma unroll
        for (int i = 0; i < SPAN; i += 4) {
            Vector<float> four = load_vector(table + i);
#pragma unroll
            for (int j = 0; j < 4; j++) part[i + j] = sign * four[j];
        }
    } else {
#pragma unroll
        for (int i = 0; i < SPAN; i++) part[i] = sign * table[i];
    }
}

template <class T, bool NEIGHBOURS, int SPAN>
__device__ __forceinline__ void rotate_rows(T* x, const unsigned* positions, const float* cosines,
                                            const float* sines, int rows, int heads, int head_dim,
                                            int first, int pairs, float sign) {
    const int parts = pairs / SPAN, wide = min(parts, (int)blockDim.x);
    const int team = threadIdx.x / wide, teams = blockDim.x / wide;
    if (team >= teams) return;
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const unsigned position = positions[row];
        if (position == NOWHERE) continue;
        const size_t start = (size_t)position * pairs;
        for (int part = threadIdx.x % wide; part < parts; part += wide) {
            float cosine[SPAN], sine[SPAN];
            load_part<SPAN>(cosine, cosines + start + part * SPAN, 1.0f);
            load_part<SPAN>(sine, sines + start + part * SPAN, sign);
            T* left = x + (size_t)row * heads * head_dim + first + part * SPAN * (NEIGHBOURS ? 2 : 1);
            for (int head = team; head < heads; head += teams) {
                T* own = left + (size_t)head * head_dim;
                rotate_part<T, NEIGHBOURS, SPAN>(own, own, pairs, cosine, sine);
            }
        }
    }
}

template <class T, bool NEIGHBOURS>
__device__ __forceinline__ void rotate(T* x, const unsigned* positions, const float* cosines,
                                       const float* sines, int rows, int heads, int head_dim,
                                       int first, int pairs, float sign) {
    constexpr int SIZE = Vector<T>::SIZE, SPAN = NEIGHBOURS ? SIZE / 2 : SIZE;
    if (head_dim % SIZE == 0 && first % SIZE == 0 && pairs % SPAN == 0) {
        rotate_rows<T, NEIGHBOURS, SPAN>(x, positions, cosines, sines, rows, heads, head_dim, first,
                                         pairs, sign);
    } else {
        rotate_rows<T, NEIGHBOURS, 1>(x, positions, cosines, sines, rows, heads, head_dim, first,
                                      pairs, sign);
    }
}

// What takes queries, keys and values apart, and what it rotates on the way.
//
// joined     [rows, q + k + v]; the heads of queries and keys are head_dim wide
// out_q, out_k, out_v  [rows, q], [rows, k], [rows, v]
// positions, tables    as above; rows that are NOWHERE are only copied
//
// A block per row (grid-stride), a thread per vector; the one with left dimensions rotates them and their right
// ones. Moves twice what is joined, and the tables from cache; bound by memory.
template <class T>
struct Heads {
    T *q, *k, *v;
    int q_width, k_width, v_width, head_dim, first, pairs;
    float sign;

    // Where column c of row `row` goes to.
    __device__ __forceinline__ T* place(int row, int c) const {
        if (c < q_width) return q + (size_t)row * q_width + c;
        c -= q_width;
        if (c < k_width) return k + (size_t)row * k_width + c;
        return v + (size_t)row * v_width + (c - k_width);
    }
};

template <class T, bool NEIGHBOURS, int WIDTH>
__device__ __forceinline__ void split_rows(const T* joined, const Heads<T>& heads,
                                           const unsigned* positions, const float* cosines,
                                           const float* sines, int rows) {
    // Pairs that a thread rotates, and the columns that it reads at one place.
    constexpr int SPAN = NEIGHBOURS && WIDTH > 1 ? WIDTH / 2 : WIDTH;
    constexpr int STEP = NEIGHBOURS && WIDTH == 1 ? 2 : WIDTH;
    const int columns = heads.q_width + heads.k_width + heads.v_width;
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const T* from = joined + (size_t)row * columns;
        const unsigned position = positions[row];
        const size_t start = (size_t)position * heads.pairs;
        for (int c = threadIdx.x * WIDTH; c < columns; c += blockDim.x * WIDTH) {
            // Of q and k alike: the widths are whole heads.
            const bool turns = c < heads.q_width + heads.k_width && position != NOWHERE;
            const int rotated = c % heads.head_dim - heads.first;
            T* to = heads.place(row, c);
            if (!turns || rotated < 0 || rotated >= 2 * heads.pairs) {
                if constexpr (WIDTH == 1) {
                    *to = from[c];
                } else {
                    store_vector(to, load_vector(from + c));
                }
                continue;
            }
            if (NEIGHBOURS ? rotated % STEP != 0 : rotated >= heads.pairs) continue;
            const int pair = NEIGHBOURS ? rotated / 2 : rotated;
            float cosine[SPAN], sine[SPAN];
            load_part<SPAN>(cosine, cosines + start + pair, 1.0f);
            load_part<SPAN>(sine, sines + start + pair, heads.sign);
            rotate_part<T, NEIGHBOURS, SPAN>(from + c, to, heads.pairs, cosine, sine);
        }
    }
}

template <class T, bool NEIGHBOURS>
__device__ __forceinline__ void split(const T* joined, const Heads<T>& heads,
                                      const unsigned* positions, const float* cosines,
                                      const float* sines, int rows) {
    constexpr int SIZE = Vector<T>::SIZE;
    const int parts = NEIGHBOURS ? 2 * heads.pairs : heads.pairs;
    if (heads.head_dim % SIZE == 0 && heads.v_width % SIZE == 0 && heads.first % SIZE == 0 &&
        parts % SIZE == 0) {
        split_rows<T, NEIGHBOURS, SIZE>(joined, heads, positions, cosines, sines, rows);
    } else {
        split_rows<T, NEIGHBOURS, 1>(joined, heads, positions, cosines, sines, rows);
    }
}

#define DEFINE(T, suffix)                                                                          \
    KERNEL rotate_##suffix(T* x, const unsigned* positions, const float* cosines,                  \
                           const float* sines, int rows, int heads, int head_dim, int first,       \
                           int pairs, int interleaved, float sign) {                               \
        if (interleaved) {                                                                         \
            rotate<T, true>(x, positions, cosines, sines, rows, heads, head_dim, first, pairs,     \
                            sign);                                                                 \
        } else {                                                                                   \
            rotate<T, false>(x, positions, cosines, sines, rows, heads, head_dim, first, pairs,    \
                             sign);                                                                \
        }                                                                                          \
    }                                                                                              \
    REGISTER(rotate_##suffix)                                                                      \
    KERNEL split_rotated_##suffix(const T* joined, T* q, T* k, T* v, const unsigned* positions,    \
                                  const float* cosines, const float* sines, int rows, int q_width, \
                                  int k_width, int v_width, int head_dim, int first, int pairs,    \
                                  int interleaved, float sign) {                                   \
        Heads<T> heads{q, k, v, q_width, k_width, v_width, head_dim, first, pairs, sign};          \
        if (interleaved) {                                                                         \
            split<T, true>(joined, heads, positions, cosines, sines, rows);                        \
        } else {                                                                                   \
            split<T, false>(joined, heads, positions, cosines, sines, rows);                       \
        }                                                                                          \
    }                                                                                              \
    REGISTER(split_rotated_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
