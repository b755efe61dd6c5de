// Products A B^T of tiles that come one after another, for the kernels that look at probabilities
// again once the softmax's denominators are known.
//
// Heads of any width pass in pieces of 128 bytes a row through a ring of three stages, so that two
// pieces are under way while one is multiplied and one barrier a piece suffices.
#pragma once

#include "products.cuh"

template <class T, int A_ROWS, int B_ROWS, int THREADS>
struct ScoreStream {
    static constexpr int WIDTH = STREAM_ROW_BYTES / sizeof(T);
    static constexpr int STAGES = STREAM_STAGES;
    using Piece = SharedTile<T, WIDTH>;

    T* memory;
    int head_dim;

    __device__ Piece a(int piece) const {
        return {memory + piece % STAGES * ((A_ROWS + B_ROWS) * Piece::STRIDE)};
    }
    __device__ Piece b(int piece) const { return {a(piece).at(A_ROWS, 0)}; }

    // For each step 0..steps, `load(step, piece_a, piece_b, column)` starts the copies of a piece
    // and `use(step, scores)` receives the finished products of the warp's M * 16 rows of A.
    template <int M, class Load, class Use>
    __device__ __forceinline__ void run(int steps, Load load, Use use) const {
        constexpr int N = B_ROWS / 8;
        const int warp_row = threadIdx.x / 32 * (M * 16);
        const int pieces = (head_dim + WIDTH - 1) / WIDTH;
        const int count = steps * pieces;
        int next_step = 0, next_column = 0;
        auto start = [&](int piece) {
            if (piece < count) {
                load(next_step, a(piece), b(piece), next_column);
                next_column += WIDTH;
                if (next_column >= head_dim) {
                    next_column = 0;
                    next_step++;
                }
            }
            cp_async_commit();
        };
        start(0);
        start(1);
        int piece = 0;
        for (int step = 0; step < steps; step++) {
            float scores[M][N][4];
#pragma unroll
            for (int m = 0; m < M; m++) {
#pragma unroll
                for (int n = 0; n < N; n++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) scores[m][n][j] = 0.0f;
                }
            }
            for (int column = 0; column < head_dim; column += WIDTH, piece++) {
                cp_async_wait<STAGES - 2>();
                __syncthreads();  // the piece is there, and every warp has left the one before
                start(piece + 2);
                add_scores(scores, a(piece), warp_row, b(piece), head_dim - column);
            }
            use(step, scores);
        }
    }
};
