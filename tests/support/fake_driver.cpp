// The part of the CUDA driver that massact asks before it opens a card, with answers from the
// environment. What follows is missing, as in a driver that is too old.
#include <cstdio>
#include <cstdlib>

static int number(const char* name, int otherwise) {
    const char* value = getenv(name);
    return value ? atoi(value) : otherwise;
}

extern "C" {
int cuInit(unsigned) { return number("FAKE_INIT", 0); }
int cuDriverGetVersion(int* version) {
    *version = number("FAKE_VERSION", 13000);
    return 0;
}
int cuDeviceGetCount(int* count) {
    *count = number("FAKE_COUNT", 1);
    return 0;
}
int cuDeviceGet(int* device, int index) {
    *device = index;
    return 0;
}
int cuDeviceGetName(char* name, int length, int) {
    snprintf(name, length, "Fake card");
    return 0;
}
// 75 and 76 are the compute capability.
int cuDeviceGetAttribute(int* value, int attribute, int) {
    *value = attribute == 75 ? number("FAKE_MAJOR", 9) : 0;
    return 0;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = (size_t)80 << 30;
    return 0;
}
int cuGetErrorName(int, const char** name) {
    *name = "CUDA_ERROR_FAKE";
    return 0;
}
int cuGetErrorString(int, const char** text) {
    *text = "a fake error";
    return 0;
}
}
