// What Rust calls (src/ffi.rs). The device is the calling thread's.
#include <cstring>

#include "engine.h"
#include "registry.h"

using namespace emulator;

extern "C" {

// 0: done; 1: failed, see emulator_error.
int emulator_launch(const char* name, const unsigned grid[3], const unsigned block[3],
                    size_t dynamic_shared, void** arguments, const char* signature, int checked) {
    Engine& e = engine();
    const Kernel* kernel = find_kernel(name, checked);
    if (!kernel) {
        e.error = std::string("no kernel is called ") + name;
        return 1;
    }
    if (strcmp(kernel->signature, signature) != 0) {
        e.error = std::string(name) + " takes arguments (" + kernel->signature + "), not (" +
                  signature + ")";
        return 1;
    }
    uint64_t threads = uint64_t(block[0]) * block[1] * block[2];
    if (kernel->most_threads && threads > kernel->most_threads) {
        e.error = std::string(name) + " takes blocks of at most " +
                  std::to_string(kernel->most_threads) + " threads (__launch_bounds__), not " +
                  std::to_string(threads);
        return 1;
    }
    bool done = e.run({kernel->name,
                       {grid[0], grid[1], grid[2]},
                       {block[0], block[1], block[2]},
                       dynamic_shared,
                       kernel->entry,
                       arguments,
                       checked != 0});
    return done ? 0 : 1;
}

// One name a line.
const char* emulator_kernels() { return product_kernels().c_str(); }

const char* emulator_error() { return engine().error.c_str(); }

void emulator_order(int order, uint64_t seed) {
    engine().order = static_cast<Order>(order);
    // xorshift must not start at zero.
    engine().random = seed * 0x9e3779b97f4a7c15u | 1;
}

void emulator_memory_limit(size_t bytes) { engine().memory.limit = bytes; }
void* emulator_allocate(size_t bytes) { return engine().memory.allocate(bytes); }
void emulator_release(void* address) { engine().memory.release(address); }
int emulator_contains(const void* address, size_t bytes) {
    return engine().memory.contains(reinterpret_cast<uintptr_t>(address), bytes);
}

}  // extern "C"
