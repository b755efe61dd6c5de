// A kernel for Hopper, by its name, that multiplies on the ordinary units there, and is not empty elsewhere.
extern "C" __global__ void attention_hopper_64_bf16(const float* q, const float* k, float* out, int count) {
    float sum = 0.0f;
    for (int i = 0; i < count; i++) sum += q[i] * k[i];
    out[threadIdx.x] = sum;
}
