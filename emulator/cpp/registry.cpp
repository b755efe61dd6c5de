#include "registry.h"

#include <map>

namespace emulator {

namespace {

std::map<std::string_view, Kernel>& kernels(bool checked) {
    static std::map<std::string_view, Kernel> both[2];
    return both[checked];
}

}  // namespace

const Kernel* find_kernel(std::string_view name, bool checked) {
    auto found = kernels(checked).find(name);
    return found == kernels(checked).end() ? nullptr : &found->second;
}

Registration::Registration(const char* name, bool checked, void (*entry)(void**),
                           const char* signature) {
    kernels(checked)[name] = {name, entry, signature};
}

}  // namespace emulator
