// Atomic operations; fibers do not interrupt each other, so plain ones do. The checker is told,
// because two atomics never race.
#pragma once

namespace {
namespace dialect {

template <class T, class F>
__attribute__((no_sanitize("thread"), noinline)) T atomically(T* place, F change) {
    emulator::checker().access(place, sizeof(T), true, true);
    T before = *place;
    *place = change(before);
    return before;
}

}  // namespace dialect

#define EMULATOR_ATOMIC(name, after)                                                            \
    template <class T>                                                                          \
    inline T name(T* place, std::type_identity_t<T> value) {                                    \
        return dialect::atomically(                                                             \
            place, [=](T before) __attribute__((no_sanitize("thread"))) -> T { return after; }); \
    }
EMULATOR_ATOMIC(atomicAdd, before + value)
EMULATOR_ATOMIC(atomicSub, before - value)
EMULATOR_ATOMIC(atomicMax, before > value ? before : value)
EMULATOR_ATOMIC(atomicMin, before < value ? before : value)
EMULATOR_ATOMIC(atomicOr, before | value)
EMULATOR_ATOMIC(atomicExch, value)
#undef EMULATOR_ATOMIC

template <class T>
inline T atomicCAS(T* place, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
    return dialect::atomically(
        place, [=](T before) __attribute__((no_sanitize("thread"))) -> T {
            return before == expected ? value : before;
        });
}

// A read that may meet a concurrent atomic (device.cuh).
template <class T>
__attribute__((no_sanitize("thread"), noinline)) T load_relaxed(const T* place) {
    emulator::checker().access(place, sizeof(T), false, true);
    return *place;
}

}  // namespace
