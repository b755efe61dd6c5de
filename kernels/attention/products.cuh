// The two products of attention, on tiles in shared memory: scores = A B^T and output += P V.
//
// 16-bit elements go to the tensor cores (mma.m16n8k16, float32 accumulators). float32 is
// multiplied and added one by one, which TF32 tensor cores would not do exactly; the results lie in
// the same places (elements.cuh).
#pragma once

#include "tile.cuh"

// scores[m][n] += A[rows from a_row.., :] B[rows from 0.., :]^T over the first `width` columns.
template <int M, int N, class T, int WIDTH>
__device__ __forceinline__ void add_scores(float (&scores)[M][N][4], SharedTile<T, WIDTH> a,
                                           int a_row, SharedTile<T, WIDTH> b, int width = WIDTH) {
    static_assert(N % 2 == 0);
    const int lane = lane_id();
#pragma unroll
    for (int k = 0; k < WIDTH; k += 16) {
        if (k >= width) break;
        uint32_t left[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
            ldmatrix_x4(left[m], a.at(a_row + m * 16 + (lane & 15), k + (lane >> 4) * 8));
        }
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            // Rows n * 8.. and columns k..: two 8 x 8 parts below each other, two beside each
            // other.
            uint32_t right[4];
            ldmatrix_x4(right, b.at(n * 8 + (lane & 7) + (lane >> 4) * 8, k + (lane >> 3 & 1) * 8));
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply<T>(scores[m][n], left[m], {right[0], right[1]});
                multiply<T>(scores[m][n + 1], left[m], {right[2], right[3]});
            }
        }
    }
}

template <int M, int N, int WIDTH>
__device__ __forceinline__ void add_scores(float (&scores)[M][N][4], SharedTile<float, WIDTH> a,
                                           int a_row, SharedTile<float, WIDTH> b,
                                           int width = WIDTH) {
#pragma unroll 2
    for (int k = 0; k < WIDTH; k += 4) {
        if (k >= width) break;
        float4 left[M][2];
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                left[m][half] =
                    *reinterpret_cast<const float4*>(a.at(a_row + fragment_row(m, half), k));
            }
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const float4 right =
                    *reinterpret_cast<const float4*>(b.at(fragment_column(n, j), k));
#pragma unroll
                for (int m = 0; m < M; m++) {
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        float& sum = scores[m][n][2 * half + j];
                        sum = fmaf(left[m][half].x, right.x, sum);
                        sum = fmaf(left[m][half].y, right.y, sum);
                        sum = fmaf(left[m][half].z, right.z, sum);
                        sum = fmaf(left[m][half].w, right.w, sum);
                    }
                }
            }
        }
    }
}

// output[m][i] += P V, where P is in `probs` (8 * N keys, rounded to T) and V has 8 * I columns.
template <int M, int N, int I, class T, int WIDTH>
__device__ __forceinline__ void add_values(float (&output)[M][I][4], const float (&probs)[M][N][4],
                                           SharedTile<T, WIDTH> v) {
    static_assert(N % 2 == 0 && I % 2 == 0);
    const int lane = lane_id();
#pragma unroll
    for (int n = 0; n < N; n += 2) {
        // Two accumulator tiles beside each other are one left operand.
        uint32_t left[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
            left[m][0] = pack<T>(probs[m][n][0], probs[m][n][1]);
            left[m][1] = pack<T>(probs[m][n][2], probs[m][n][3]);
            left[m][2] = pack<T>(probs[m][n + 1][0], probs[m][n + 1][1]);
            left[m][3] = pack<T>(probs[m][n + 1][2], probs[m][n + 1][3]);
        }
#pragma unroll
        for (int i = 0; i < I; i += 2) {
            uint32_t right[4];
            ldmatrix_x4_trans(right, v.at(n * 8 + (lane & 15), i * 8 + (lane >> 4) * 8));
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply<T>(output[m][i], left[m], {right[0], right[1]});
                multiply<T>(output[m][i + 1], left[m], {right[2], right[3]});
            }
        }
    }
}

template <int M, int N, int I, int WIDTH>
__device__ __forceinline__ void add_values(float (&output)[M][I][4], const float (&probs)[M][N][4],
                                           SharedTile<float, WIDTH> v) {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int key = 0; key < 8; key++) {
            // The probability is with the lane of the row's four that holds this key's column.
            float prob[M][2];
#pragma unroll
            for (int m = 0; m < M; m++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    prob[m][half] =
                        __shfl_sync(0xffffffffu, probs[m][n][2 * half + (key & 1)], key >> 1, 4);
                }
            }
#pragma unroll
            for (int i = 0; i < I; i++) {
                const float2 value =
                    *reinterpret_cast<const float2*>(v.at(n * 8 + key, fragment_column(i, 0)));
#pragma unroll
                for (int m = 0; m < M; m++) {
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        output[m][i][2 * half] =
                            fmaf(prob[m][half], value.x, output[m][i][2 * half]);
                        output[m][i][2 * half + 1] =
                            fmaf(prob[m][half], value.y, output[m][i][2 * half + 1]);
                    }
                }
            }
        }
    }
}
