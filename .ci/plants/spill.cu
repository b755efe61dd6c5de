// More values at a time than registers: half of 128 go to memory. The compiler must refuse it.
extern "C" __global__ void __launch_bounds__(1024) spill(const float* x, float* out, int count) {
    float values[128];
#pragma unroll
    for (int i = 0; i < 128; i++) values[i] = x[i * 1024 + threadIdx.x];
    for (int round = 0; round < count; round++) {
#pragma unroll
        for (int i = 0; i < 128; i++) values[i] = values[i] * values[(i + 1) % 128] + x[round];
    }
#pragma unroll
    for (int i = 0; i < 128; i++) out[i * 1024 + threadIdx.x] = values[i];
}
