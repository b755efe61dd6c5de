// Which experts each token of a mixture visits, and with which weights. src/backend/cpu/experts.rs
// is the definition: among equals the earlier expert wins, NaN is above every number.
//
// logits      [rows, experts]
// correction  float32 [experts] or null: counts for the choice, not for the weights
// given       [rows, k] or null: experts that are not chosen by their scores
// chosen      [rows, k]: experts, best first
// factors     float32 [rows, k]
// groups      0, or experts are in so many equal groups, of which the `kept` best take part; a group
//             is worth the sum of its `best` best scores
// epsilon     is added to the sum of the chosen's scores before they are divided by it
// share       of SCORE_SPARSE: an expert is near another where their distance is at most this share of
//             the larger magnitude; a chosen one's weight is its softmax over those left and near it
//
// A warp takes a row (four a block); scores and choices of the row lie in 8 * experts bytes of
// dynamic shared memory a warp. k, kept and best are at most 32. Reads the logits once; bound by
// latency: some k * experts / 32 comparisons a lane.
#include "numeric.cuh"
#include "reduce.cuh"
#include "top.cuh"

// Orders as the numbers do, NaN above them all; and back.
__device__ __forceinline__ unsigned ordered(float x) {
    if (x != x) return 0xffffffffu;
    unsigned bits = __float_as_uint(x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float number(unsigned order) {
    return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

// The k best of `count` values, index by index: lane i has the i-th.
__device__ __forceinline__ WarpTop largest(const float* values, int count, int k) {
    WarpTop best;
    for (int first = 0; first < count; first += 32) {
        int i = first + (int)(threadIdx.x % 32);
        best.offer(i < count ? make_key(ordered(values[i]), i) : 0, k);
    }
    return best;
}

// Rules out the experts of all groups but the best.
__device__ __forceinline__ void leave_out_groups(float* choice, int experts, int groups, int kept,
                                                 int best) {
    const int lane = threadIdx.x % 32, size = experts / groups;
    WarpTop worthiest;
    for (int group = 0; group < groups; group++) {
        WarpTop own = largest(choice + group * size, size, best);
        float worth = 0.0f;
        for (int i = 0; i < min(best, size); i++) {
            worth += number(key_magnitude(__shfl_sync(FULL_WARP, own.mine, i)));
        }
        worthiest.offer(lane == 0 ? make_key(ordered(worth), group) : 0, kept);
    }
    __syncwarp();
    for (int group = 0; group < groups; group++) {
        bool mine = lane < kept && worthiest.mine != 0 && key_index(worthiest.mine) == group;
        if (__any_sync(FULL_WARP, mine)) continue;
        for (int i = lane; i < size; i += 32) choice[group * size + i] = -INFINITY;
    }
    __syncwarp();
}

template <class T>
__device__ __forceinline__ void route(const T* logits, const float* correction,
                                      const unsigned* given, unsigned* chosen, float* factors,
                                      int rows, int experts, int score, int k,
                                      int groups, int kept, int best, int renormalise,
                                      float epsilon, float share, float scale) {
    SHARED_DYNAMIC(float, memory);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row = blockIdx.x * (blockDim.x / 32) + warp;
    if (row >= rows) return;  // whole warps, and there is no barrier
    const T* own = logits + (size_t)row * experts;
    float* scores = memory + (size_t)warp * 2 * experts;
    float* choice = scores + experts;

    // Each lane has its own experts, until the choice begins.
    if (score == SCORE_SOFTMAX) {
        float top = -INFINITY, sum = 0.0f;
        for (int i = lane; i < experts; i += 32) top = fmaxf(top, float(own[i]));
        for (int distance = 16; distance > 0; distance /= 2) {
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, distance));
        }
        for (int i = lane; i < experts; i += 32) {
            scores[i] = expf(float(own[i]) - top);
            sum += scores[i];
        }
        sum = warp_sum(sum);
        for (int i = lane; i < experts; i += 32) scores[i] /= sum;
    } else if (score == SCORE_SPARSE) {
        for (int i = lane; i < experts; i += 32) scores[i] = float(own[i]);
    } else if (score == SCORE_SQRT_SOFTPLUS) {
        for (int i = lane; i < experts; i += 32) {
            const float x = float(own[i]);
            scores[i] = sqrtf(fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))));
        }
    } else {
        for (int i = lane; i < experts; i += 32) scores[i] = 1.0f / (1.0f + expf(-float(own[i])));
    }
    for (int i = lane; i < experts; i += 32) {
        choice[i] = correction ? scores[i] + correction[i] : scores[i];
    }
    __syncwarp();
    if (groups > 0) leave_out_groups(choice, experts, groups, kept, best);

    int expert = 0;
    if (given) {
        if (lane < k) expert = (int)given[(size_t)row * k + lane];
    } else {
        const WarpTop found = largest(choice, experts, k);
        if (lane < k) expert = (int)key_index(found.mine);
    }
    if (score == SCORE_SPARSE) {
        float mine = 0.0f;
        for (int place = 0; place < k; place++) {
            const int own = __shfl_sync(FULL_WARP, expert, place);
            const float top = scores[own];
            float sum = 0.0f;
            for (int i = lane; i < experts; i += 32) {
                // Not <=: zero beside zero has no distance. What was chosen before is -inf.
                const bool far = (top - scores[i]) / fmaxf(fabsf(scores[i]), top) > share;
                if (!far) sum += expf(choice[i] - top);
            }
            sum = warp_sum(sum);
            if (lane == place) mine = scale / sum;
            __syncwarp();
            if (lane == 0) choice[own] = -INFINITY;
            __syncwarp();
        }
        if (lane < k) {
            chosen[(size_t)row * k + lane] = expert;
            factors[(size_t)row * k + lane] = mine;
        }
        return;
    }
    const float weight = scores[expert];
    float sum = 0.0f;
    for (int i = 0; i < k; i++) sum += __shfl_sync(FULL_WARP, weight, i);
    // Sigmoids may all vanish.
    const float factor = renormalise ? scale / (sum + epsilon) : scale;
    if (lane < k) {
        chosen[(size_t)row * k + lane] = expert;
        factors[(size_t)row * k + lane] = weight * factor;
    }
}

#define DEFINE(T, suffix)                                                                       \
    KERNEL_BOUNDED(ROUTE_WARPS * 32)                                                               \
        route_##suffix(const T* logits, const float* correction, const unsigned* given,         \
                       unsigned* chosen, float* factors, int rows, int experts, int score, int k, int groups,     \
                       int kept, int best, int renormalise, float epsilon, float share,         \
                       float scale) {                                                           \
        route(logits, correction, given, chosen, factors, rows, experts, score, k, groups, kept, best, \
              renormalise, epsilon, share, scale);                                              \
    }                                                                                           \
    REGISTER(route_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
