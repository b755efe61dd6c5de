#include "context.h"

#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)
// Saves what the System V calling convention asks a function to preserve, and the stack pointer.
__asm__(
    ".text\n"
    ".globl emulator_switch_stack\n"
    ".type emulator_switch_stack,@function\n"
    "emulator_switch_stack:\n"
    "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  mov %rsp,(%rdi)\n"
    "  mov %rsi,%rsp\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n"
    "  ret\n"
    ".size emulator_switch_stack,.-emulator_switch_stack\n"
    ".section .note.GNU-stack,\"\",@progbits\n");
#endif
