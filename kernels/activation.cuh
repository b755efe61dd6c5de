// Elementwise nonlinearities; the formulas and their names are those of model/spec/mlp.rs.
#pragma once
#include "device.cuh"

// Not max, which would turn NaN into 0.
__device__ __forceinline__ float relu(float x) { return x < 0.0f ? 0.0f : x; }

__device__ __forceinline__ float activate(float x, int activation, float parameter) {
    switch (activation) {
        case ACTIVATION_SILU: return x / (1.0f + expf(-x));
        case ACTIVATION_SCALED_SILU: return x / (1.0f + expf(-parameter * x));
        case ACTIVATION_SIGMOID: return 1.0f / (1.0f + expf(-x));
        // x/2 erfc(-x / sqrt 2): 1 + erf would cancel near -4.
        case ACTIVATION_GELU_ERF: return 0.5f * x * erfcf(-x * 0.70710678f);
        case ACTIVATION_GELU_TANH: {
            // x/2 (1 + tanh u) is x sigmoid(2u), which does not cancel; 2 sqrt(2 / pi) = 1.595769.
            float u = 1.595769f * (x + 0.044715f * x * x * x);
            return x / (1.0f + expf(-u));
        }
        case ACTIVATION_RELU: return relu(x);
        case ACTIVATION_SOFTPLUS: return relu(x) + log1pf(expf(-fabsf(x)));
        default: return relu(x) * relu(x);
    }
}

// ln(1 + e^x)
__device__ __forceinline__ float softplus(float x) {
    return (x < 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x)));
}

// cap tanh(x / cap)
__device__ __forceinline__ float soft_cap(float x, float cap) { return cap * tanhf(x / cap); }

// xIELU (model/spec/mlp.rs); not fminf, which would hide a NaN.
__device__ __forceinline__ float xielu(float x, float square, float exponential, float linear,
                                       float limit) {
    float negative = (expm1f(x > limit ? limit : x) - x) * exponential;
    return linear * x + (x > 0.0f ? square * x * x : negative);
}
