// Which keys of a sequence each of its queries sees, where an indexer chooses them: the `most` with the
// largest score, sum over heads of weight * max(q . k, 0), of those that it sees: a key stands for `rate` rows
// and is seen from the last of them on. All of them
// where there are no more. Among equals the earlier key wins.
//
// q        [length, heads * width], of one sequence
// k        [keys, width]
// weights  [length, heads]
// scores   [blocks, keys]: room for a query's scores, as integers in the same order
// bits     [length, words]: key j of a query is bit j % 32 of word j / 32
//
// A block per query (grid-stride): a thread a key for the scores, then a radix select of four digits, then
// one warp writes the bits in the order of the keys. 2 heads width FLOPs a pair, on the ordinary units; reads
// q once and k once a query, from the caches. Bound by FMA issue.
#include "device.cuh"

// Integers in the order of the numbers; zeros of both signs are the same, NaN is above all.
__device__ __forceinline__ unsigned in_order(float score) {
    if (score != score) return 0xffffffffu;
    const unsigned raw = __float_as_uint(score == 0.0f ? 0.0f : score);
    return raw >> 31 ? ~raw : raw | 0x80000000u;
}

template <class T>
__device__ __forceinline__ float score(const T* q, const T* k, const T* weights, int heads, int width) {
    float sum = 0.0f;
    for (int head = 0; head < heads; head++) {
        float product = 0.0f;
        for (int i = 0; i < width; i++) product += float(q[head * width + i]) * float(k[i]);
        sum += float(weights[head]) * fmaxf(product, 0.0f);
    }
    return sum;
}

template <class T>
__device__ __forceinline__ void choose(const T* q, const T* k, const T* weights, unsigned* scores,
                                       unsigned* bits, int length, int keys, int rate, int heads,
                                       int width, int words, int most) {
    SHARED(unsigned, counts, [256]);
    SHARED(unsigned, found, [2]);  // digits of the last chosen score so far; how many like it are chosen
    unsigned* own = scores + size_t(blockIdx.x) * keys;
    for (int query = blockIdx.x; query < length; query += gridDim.x) {
        const int seen = (query + 1) / rate;
        const bool all = seen <= most;
        for (int key = threadIdx.x; key < seen && !all; key += blockDim.x) {
            own[key] = in_order(score(q + size_t(query) * heads * width, k + size_t(key) * width,
                                      weights + size_t(query) * heads, heads, width));
        }
        if (threadIdx.x == 0) {
            found[0] = 0;
            found[1] = most;
        }
        __syncthreads();
        for (int shift = 24; shift >= 0 && !all; shift -= 8) {
            for (int i = threadIdx.x; i < 256; i += blockDim.x) counts[i] = 0;
            __syncthreads();
            const unsigned digits = found[0];
            for (int key = threadIdx.x; key < seen; key += blockDim.x) {
                const bool among = shift == 24 || own[key] >> (shift + 8) == digits;
                if (among) atomicAdd(&counts[own[key] >> shift & 255], 1u);
            }
            __syncthreads();
            if (threadIdx.x == 0) {
                unsigned left = found[1], digit = 255;
                while (counts[digit] < left) left -= counts[digit--];
                found[0] = digits << 8 | digit;
                found[1] = left;
            }
            __syncthreads();
        }
        if (threadIdx.x < 32) {
            const int lane = threadIdx.x;
            const unsigned last = found[0];
            unsigned left = found[1];
            for (int word = 0; word < words; word++) {
                const int key = word * 32 + lane;
                const bool there = key < seen;
                const unsigned value = there && !all ? own[key] : 0;
                const bool like_last = there && !all && value == last;
                const unsigned alike = __ballot_sync(FULL_WARP, like_last);
                const unsigned before = __popc(alike & ((1u << lane) - 1u));
                const bool taken = there && (all || value > last || (like_last && before < left));
                const unsigned chosen = __ballot_sync(FULL_WARP, taken);
                left -= min(left, unsigned(__popc(alike)));
                if (lane == 0) bits[size_t(query) * words + word] = chosen;
            }
        }
        __syncthreads();
    }
}

#define DEFINE(T, suffix)                                                                       \
    KERNEL_BOUNDED(KEY_CHOICE_THREADS)                                                          \
    choose_keys_##suffix(const T* q, const T* k, const T* weights, unsigned* scores,            \
                         unsigned* bits, int length, int keys, int rate, int heads, int width,  \
                         int words, int most) {                                                 \
        choose(q, k, weights, scores, bits, length, keys, rate, heads, width, words, most);     \
    }                                                                                           \
    REGISTER(choose_keys_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
