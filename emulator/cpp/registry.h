// All kernels by name.
#pragma once
#include <string>
#include <string_view>

namespace emulator {

struct Kernel {
    const char* name;
    // The source file that defines it.
    const char* file;
    void (*entry)(void** arguments);
    const char* signature;
    // Most threads of a block; 0: any number.
    unsigned most_threads;
};

// Null if there is none of this name.
const Kernel* find_kernel(std::string_view name, bool checked);

// The names of all kernels of the product, one a line.
const std::string& product_kernels();

struct Registration {
    Registration(const char* name, const char* file, bool checked, void (*entry)(void**),
                 const char* signature, unsigned most_threads);
};

}  // namespace emulator
