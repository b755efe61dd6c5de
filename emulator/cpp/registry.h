// All kernels by name.
#pragma once
#include <string_view>

namespace emulator {

struct Kernel {
    const char* name;
    void (*entry)(void** arguments);
    const char* signature;
};

// Null if there is none of this name.
const Kernel* find_kernel(std::string_view name, bool checked);

struct Registration {
    Registration(const char* name, bool checked, void (*entry)(void**), const char* signature);
};

}  // namespace emulator
