// The dialect of CUDA that kernels/ is written in, for g++ -std=c++20.
//
// A kernel's translation unit includes this and then its .cu file inside an anonymous namespace
// (see build.rs), once as it is and once instrumented for the checker. Everything here is in an
// anonymous namespace too: of two inline functions of one name the linker would keep one.
#pragma once
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

#include "checker.h"
#include "engine.h"
#include "registry.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) alignas(n)
#define __restrict__ __restrict
#define __grid_constant__

#define threadIdx (::emulator::engine().current->index)
#define blockIdx (::emulator::engine().block_index)
#define blockDim (::emulator::engine().block)
#define gridDim (::emulator::engine().grid)
#define warpSize 32

using std::isfinite;
using std::isinf;
using std::isnan;

// ---- device.cuh's macros

// A kernel's bounds are kept under a number, which REGISTER, the next to count, finds again.
#define KERNEL KERNEL_BOUNDED(0)
#define KERNEL_BOUNDED(...)                                                           \
    template <>                                                                       \
    struct dialect::Bounds<__COUNTER__> {                                             \
        static constexpr unsigned MOST_THREADS = dialect::first(__VA_ARGS__);         \
    };                                                                                \
    static void
#define REGISTER(kernel)                                                              \
    static ::emulator::Registration emulator_registration_##kernel(                   \
        #kernel, __FILE__, EMULATOR_CHECKED, dialect::Entry<kernel>::call,            \
        dialect::Entry<kernel>::signature(), dialect::Bounds<__COUNTER__ - 1>::MOST_THREADS);
#define SHARED(type, name, dims)       \
    using name##_shared_t = type dims; \
    name##_shared_t& name =            \
        dialect::shared_variable<name##_shared_t>([] {})
#define SHARED_DYNAMIC(type, name) \
    type* name = reinterpret_cast<type*>(::emulator::engine().shared)
// Addresses of shared memory count from its start.
#define SHARED_DYNAMIC_ALIGNED(type, name, bytes) SHARED_DYNAMIC(type, name)

#include "numbers.h"

#include "intrinsics.h"
#include "warp.h"
#include "atomics.h"
#include "async_copy.h"
#include "matrix.h"
#include "hopper.h"

namespace {
namespace dialect {

template <int number>
struct Bounds;

// __launch_bounds__ may have two numbers; the second does not matter here.
constexpr unsigned first(unsigned threads, unsigned = 0) { return threads; }

// Each SHARED expands to a lambda of its own, whose type tells the variables apart.
template <class T, class Tag>
inline T& shared_variable(Tag) {
    static const char tag = 0;
    return *static_cast<T*>(emulator::engine().shared_variable(&tag, sizeof(T)));
}

// The types of a kernel's parameters, compared with what the host passes: a letter, or a struct's size.
template <class T>
std::string described() {
    if constexpr (std::is_pointer_v<T>) return "p";
    else if constexpr (std::is_same_v<T, int>) return "i";
    else if constexpr (std::is_same_v<T, unsigned>) return "u";
    else if constexpr (std::is_same_v<T, float>) return "f";
    else if constexpr (std::is_same_v<T, unsigned long long>) return "l";
    else if constexpr (std::is_class_v<T>) return "[" + std::to_string(sizeof(T)) + "]";
    else static_assert(!sizeof(T), "a kernel's parameter is a pointer, int, unsigned, float, "
                                   "unsigned long long or a struct");
}

// Calls a kernel with arguments as cuLaunchKernel takes them.
template <auto kernel>
struct Entry;

template <class... Parameters, void (*kernel)(Parameters...)>
struct Entry<kernel> {
    template <size_t... I>
    __attribute__((no_sanitize("thread"))) static void unpack(void** arguments,
                                                              std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_cv_t<Parameters>*>(arguments[I])...);
    }
    __attribute__((no_sanitize("thread"))) static void call(void** arguments) {
        unpack(arguments, std::index_sequence_for<Parameters...>{});
    }
    static const char* signature() {
        static const std::string all = (described<std::remove_cv_t<Parameters>>() + ... + "");
        return all.c_str();
    }
};

}  // namespace dialect
}  // namespace
