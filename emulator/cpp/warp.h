// What the 32 lanes of a warp do together.
#pragma once

namespace {
namespace dialect {

using emulator::engine;
using emulator::Fiber;
using emulator::Place;

enum class Shuffle { From, Up, Down, Xor };

template <class T>
struct ShuffleArgument {
    T value;
    int source;
    bool readable;
};

// Every lane receives the value of its source; a source that does not take part is an error.
template <class T>
__attribute__((no_sanitize("thread"))) void exchange(Fiber** lanes, unsigned mask) {
    T values[32];
    for (int i = 0; i < 32; i++) {
        if (mask >> i & 1) values[i] = static_cast<ShuffleArgument<T>*>(lanes[i]->argument)->value;
    }
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        auto& argument = *static_cast<ShuffleArgument<T>*>(lanes[i]->argument);
        argument.readable = mask >> argument.source & 1;
        if (argument.readable) argument.value = values[argument.source];
    }
}

template <class T>
inline T shuffle(unsigned mask, T value, Shuffle kind, int operand, int width, Place place) {
    static_assert(sizeof(T) <= 8);
    int lane = engine().current->lane;
    int first = lane & ~(width - 1);
    int source = lane;
    switch (kind) {
        case Shuffle::From: source = first + (operand & (width - 1)); break;
        case Shuffle::Up: source = lane - operand; break;
        case Shuffle::Down: source = lane + operand; break;
        case Shuffle::Xor: source = lane ^ operand; break;
    }
    // Beyond its group a lane keeps its own value.
    if (source < first && kind == Shuffle::Up) source = lane;
    if (source >= first + width) source = lane;
    ShuffleArgument<T> argument{value, source, true};
    engine().collective(mask, exchange<T>, &argument, place);
    if (!argument.readable) {
        engine().fail("shuffle at %s:%d reads lane %d, which takes no part", place.file,
                      place.line, source);
    }
    return argument.value;
}

enum class Reduction { Ballot, Add, Max, Min, Or, And, Barrier };

template <Reduction kind>
__attribute__((no_sanitize("thread"))) void reduce_lanes(Fiber** lanes, unsigned mask) {
    unsigned result = 0;
    bool first = true;
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        unsigned value = *static_cast<unsigned*>(lanes[i]->argument);
        switch (kind) {
            case Reduction::Ballot: result |= unsigned(value != 0) << i; break;
            case Reduction::Add: result += value; break;
            case Reduction::Max: result = first || value > result ? value : result; break;
            case Reduction::Min: result = first || value < result ? value : result; break;
            case Reduction::Or: result |= value; break;
            case Reduction::And: result = first ? value : result & value; break;
            case Reduction::Barrier: lanes[i]->warp_barriers++; break;
        }
        first = false;
    }
    if (kind == Reduction::Barrier) emulator::checker().join(lanes[0]->warp * 32, 32, mask);
    for (int i = 0; i < 32; i++) {
        if (mask >> i & 1) *static_cast<unsigned*>(lanes[i]->argument) = result;
    }
}

template <Reduction kind>
inline unsigned reduce(unsigned mask, unsigned value, Place place) {
    engine().collective(mask, reduce_lanes<kind>, &value, place);
    return value;
}

}  // namespace dialect

#define EMULATOR_SHUFFLE(name, kind)                                                              \
    template <class T>                                                                            \
    inline T name(unsigned mask, T value, int operand, int width = 32,                            \
                  emulator::Place place = emulator::Place::here()) {                              \
        return dialect::shuffle(mask, value, dialect::Shuffle::kind, operand, width, place);      \
    }
EMULATOR_SHUFFLE(__shfl_sync, From)
EMULATOR_SHUFFLE(__shfl_up_sync, Up)
EMULATOR_SHUFFLE(__shfl_down_sync, Down)
EMULATOR_SHUFFLE(__shfl_xor_sync, Xor)
#undef EMULATOR_SHUFFLE

#define EMULATOR_REDUCTION(name, kind)                                                            \
    inline unsigned name(unsigned mask, unsigned value,                                           \
                         emulator::Place place = emulator::Place::here()) {                       \
        return dialect::reduce<dialect::Reduction::kind>(mask, value, place);                     \
    }
EMULATOR_REDUCTION(__ballot_sync, Ballot)
EMULATOR_REDUCTION(__reduce_add_sync, Add)
EMULATOR_REDUCTION(__reduce_max_sync, Max)
EMULATOR_REDUCTION(__reduce_min_sync, Min)
EMULATOR_REDUCTION(__reduce_or_sync, Or)
EMULATOR_REDUCTION(__reduce_and_sync, And)
#undef EMULATOR_REDUCTION

inline int __any_sync(unsigned mask, int holds, emulator::Place place = emulator::Place::here()) {
    return __ballot_sync(mask, holds != 0, place) != 0;
}
inline int __all_sync(unsigned mask, int holds, emulator::Place place = emulator::Place::here()) {
    return __ballot_sync(mask, holds == 0, place) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu,
                       emulator::Place place = emulator::Place::here()) {
    dialect::reduce<dialect::Reduction::Barrier>(mask, 0, place);
}

}  // namespace
