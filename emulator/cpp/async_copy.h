// cp.async: a copy of 16 bytes to shared memory, performed only when it is waited for. Until then
// the target holds poison, so a wait that is missing shows in every scheduling order.
#pragma once

namespace {
namespace dialect {

__attribute__((no_sanitize("thread"), noinline)) inline void start_copy(void* to, const void* from) {
    emulator::Engine& e = emulator::engine();
    auto misaligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 != 0; };
    if (misaligned(to) || misaligned(from)) e.fail("cp.async between places not 16-byte aligned");
    if (!e.in_shared(reinterpret_cast<uintptr_t>(to))) e.fail("cp.async to other than shared memory");
    if (from) emulator::checker().access(from, 16, false, false);
    emulator::checker().access(to, 16, true, false);
    emulator::Inside guard;
    memset(to, 0xff, 16);
    e.current->copies.push_back({to, from, e.current->copy_group});
}

__attribute__((no_sanitize("thread"), noinline)) inline void finish_copies(int groups_left) {
    emulator::Inside guard;
    emulator::Fiber& self = *emulator::engine().current;
    size_t done = 0;
    for (const emulator::PendingCopy& copy : self.copies) {
        if (copy.group >= self.copy_group - groups_left) break;
        if (copy.from) memcpy(copy.to, copy.from, 16);
        else memset(copy.to, 0, 16);
        done++;
    }
    self.copies.erase(self.copies.begin(), self.copies.begin() + done);
}

}  // namespace dialect

inline void cp_async_16(void* shared, const void* global) { dialect::start_copy(shared, global); }
inline void cp_async_16_or_zero(void* shared, const void* global, bool copy) {
    dialect::start_copy(shared, copy ? global : nullptr);
}
inline void cp_async_commit() { emulator::engine().current->copy_group++; }
template <int groups_left>
inline void cp_async_wait() {
    dialect::finish_copies(groups_left);
}

}  // namespace
