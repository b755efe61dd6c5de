// An array that is indexed at run time, in a loop: it lies in local memory, and no count of spills has it.
extern "C" __global__ void indexed(const int* places, float* out, int count) {
    float values[16] = {};
    for (int i = 0; i < count; i++) values[places[i] & 15] += 1.0f;
    out[threadIdx.x] = values[places[count] & 15];
}
