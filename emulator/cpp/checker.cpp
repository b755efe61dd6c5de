#include "checker.h"

#include <algorithm>

#include "engine.h"

namespace emulator {

namespace {

// Accesses are followed in units of two bytes, the smallest type of any kernel.
constexpr size_t UNIT = 2;
// What a swizzle moves.
constexpr size_t MOVED = 16;

extern "C" char __executable_start, _end;

bool in_program(uintptr_t address) {
    return address >= reinterpret_cast<uintptr_t>(&__executable_start) &&
           address < reinterpret_cast<uintptr_t>(&_end);
}

}  // namespace

constinit thread_local Checker* own_checker = nullptr;

Checker& make_checker() {
    static thread_local Checker instance;
    own_checker = &instance;
    return instance;
}

void Checker::start_launch() { global_.clear(); }

void Checker::start_block() {
    shared_.resize(SHARED_BYTES / UNIT);
    std::fill_n(shared_.begin(), touched_, Cell{});
    touched_ = 0;
    initialised_.assign(SHARED_BYTES / UNIT, false);
    swizzles_.assign(SHARED_BYTES / MOVED, 0);
    following_ = false;
}

Checker::Access Checker::now(bool atomic) const {
    const Engine& e = engine();
    uint32_t block = e.block_index.x + e.grid.x * (e.block_index.y + e.grid.y * e.block_index.z);
    return {block,
            uint16_t(e.current->number),
            true,
            atomic,
            false,
            e.current->block_barriers,
            e.current->warp_barriers,
            epoch()};
}

Checker::Cell& Checker::shared_cell(size_t unit) {
    touched_ = std::max(touched_, unit + 1);
    return shared_[unit];
}

bool Checker::ordered(const Access& before, const Access& now) const {
    if (!before.valid) return true;
    if (before.atomic && now.atomic) return true;
    if (before.block != now.block) return false;
    if (before.thread == now.thread) return true;
    if (following_ && before.epoch <= clocks_[engine().current->number].seen[before.thread]) {
        return true;
    }
    // Copies are known by their barrier alone.
    if (following_ && (before.thread >= threads_ || now.thread >= threads_)) return false;
    if (before.block_barriers != now.block_barriers) return true;
    return before.thread / 32 == now.thread / 32 && before.warp_barriers != now.warp_barriers;
}

// Whether what a thread wrote is visible to copies and products.
bool Checker::fenced(const Access& before, const Access& now) const {
    if (!before.valid || !now.async || before.async) return true;
    return before.epoch <= clocks_[engine().current->number].fenced[before.thread];
}

void Checker::check(Cell& cell, const Access& self, bool write, const char* memory, size_t place) {
    Engine& e = engine();
    auto race = [&](const Access& other, const char* what) {
        e.fail("race on %s memory at byte %zu: %s by this thread, %s by thread %u of block %u, no "
               "barrier between them; last waited at %s:%d",
               memory, place, write ? "write" : "read", what, other.thread, other.block,
               e.current->place.file, e.current->place.line);
    };
    if (!ordered(cell.writer, self)) race(cell.writer, "write");
    if (!fenced(cell.writer, self)) {
        e.fail("no fence.proxy.async between the write of shared memory at byte %zu by thread %u and "
               "its use by a copy or a warpgroup product",
               place, cell.writer.thread);
    }
    if (!write) {
        Access& first = cell.readers[0];
        if (!first.valid || ordered(first, self)) {
            first = self;
        } else {
            cell.readers[1] = self;
        }
        return;
    }
    for (const Access& reader : cell.readers) {
        if (!ordered(reader, self)) race(reader, "read");
    }
    cell.writer = self;
    cell.readers[0].valid = cell.readers[1].valid = false;
}

void Checker::access(const void* pointer, size_t bytes, bool write, bool atomic) {
    Engine& e = engine();
    if (e.inside || !e.checked || !e.current) return;
    Inside guard;
    auto address = reinterpret_cast<uintptr_t>(pointer);
    if (e.owns(address) || in_program(address)) return;
    const char* what = write ? "write" : "read";
    const Place& at = e.current->place;
    if (bytes <= 16 && address % bytes != 0) {
        e.fail("misaligned %s of %zu bytes; last waited at %s:%d", what, bytes, at.file, at.line);
    }
    if (e.in_shared(address)) {
        size_t offset = address - reinterpret_cast<uintptr_t>(e.shared);
        if (!e.shared_has(offset, bytes)) {
            e.fail("%s of %zu bytes out of bounds of shared memory, at byte %zu; %zu are dynamic; "
                   "last waited at %s:%d",
                   what, bytes, offset, e.dynamic_shared, at.file, at.line);
        }
        for (size_t unit = offset / UNIT; unit * UNIT < offset + bytes; unit++) {
            if ((!write || atomic) && !initialised_[unit]) {
                e.fail("read of uninitialised shared memory at byte %zu%s; last waited at %s:%d",
                       offset, undelivered(offset), at.file, at.line);
            }
            check(shared_cell(unit), now(atomic), write, "shared", unit * UNIT);
            if (write) {
                initialised_[unit] = true;
                swizzles_[unit * UNIT / MOVED] = 0;
            }
        }
        return;
    }
    if (!e.memory.contains(address, bytes)) {
        e.fail("%s of %zu bytes out of bounds of device memory, %s; last waited at %s:%d", what,
               bytes, e.memory.nearest(address).c_str(), at.file, at.line);
    }
    for (uintptr_t unit = address / UNIT; unit * UNIT < address + bytes; unit++) {
        check(global_[unit], now(atomic), write, "device", unit * UNIT);
    }
}

// ---- clocks

namespace {

void raise(std::vector<uint32_t>& own, const std::vector<uint32_t>& other) {
    if (own.size() < other.size()) own.resize(other.size());
    for (size_t i = 0; i < other.size(); i++) own[i] = std::max(own[i], other[i]);
}

void raise(Clock& own, const Clock& other) {
    raise(own.seen, other.seen);
    raise(own.fenced, other.fenced);
}

}  // namespace

void Checker::follow() {
    const Engine& e = engine();
    if (!e.checked || following_) return;
    following_ = true;
    threads_ = e.block.x * e.block.y * e.block.z;
    const std::vector<uint32_t> none(threads_ + Clock::BARRIERS, 0);
    clocks_.assign(threads_, Clock{none, none});
    for (unsigned thread = 0; thread < threads_; thread++) clocks_[thread].seen[thread] = 1;
}

uint32_t Checker::epoch() const {
    const unsigned thread = engine().current->number;
    return following_ ? clocks_[thread].seen[thread] : 1;
}

bool Checker::knows(unsigned thread, uint32_t epoch) const {
    return !following_ || epoch <= clocks_[engine().current->number].seen[thread];
}

void Checker::release(Clock& into) {
    if (!following_) return;
    const unsigned thread = engine().current->number;
    raise(into, clocks_[thread]);
    clocks_[thread].seen[thread]++;
}

void Checker::acquire(const Clock& from) {
    if (following_) raise(clocks_[engine().current->number], from);
}

void Checker::join(unsigned first, unsigned count, unsigned mask) {
    if (!following_) return;
    Clock all;
    const unsigned end = std::min(first + count, threads_);
    for (unsigned thread = first; thread < end; thread++) {
        if (mask >> thread % 32 & 1) raise(all, clocks_[thread]);
    }
    for (unsigned thread = first; thread < end; thread++) {
        if (!(mask >> thread % 32 & 1)) continue;
        clocks_[thread] = all;
        clocks_[thread].seen[thread]++;
    }
}

void Checker::share() {
    if (!following_) return;
    const unsigned self = engine().current->number, first = self / 32 * 32;
    const uint32_t done = clocks_[self].seen[self]++;
    for (unsigned thread = first; thread < std::min(first + 32, threads_); thread++) {
        if (thread != self) clocks_[thread].seen[self] = done;
    }
}

void Checker::fence() {
    follow();
    if (!following_) return;
    const unsigned thread = engine().current->number;
    raise(clocks_[thread].fenced, clocks_[thread].seen);
    // What is written from here on is later.
    clocks_[thread].seen[thread]++;
}

void Checker::note(Clock& clock, unsigned barrier, uint32_t phase) const {
    if (following_) clock.seen[threads_ + barrier] = phase;
}

// ---- beside the threads

const char* Checker::undelivered(size_t offset) {
    return engine().barriers.undelivered(offset, UNIT) ? ", which a tensor copy has not delivered"
                                                       : "";
}

void Checker::async_read(size_t offset, size_t bytes, unsigned swizzle) {
    follow();
    if (!following_) return;
    for (size_t moved = offset / MOVED; moved * MOVED < offset + bytes; moved++) {
        const unsigned copied = swizzles_[moved];
        if (copied && copied != swizzle) {
            engine().fail("a warpgroup product reads shared memory at byte %zu with a swizzle of %zu bytes, and "
                          "a tensor copy wrote it with one of %zu",
                          offset, swizzle * MOVED, copied * MOVED);
        }
    }
    Access self = now(false);
    self.async = true;
    for (size_t unit = offset / UNIT; unit * UNIT < offset + bytes; unit++) {
        if (!initialised_[unit]) {
            engine().fail("a warpgroup product reads uninitialised shared memory at byte %zu%s",
                          unit * UNIT, undelivered(offset));
        }
        check(shared_cell(unit), self, false, "shared", unit * UNIT);
    }
}

void Checker::async_write(size_t offset, size_t bytes, unsigned swizzle, unsigned barrier,
                          uint32_t phase) {
    if (!following_) return;
    std::fill_n(swizzles_.begin() + std::ptrdiff_t(offset / MOVED), (bytes + MOVED - 1) / MOVED,
                uint8_t(swizzle));
    Access self = now(false);
    self.async = true;
    for (size_t unit = offset / UNIT; unit * UNIT < offset + bytes; unit++) {
        Cell& cell = shared_cell(unit);
        check(cell, self, true, "shared", unit * UNIT);
        cell.writer.thread = uint16_t(threads_ + barrier);
        cell.writer.epoch = phase;
        initialised_[unit] = false;
    }
}

void Checker::delivered(size_t offset, size_t bytes) {
    if (!following_) return;
    std::fill_n(initialised_.begin() + std::ptrdiff_t(offset / UNIT), bytes / UNIT, true);
}

}  // namespace emulator

// ---- what -fsanitize=thread calls

using emulator::checker;

#define ANNOUNCE(kind, bytes, write)                                  \
    extern "C" void __tsan_##kind##bytes(void* address) {             \
        checker().access(address, bytes, write, false);               \
    }
#define ANNOUNCE_BOTH(bytes)             \
    ANNOUNCE(read, bytes, false)         \
    ANNOUNCE(write, bytes, true)         \
    ANNOUNCE(unaligned_read, bytes, false) \
    ANNOUNCE(unaligned_write, bytes, true) \
    ANNOUNCE(volatile_read, bytes, false)  \
    ANNOUNCE(volatile_write, bytes, true)

ANNOUNCE_BOTH(1)
ANNOUNCE_BOTH(2)
ANNOUNCE_BOTH(4)
ANNOUNCE_BOTH(8)
ANNOUNCE_BOTH(16)

extern "C" void __tsan_read_range(void* address, unsigned long bytes) {
    checker().access(address, bytes, false, false);
}
extern "C" void __tsan_write_range(void* address, unsigned long bytes) {
    checker().access(address, bytes, true, false);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
