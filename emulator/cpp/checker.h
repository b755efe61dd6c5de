// Finds races, reads of uninitialised shared memory, and accesses out of bounds.
//
// Kernels compiled with -fsanitize=thread announce every access of memory; instead of the
// sanitizer's own runtime, which knows nothing of fibers, this checker receives them. Two accesses
// of one place, one of them a write, must be separated by a barrier that orders them: within a
// warp __syncwarp, within a block __syncthreads, between blocks nothing but atomics.
#pragma once
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace emulator {

class Checker {
public:
    void start_launch();
    void start_block();
    void access(const void* address, size_t bytes, bool write, bool atomic);

private:
    // A past access: by which thread, in which block, after how many barriers.
    struct Access {
        uint32_t block;
        uint16_t thread;
        bool valid, atomic;
        uint32_t block_barriers, warp_barriers;
    };
    // Of the readers since the last write, two different ones suffice: a write by any third thread
    // conflicts with both, a write by one of them with the other.
    struct Cell {
        Access writer, readers[2];
    };

    Access now(bool atomic) const;
    bool ordered(const Access& before, const Access& now) const;
    void check(Cell& cell, bool write, bool atomic, const char* memory, size_t place);

    std::vector<Cell> shared_;
    std::vector<bool> initialised_;
    std::unordered_map<uintptr_t, Cell> global_;
};

Checker& checker();

}  // namespace emulator
