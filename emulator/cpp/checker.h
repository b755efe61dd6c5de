// Finds races, reads of uninitialised shared memory, and accesses out of bounds.
//
// Kernels compiled with -fsanitize=thread announce every access of memory; instead of the
// sanitizer's own runtime, which knows nothing of fibers, this checker receives them. Two accesses
// of one place, one of them a write, must be separated by a barrier that orders them: within a
// warp __syncwarp, within a block __syncthreads, between blocks nothing but atomics. Kernels that use
// Hopper's barriers are followed by vector clocks as well: what each thread knows to have happened.
#pragma once
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace emulator {

// For each thread, and each barrier in shared memory as the one that delivers copies, how far it is known:
// `seen` by threads, and `fenced` (fence.proxy.async) also by copies and warpgroup products.
struct Clock {
    static constexpr unsigned BARRIERS = 64;
    std::vector<uint32_t> seen, fenced;
};

class Checker {
public:
    void start_launch();
    void start_block();
    // For a launch that is not checked.
    void rest() { following_ = false; }
    void access(const void* address, size_t bytes, bool write, bool atomic);

    // ---- clocks; nothing happens unless the launch is checked and a thread has called `follow`
    void follow();
    // When the thread is, by its own clock.
    uint32_t epoch() const;
    bool knows(unsigned thread, uint32_t epoch) const;
    // What the thread knows goes to those who acquire the clock.
    void release(Clock& into);
    void acquire(const Clock& from);
    // The lanes of `mask` among each 32 of `count` threads from `first` on know what each of them does.
    void join(unsigned first, unsigned count, unsigned mask);
    // The lanes of this warp know what this thread has done.
    void share();
    // fence.proxy.async
    void fence();
    // Who acquires the clock knows that this phase of the barrier has ended.
    void note(Clock& clock, unsigned barrier, uint32_t phase) const;

    // ---- what happens beside the threads, in bytes of shared memory; `swizzle` is how many 16-byte units of a
    // row trade places
    void async_read(size_t offset, size_t bytes, unsigned swizzle);
    // By a copy that is there when the barrier's phase has ended.
    void async_write(size_t offset, size_t bytes, unsigned swizzle, unsigned barrier,
                     uint32_t phase);
    void delivered(size_t offset, size_t bytes);

private:
    // A past access: by which thread, in which block, after how many barriers.
    struct Access {
        uint32_t block;
        uint16_t thread;  // beyond the block's threads: a barrier's copies
        bool valid, atomic, async;
        uint32_t block_barriers, warp_barriers, epoch;
    };
    // Of the readers since the last write, two different ones suffice: a write by any third thread
    // conflicts with both, a write by one of them with the other.
    struct Cell {
        Access writer, readers[2];
    };

    Access now(bool atomic) const;
    Cell& shared_cell(size_t unit);
    // Words for a report, if the byte is still on its way.
    static const char* undelivered(size_t offset);
    bool ordered(const Access& before, const Access& now) const;
    bool fenced(const Access& before, const Access& now) const;

    void check(Cell& cell, const Access& self, bool write, const char* memory, size_t place);

    bool following_ = false;
    unsigned threads_ = 0;
    std::vector<Clock> clocks_;
    // Of all units, of which a block has touched some of the first.
    std::vector<Cell> shared_;
    size_t touched_ = 0;
    std::vector<bool> initialised_;
    // Of each 16 bytes that a copy has written and no thread since, the copy's swizzle; else 0.
    std::vector<uint8_t> swizzles_;
    std::unordered_map<uintptr_t, Cell> global_;
};

// As engine().
extern constinit thread_local Checker* own_checker;
Checker& make_checker();
__attribute__((no_sanitize("thread"))) inline Checker& checker() {
    return own_checker ? *own_checker : make_checker();
}

}  // namespace emulator
