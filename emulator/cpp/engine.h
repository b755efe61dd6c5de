// Runs one thread block at a time, each of its threads as a fiber on one thread of the host.
//
// A thread runs until it waits: at a barrier of its block, or at a collective operation of its
// warp. The last to arrive lets the others go on. In which order they do is the scheduling order:
// a kernel whose result depends on it lacks a barrier.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "barriers.h"
#include "context.h"
#include "memory.h"
#include "warpgroup.h"

namespace emulator {

struct Index {
    unsigned x, y, z;
};

// Where in the source a thread waits; filled in at the call by the default argument.
struct Place {
    const char* file;
    int line;
    static Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
        return {file, line};
    }
};

enum class State : uint8_t { Ready, AtBarrier, AtCollective, AtSharedBarrier, AtNamedBarrier, Finished };

// A cp.async that has not been waited for.
struct PendingCopy {
    void* to;
    const void* from;  // null: zeros
    int group;
};

struct Fiber;

// What a warp does together; receives the fibers of all 32 lanes and which of them take part.
using Collective = void (*)(Fiber** lanes, unsigned mask);

// One CUDA thread.
struct Fiber {
    Context context;
    char* stack;
    Index index;
    unsigned number, lane, warp;
    State state;
    Place place;
    // Barriers passed: accesses before and after one are ordered.
    unsigned block_barriers, warp_barriers;
    // Its part in the collective at which it waits.
    Collective collective;
    void* argument;
    unsigned mask;
    std::vector<PendingCopy> copies;
    int copy_group;
};

struct Warp {
    unsigned waiting, alive;
    WarpProducts products;
};

enum class Order : int { Forward = 0, Reverse = 1, Random = 2 };

constexpr unsigned MAX_THREADS = 1024;
constexpr size_t STACK_BYTES = 128 << 10;
// Shared memory of a block: more than any card has, 227 KiB.
constexpr size_t SHARED_BYTES = 256 << 10;
constexpr size_t MAX_DYNAMIC_SHARED = 227 << 10;

struct Launch {
    const char* kernel;
    Index grid, block;
    size_t dynamic_shared;
    void (*entry)(void** arguments);
    void** arguments;
    bool checked;
};

// One emulated device; every thread of the host has its own.
class Engine {
public:
    Engine();
    ~Engine();

    // Runs a kernel over its whole grid; false if it failed, with the reason in `error`.
    bool run(const Launch& launch);

    // Ends the launch with this message. Does not return when called inside a kernel.
    void fail(const char* format, ...) __attribute__((format(printf, 2, 3)));

    void block_barrier(Place place);
    void collective(unsigned mask, Collective function, void* argument, Place place);

    // Runs others until somebody wakes this thread.
    void sleep(State state, Place place);
    void wake(Fiber* fiber);

    // A warp's part of warpgroup products.
    WarpProducts& products(unsigned warp) { return warps_[warp].products; }

    // Shared memory of a `__shared__` variable, found again by the address of its tag.
    void* shared_variable(const void* tag, size_t bytes);

    // Whether this is the emulator's own data or a thread's stack.
    bool owns(uintptr_t address) const;
    bool in_shared(uintptr_t address) const;
    // Whether all of these bytes, counted from the start, belong to the block's dynamic shared memory
    // or to one of its variables.
    bool shared_has(size_t place, size_t bytes) const;

    Fiber* current = nullptr;  // null: the host
    Index block_index{}, block{}, grid{};
    char* shared = nullptr;
    size_t dynamic_shared = 0;
    size_t static_shared = 0;  // end of the static variables so far
    bool checked = false;
    // Set while the emulator itself runs, whose accesses are not the kernel's.
    bool inside = true;
    Order order = Order::Forward;
    uint64_t random = 1;
    std::string error;
    const char* kernel = "";
    Memory memory;
    Barriers barriers;

private:
    struct SharedVariable {
        const void* tag;
        size_t offset, bytes;
    };

    void start_block(uint64_t number, unsigned threads);
    void resume(Fiber* next);
    void push(Fiber* fiber);
    Fiber* pop();
    void wait();
    void yield();
    void finish();
    void end_block();
    void deadlock();
    uint64_t next_random();
    static void trampoline();

    std::vector<Fiber> fibers_;
    std::vector<Warp> warps_;
    std::vector<Fiber*> queue_;
    size_t queue_head_ = 0, queued_ = 0;
    std::vector<SharedVariable> variables_;
    Context host_;
    char* stacks_ = nullptr;
    unsigned threads_ = 0, alive_ = 0, at_barrier_ = 0;
    void (*entry_)(void**) = nullptr;
    void** arguments_ = nullptr;
    bool failed_ = false;
};

// Each thread of the tests has its own, made when it is first asked for. A pointer that the compiler can follow: it is
// asked for at every access; which is none of the kernel's own.
extern constinit thread_local Engine* own_engine;
Engine& make_engine();
__attribute__((no_sanitize("thread"))) inline Engine& engine() {
    return own_engine ? *own_engine : make_engine();
}

// Marks a stretch of the emulator's own work inside a kernel.
struct Inside {
    Inside() : engine_(engine()), before_(engine_.inside) { engine_.inside = true; }
    ~Inside() { engine_.inside = before_; }
    Engine& engine_;

private:
    bool before_;
};

}  // namespace emulator
