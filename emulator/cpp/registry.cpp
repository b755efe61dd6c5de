#include "registry.h"

#include <cstring>
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

const std::string& product_kernels() {
    static const std::string names = [] {
        std::string lines;
        for (const auto& [name, kernel] : kernels(false)) {
            bool planted = strstr(kernel.file, "/planted/") != nullptr;
            if (!planted) lines.append(name).append("\n");
        }
        return lines;
    }();
    return names;
}

Registration::Registration(const char* name, const char* file, bool checked, void (*entry)(void**),
                           const char* signature, unsigned most_threads) {
    kernels(checked)[name] = {name, file, entry, signature, most_threads};
}

}  // namespace emulator
