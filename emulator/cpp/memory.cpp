#include "memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace emulator {

namespace {

constexpr size_t ALIGNMENT = 256;  // as the driver's
constexpr size_t MARGIN = 256;
constexpr unsigned char UNTOUCHED = 0xa5;

// After every launch, of every buffer.
bool untouched(const unsigned char* bytes) {
    static const std::vector<unsigned char> margin(MARGIN, UNTOUCHED);
    return memcmp(bytes, margin.data(), MARGIN) == 0;
}

}  // namespace

Memory::~Memory() {
    for (auto& [start, bytes] : buffers_) free(reinterpret_cast<char*>(start) - MARGIN);
}

void* Memory::allocate(size_t bytes) {
    if (bytes > limit - used) return nullptr;
    size_t whole = (bytes + 2 * MARGIN + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    char* block = static_cast<char*>(aligned_alloc(ALIGNMENT, whole));
    if (!block) return nullptr;
    char* start = block + MARGIN;
    memset(block, UNTOUCHED, whole);
    memset(start, 0xff, bytes);
    buffers_[reinterpret_cast<uintptr_t>(start)] = bytes;
    used += bytes;
    return start;
}

void Memory::release(void* address) {
    auto found = buffers_.find(reinterpret_cast<uintptr_t>(address));
    if (found == buffers_.end()) {
        fputs("emulator: freed what was not allocated\n", stderr);
        abort();
    }
    used -= found->second;
    buffers_.erase(found);
    free(static_cast<char*>(address) - MARGIN);
}

std::string Memory::damage() {
    for (auto& [start, bytes] : buffers_) {
        auto buffer = reinterpret_cast<unsigned char*>(start);
        const char* where = !untouched(buffer - MARGIN) ? "before the start"
                            : !untouched(buffer + bytes) ? "past the end"
                                                         : nullptr;
        if (!where) continue;
        memset(buffer - MARGIN, UNTOUCHED, MARGIN);
        memset(buffer + bytes, UNTOUCHED, MARGIN);
        char text[128];
        snprintf(text, sizeof text, "wrote %s of a buffer of %zu bytes", where, bytes);
        return text;
    }
    return {};
}

bool Memory::contains(uintptr_t address, size_t bytes) const {
    auto after = buffers_.upper_bound(address);
    if (after == buffers_.begin()) return false;
    auto [start, size] = *--after;
    return address + bytes <= start + size;
}

std::string Memory::nearest(uintptr_t address) const {
    auto after = buffers_.upper_bound(address);
    if (after == buffers_.begin()) return "before all buffers";
    auto [start, size] = *--after;
    char text[96];
    snprintf(text, sizeof text, "%zu bytes from the start of a buffer of %zu bytes",
             size_t(address - start), size);
    return text;
}

}  // namespace emulator
