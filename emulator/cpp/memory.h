// Device memory: poisoned when allocated, with a margin on either side that nobody may write.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace emulator {

class Memory {
public:
    ~Memory();

    // Null when `limit` would be exceeded.
    void* allocate(size_t bytes);
    void release(void* address);

    // What was written outside a buffer, once; empty if nothing was.
    std::string damage();

    // Whether all of these bytes are inside one buffer.
    bool contains(uintptr_t address, size_t bytes) const;
    // Where the address lies, in words.
    std::string nearest(uintptr_t address) const;

    size_t limit = SIZE_MAX;
    size_t used = 0;

private:
    std::map<uintptr_t, size_t> buffers_;
};

}  // namespace emulator
