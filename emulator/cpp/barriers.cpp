#include "barriers.h"

#include <algorithm>
#include <cstring>

#include "engine.h"
#include "tensor_map.h"

namespace emulator {

namespace {

constexpr unsigned REGISTERS = 64 << 10;  // of a multiprocessor
constexpr size_t UNIT = 16;               // bytes that a copy moves as one

size_t shared_offset(const void* address) {
    return reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(engine().shared);
}

}  // namespace

void Barriers::start_block(unsigned threads) {
    shared_.clear();
    under_way_.assign(SHARED_BYTES / UNIT, false);
    named_.assign(16, Named{});
    registers_.assign((threads + 31) / 32, std::min(255u, REGISTERS / threads / 8 * 8));
    acquired_.clear();
    threads_ = threads;
}

// ---- barriers in shared memory

void Barriers::init(const void* barrier, int arrivals) {
    Inside guard;
    Engine& e = engine();
    checker().follow();
    size_t offset = shared_offset(barrier);
    if (!e.in_shared(reinterpret_cast<uintptr_t>(barrier)) || offset % 8 != 0 ||
        !e.shared_has(offset, 8)) {
        e.fail("mbarrier.init of what is not 8 aligned bytes of shared memory");
    }
    if (arrivals < 1) e.fail("mbarrier.init for %d arrivals", arrivals);
    if (shared_.count(offset)) e.fail("mbarrier.init of a barrier in use");
    if (shared_.size() == Clock::BARRIERS) e.fail("more than %u barriers", Clock::BARRIERS);
    Shared& made = shared_[offset];
    made = {};
    made.number = unsigned(shared_.size() - 1);
    made.arrivals = made.pending = unsigned(arrivals);
    made.by = e.current->number;
    made.since = checker().epoch();
    checker().release(made.arriving);
}

void Barriers::init_fence() {
    for (auto& [offset, barrier] : shared_) {
        if (barrier.by == engine().current->number) barrier.fenced = true;
    }
}

Barriers::Shared& Barriers::find(const void* barrier, const char* what) {
    Engine& e = engine();
    auto found = shared_.find(shared_offset(barrier));
    if (found == shared_.end()) e.fail("%s: no barrier was initialised there", what);
    Shared& own = found->second;
    if (!checker().knows(own.by, own.since)) {
        e.fail("%s: the barrier's initialisation by thread %u is not ordered before", what, own.by);
    }
    return own;
}

bool Barriers::due(const Shared& barrier) const {
    if (barrier.pending > 0) return false;
    int64_t bytes = 0;
    for (const Copy& copy : barrier.copies) bytes += int64_t(copy.image.size());
    return bytes == barrier.bytes;
}

void Barriers::deliver(Shared& barrier) {
    for (const Copy& copy : barrier.copies) {
        memcpy(engine().shared + copy.to, copy.image.data(), copy.image.size());
        mark(copy, false);
        checker().delivered(copy.to, copy.image.size());
    }
    barrier.copies.clear();
    barrier.bytes = 0;
    complete(barrier);
}

void Barriers::complete(Shared& barrier) {
    barrier.phase++;
    barrier.pending = barrier.arrivals;
    barrier.completed = barrier.arriving;
    checker().note(barrier.completed, barrier.number, barrier.phase);
    for (Fiber* fiber : barrier.waiting) engine().wake(fiber);
    barrier.waiting.clear();
}

void Barriers::arrive(const void* barrier, int bytes, Place place) {
    Inside guard;
    Shared& own = find(barrier, "mbarrier.arrive");
    if (own.pending == 0) {
        engine().fail("mbarrier.arrive at %s:%d: more arrivals than the %u of the phase", place.file,
                      place.line, own.arrivals);
    }
    own.bytes += bytes;
    own.pending--;
    checker().release(own.arriving);
    if (own.pending > 0) return;
    if (own.bytes == 0) {
        // Copies that nobody announced arrive when they will; here, never in time.
        complete(own);
    } else if (!own.waiting.empty() && due(own)) {
        deliver(own);
    }
}

void Barriers::wait(const void* barrier, unsigned parity, Place place) {
    Inside guard;
    Shared& own = find(barrier, "mbarrier.try_wait");
    while ((own.phase & 1) == (parity & 1)) {
        if (due(own)) {
            deliver(own);
        } else {
            own.waiting.push_back(engine().current);
            engine().sleep(State::AtSharedBarrier, place);
        }
    }
    engine().current->place = place;
    checker().acquire(own.completed);
}

// ---- named barriers

void Barriers::named(int number, int threads, bool waits, Place place) {
    Inside guard;
    Engine& e = engine();
    checker().follow();
    if (number < 1 || number > 15 || threads < 32 || threads % 32 != 0 ||
        unsigned(threads) > threads_) {
        e.fail("named barrier %d for %d threads at %s:%d", number, threads, place.file, place.line);
    }
    Named& own = named_[size_t(number)];
    if (own.arrived > 0 && own.threads != threads) {
        e.fail("named barrier %d for %d threads at %s:%d, for %d elsewhere", number, threads,
               place.file, place.line, own.threads);
    }
    own.threads = threads;
    checker().release(own.clock);
    if (++own.arrived < threads) {
        if (waits) {
            own.waiting.push_back(e.current);
            e.sleep(State::AtNamedBarrier, place);
            // The clock holds what those who came brought; a later round cannot have ended meanwhile.
            checker().acquire(own.clock);
        }
        return;
    }
    own.arrived = 0;
    for (Fiber* fiber : own.waiting) e.wake(fiber);
    own.waiting.clear();
    if (waits) checker().acquire(own.clock);
}

void Barriers::set_registers(unsigned warp, unsigned count, bool more) {
    Engine& e = engine();
    unsigned& own = registers_[warp];
    if (count < 24 || count > 256 || count % 8 != 0) e.fail("setmaxnreg of %u registers", count);
    if (more ? count < own : count > own) {
        e.fail("setmaxnreg.%s to %u registers, of %u", more ? "inc" : "dec", count, own);
    }
    own = count;
}

// ---- tensor copies

void Barriers::acquire_map(const void* map) {
    acquired_.insert({engine().current->number, map});
}

void Barriers::copy(void* to, const void* map, const void* barrier, const int* coordinates, int rank,
                    Place place) {
    Inside guard;
    Engine& e = engine();
    auto told = *static_cast<const EncodedTensorMap*>(map);
    if (told.magic != TENSOR_MAP_MAGIC || told.rank != rank) {
        e.fail("tensor copy at %s:%d in %d dimensions with what is no map of them", place.file,
               place.line, rank);
    }
    if (reinterpret_cast<uintptr_t>(map) % 64 != 0) e.fail("a tensor map not 64-byte aligned");
    if (e.memory.contains(reinterpret_cast<uintptr_t>(map), sizeof told) &&
        !acquired_.count({e.current->number, map})) {
        e.fail("tensor copy at %s:%d with a map in device memory, no fence.proxy.tensormap before",
               place.file, place.line);
    }
    Shared& own = find(barrier, "tensor copy");
    if (!own.fenced) {
        e.fail("tensor copy at %s:%d to a barrier with no fence after its initialisation (a proxy "
               "fence is missing)",
               place.file, place.line);
    }
    size_t offset = shared_offset(to), bytes = box_bytes(told);
    if (!e.in_shared(reinterpret_cast<uintptr_t>(to)) || offset % 128 != 0 ||
        !e.shared_has(offset, bytes)) {
        e.fail("tensor copy at %s:%d to byte %zu of shared memory: not %zu bytes from a multiple of 128",
               place.file, place.line, offset, bytes);
    }
    if (undelivered(offset, bytes)) {
        e.fail("tensor copy at %s:%d to where another is under way", place.file, place.line);
    }
    checker().async_write(offset, bytes, told.swizzle, own.number, own.phase + 1);
    memset(e.shared + offset, 0xff, bytes);
    own.copies.push_back({offset, box_image(told, coordinates, offset)});
    mark(own.copies.back(), true);
    if (!own.waiting.empty() && due(own)) deliver(own);
}

void Barriers::mark(const Copy& copy, bool under_way) {
    const size_t end = copy.to + copy.image.size();
    for (size_t place = copy.to; place < end; place += UNIT) under_way_[place / UNIT] = under_way;
}

bool Barriers::undelivered(size_t offset, size_t bytes) const {
    for (size_t unit = offset / UNIT; unit * UNIT < offset + bytes; unit++) {
        if (under_way_[unit]) return true;
    }
    return false;
}

std::string Barriers::leftover() const {
    size_t copies = 0;
    for (const auto& [place, barrier] : shared_) copies += barrier.copies.size();
    if (copies) return "the block ended with " + std::to_string(copies) + " tensor copies not waited for";
    for (size_t number = 0; number < named_.size(); number++) {
        if (named_[number].arrived) {
            return "the block ended with " + std::to_string(named_[number].arrived) +
                   " threads at named barrier " + std::to_string(number);
        }
    }
    unsigned registers = 0;
    for (unsigned count : registers_) registers += count * 32;
    if (registers > REGISTERS) {
        return "setmaxnreg: warps have " + std::to_string(registers) + " registers together, of " +
               std::to_string(REGISTERS);
    }
    return {};
}

}  // namespace emulator
