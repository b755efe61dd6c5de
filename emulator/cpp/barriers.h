// Synchronisation of parts of a block, as Hopper has it: barriers in shared memory (mbarrier) with the
// tensor copies that they wait for, named barriers, registers that warps hand to each other.
//
// A tensor copy's bytes arrive when a thread waits for their barrier and nothing else is missing: until
// then the target holds poison, in every scheduling order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "checker.h"

namespace emulator {

struct Fiber;
struct Place;

class Barriers {
public:
    void start_block(unsigned threads);

    // ---- barriers in shared memory
    void init(const void* barrier, int arrivals);
    void init_fence();
    // Arrives, and announces so many bytes.
    void arrive(const void* barrier, int bytes, Place place);
    void wait(const void* barrier, unsigned parity, Place place);

    // ---- named barriers
    void named(int number, int threads, bool waits, Place place);

    // ---- registers of a warp, from setmaxnreg
    void set_registers(unsigned warp, unsigned count, bool more);

    // ---- tensor copies
    void acquire_map(const void* map);
    void copy(void* to, const void* map, const void* barrier, const int* coordinates, int rank,
              Place place);
    // Whether some of these bytes of shared memory are still on their way.
    bool undelivered(size_t offset, size_t bytes) const;

    // What was left undone when all threads had returned; empty if nothing.
    std::string leftover() const;

private:
    struct Copy {
        size_t to;
        std::vector<unsigned char> image;
    };
    struct Shared {
        unsigned number;
        unsigned arrivals, pending;
        int64_t bytes;  // announced and not arrived
        unsigned phase;
        bool fenced;
        unsigned by;  // the thread that initialised it, and when
        uint32_t since;
        std::vector<Copy> copies;
        std::vector<Fiber*> waiting;
        Clock arriving, completed;
    };
    struct Named {
        int threads = 0, arrived = 0;
        std::vector<Fiber*> waiting;
        Clock clock;
    };

    Shared& find(const void* barrier, const char* what);
    bool due(const Shared& barrier) const;
    void deliver(Shared& barrier);
    void complete(Shared& barrier);

    void mark(const Copy& copy, bool under_way);

    std::map<size_t, Shared> shared_;
    // Of each 16 bytes of shared memory, which copies write as a whole.
    std::vector<bool> under_way_;
    std::vector<Named> named_;
    std::vector<unsigned> registers_;
    std::set<std::pair<unsigned, const void*>> acquired_;
    unsigned threads_ = 0;
};

}  // namespace emulator
