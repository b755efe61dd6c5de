// Switching between the stacks of fibers.
#pragma once
#include <cstddef>

#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)

namespace emulator {

// A suspended thread of execution: its callee-saved registers lie on its stack.
struct Context {
    void* stack_pointer = nullptr;
};

extern "C" void emulator_switch_stack(void** save, void* resume);

inline void switch_context(Context& from, Context& to) {
    emulator_switch_stack(&from.stack_pointer, to.stack_pointer);
}

// Makes `context` start `entry` on an empty stack that ends at `top` (16-byte aligned).
inline void prepare_context(Context& context, char* top, std::size_t, void (*entry)()) {
    void** stack = reinterpret_cast<void**>(top);
    *--stack = nullptr;  // keeps the alignment that a call leaves behind
    *--stack = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; i++) *--stack = nullptr;
    context.stack_pointer = stack;
}

}  // namespace emulator

#else

#include <ucontext.h>

namespace emulator {

// The portable way, some 30 times slower: it saves the signal mask with a system call.
struct Context {
    ucontext_t state;
};

inline void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

inline void prepare_context(Context& context, char* top, std::size_t size, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = top - size;
    context.state.uc_stack.ss_size = size;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

}  // namespace emulator

#endif
