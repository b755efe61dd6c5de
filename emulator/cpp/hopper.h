// Twins of kernels/ptx_hopper.cuh; barriers.h, tensor_map.h and warpgroup.h say what they do.
#pragma once

#define HOPPER 1

namespace {

using SharedBarrier = unsigned long long;

struct alignas(64) TensorMap {
    unsigned long long opaque[16];
};

inline uint32_t shared_address(const void* p) {
    return uint32_t(static_cast<const char*>(p) - emulator::engine().shared);
}

inline void barrier_init(SharedBarrier* barrier, int arrivals) {
    emulator::engine().barriers.init(barrier, arrivals);
}
inline void barrier_init_fence() { emulator::engine().barriers.init_fence(); }
inline void barrier_arrive(SharedBarrier* barrier, emulator::Place place = emulator::Place::here()) {
    emulator::engine().barriers.arrive(barrier, 0, place);
}
inline void barrier_arrive_expecting(SharedBarrier* barrier, int bytes,
                                     emulator::Place place = emulator::Place::here()) {
    emulator::engine().barriers.arrive(barrier, bytes, place);
}
inline void barrier_wait(SharedBarrier* barrier, unsigned parity,
                         emulator::Place place = emulator::Place::here()) {
    emulator::engine().barriers.wait(barrier, parity, place);
}

inline void named_barrier_sync(int number, int threads,
                               emulator::Place place = emulator::Place::here()) {
    emulator::engine().barriers.named(number, threads, true, place);
}
inline void named_barrier_arrive(int number, int threads,
                                 emulator::Place place = emulator::Place::here()) {
    emulator::engine().barriers.named(number, threads, false, place);
}

// Any lane may be the one.
inline bool elect_one(emulator::Place place = emulator::Place::here()) {
    __ballot_sync(~0u, 1, place);
    const unsigned elected = emulator::engine().order == emulator::Order::Reverse ? 31 : 0;
    return emulator::engine().current->lane == elected;
}
template <int registers>
inline void keep_registers(emulator::Place place = emulator::Place::here()) {
    __ballot_sync(~0u, 1, place);
    emulator::Engine& e = emulator::engine();
    if (e.current->lane == 0) e.barriers.set_registers(e.current->warp, registers, false);
}
template <int registers>
inline void take_registers(emulator::Place place = emulator::Place::here()) {
    __ballot_sync(~0u, 1, place);
    emulator::Engine& e = emulator::engine();
    if (e.current->lane == 0) e.barriers.set_registers(e.current->warp, registers, true);
}

inline void async_proxy_fence() { emulator::checker().fence(); }
inline void tensor_map_acquire(const TensorMap* map) {
    emulator::engine().barriers.acquire_map(map);
}
inline void tensor_copy(void* shared, const TensorMap* map, SharedBarrier* barrier, int x, int y,
                        emulator::Place place = emulator::Place::here()) {
    const int coordinates[4] = {x, y};
    emulator::engine().barriers.copy(shared, map, barrier, coordinates, 2, place);
}
// Coordinates are int: a Place is no number.
inline void tensor_copy(void* shared, const TensorMap* map, SharedBarrier* barrier, int x, int y,
                        int z, emulator::Place place = emulator::Place::here()) {
    const int coordinates[4] = {x, y, z};
    emulator::engine().barriers.copy(shared, map, barrier, coordinates, 3, place);
}
inline void tensor_copy(void* shared, const TensorMap* map, SharedBarrier* barrier, int x, int y,
                        int z, int w, emulator::Place place = emulator::Place::here()) {
    const int coordinates[4] = {x, y, z, w};
    emulator::engine().barriers.copy(shared, map, barrier, coordinates, 4, place);
}

inline void wgmma_fence(emulator::Place place = emulator::Place::here()) {
    emulator::engine().collective(~0u, emulator::fence_registers, nullptr, place);
}
inline void wgmma_commit(emulator::Place place = emulator::Place::here()) {
    emulator::engine().collective(~0u, emulator::commit_products, nullptr, place);
}
template <int groups_left, int N>
inline void wgmma_wait(float (&)[N][4], emulator::Place place = emulator::Place::here()) {
    int left = groups_left;
    emulator::engine().collective(~0u, emulator::await_products, &left, place);
}

#define EMULATOR_WGMMA(type, is_half)                                                           \
    template <int a_transposed, int b_transposed, int N>                                        \
    inline void wgmma_##type(float (&d)[N][4], uint64_t a, uint64_t b, int accumulate,          \
                             emulator::Place place = emulator::Place::here()) {                 \
        emulator::ProductArgument argument{&d[0][0],          N,                 nullptr,         \
                                           a,                 b,                 a_transposed != 0, \
                                           b_transposed != 0, accumulate != 0, is_half};        \
        emulator::engine().collective(~0u, emulator::start_product, &argument, place);          \
    }                                                                                           \
    template <int b_transposed, int N>                                                          \
    inline void wgmma_##type(float (&d)[N][4], const uint32_t (&a)[4], uint64_t b,              \
                             int accumulate, emulator::Place place = emulator::Place::here()) { \
        emulator::ProductArgument argument{&d[0][0], N,     a,                 0, b,              \
                                           false,    b_transposed != 0, accumulate != 0,        \
                                           is_half};                                            \
        emulator::engine().collective(~0u, emulator::start_product, &argument, place);          \
    }
EMULATOR_WGMMA(bf16, false)
EMULATOR_WGMMA(f16, true)
#undef EMULATOR_WGMMA

}  // namespace
