#include "checker.h"

#include <algorithm>

#include "engine.h"

namespace emulator {

namespace {

// Accesses are followed in units of two bytes, the smallest type of any kernel.
constexpr size_t UNIT = 2;

extern "C" char __executable_start, _end;

bool in_program(uintptr_t address) {
    return address >= reinterpret_cast<uintptr_t>(&__executable_start) &&
           address < reinterpret_cast<uintptr_t>(&_end);
}

}  // namespace

Checker& checker() {
    static thread_local Checker instance;
    return instance;
}

void Checker::start_launch() { global_.clear(); }

void Checker::start_block() {
    shared_.assign(SHARED_BYTES / UNIT, Cell{});
    initialised_.assign(SHARED_BYTES / UNIT, false);
}

Checker::Access Checker::now(bool atomic) const {
    const Engine& e = engine();
    uint32_t block = e.block_index.x + e.grid.x * (e.block_index.y + e.grid.y * e.block_index.z);
    return {block,
            uint16_t(e.current->number),
            true,
            atomic,
            e.current->block_barriers,
            e.current->warp_barriers};
}

bool Checker::ordered(const Access& before, const Access& now) const {
    if (!before.valid) return true;
    if (before.atomic && now.atomic) return true;
    if (before.block != now.block) return false;
    if (before.thread == now.thread) return true;
    if (before.block_barriers != now.block_barriers) return true;
    return before.thread / 32 == now.thread / 32 && before.warp_barriers != now.warp_barriers;
}

void Checker::check(Cell& cell, bool write, bool atomic, const char* memory, size_t place) {
    Access self = now(atomic);
    Engine& e = engine();
    auto race = [&](const Access& other, const char* what) {
        e.fail("race on %s memory at byte %zu: %s by this thread, %s by thread %u of block %u, no "
               "barrier between them; last waited at %s:%d",
               memory, place, write ? "write" : "read", what, other.thread, other.block,
               e.current->place.file, e.current->place.line);
    };
    if (!ordered(cell.writer, self)) race(cell.writer, "write");
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
                e.fail("read of uninitialised shared memory at byte %zu; last waited at %s:%d",
                       offset, at.file, at.line);
            }
            check(shared_[unit], write, atomic, "shared", unit * UNIT);
            if (write) initialised_[unit] = true;
        }
        return;
    }
    if (!e.memory.contains(address, bytes)) {
        e.fail("%s of %zu bytes out of bounds of device memory, %s; last waited at %s:%d", what,
               bytes, e.memory.nearest(address).c_str(), at.file, at.line);
    }
    for (uintptr_t unit = address / UNIT; unit * UNIT < address + bytes; unit++) {
        check(global_[unit], write, atomic, "device", unit * UNIT);
    }
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
