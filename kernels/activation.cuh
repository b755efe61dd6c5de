// Elementwise nonlinearities; the formulas and their names are those of model/spec/mlp.rs.
#pragma once
#include "device.cuh"

// Numbers that the host passes (src/backend/cuda/elementwise.rs).
enum Activation { SILU, SCALED_SILU, SIGMOID, GELU_ERF, GELU_TANH, RELU, RELU_SQUARED };

// Not max, which would turn NaN into 0.
__device__ __forceinline__ float relu(float x) { return x < 0.0f ? 0.0f : x; }

__device__ __forceinline__ float activate(float x, int activation, float parameter) {
    switch (activation) {
        case SILU: return x / (1.0f + expf(-x));
        case SCALED_SILU: return x / (1.0f + expf(-parameter * x));
        case SIGMOID: return 1.0f / (1.0f + expf(-x));
        // x/2 erfc(-x / sqrt 2): 1 + erf would cancel near -4.
        case GELU_ERF: return 0.5f * x * erfcf(-x * 0.70710678f);
        case GELU_TANH: {
            // x/2 (1 + tanh u) is x sigmoid(2u), which does not cancel; 2 sqrt(2 / pi) = 1.595769.
            float u = 1.595769f * (x + 0.044715f * x * x * x);
            return x / (1.0f + expf(-u));
        }
        case RELU: return relu(x);
        default: return relu(x) * relu(x);
    }
}

// cap tanh(x / cap)
__device__ __forceinline__ float soft_cap(float x, float cap) { return cap * tanhf(x / cap); }
