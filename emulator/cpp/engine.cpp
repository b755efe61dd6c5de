#include "engine.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "checker.h"

namespace emulator {

constinit thread_local Engine* own_engine = nullptr;

Engine& make_engine() {
    static thread_local Engine instance;
    own_engine = &instance;
    return instance;
}

namespace {

char* map_pages(size_t bytes) {
    void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) {
        fputs("emulator: out of memory\n", stderr);
        abort();
    }
    return static_cast<char*>(pages);
}

unsigned lanes_of_warp(unsigned threads, unsigned warp) {
    unsigned lanes = threads - warp * 32;
    return lanes >= 32 ? ~0u : (1u << lanes) - 1;
}

}  // namespace

Engine::Engine() : fibers_(MAX_THREADS), warps_(MAX_THREADS / 32), queue_(MAX_THREADS) {
    stacks_ = map_pages(STACK_BYTES * MAX_THREADS);
    shared = map_pages(SHARED_BYTES);
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        fibers_[i].stack = stacks_ + i * STACK_BYTES;
        mprotect(fibers_[i].stack, 4096, PROT_NONE);  // a stack that overflows faults
    }
}

Engine::~Engine() {
    munmap(stacks_, STACK_BYTES * MAX_THREADS);
    munmap(shared, SHARED_BYTES);
}

bool Engine::owns(uintptr_t address) const {
    auto within = [address](const void* start, size_t bytes) {
        return address - reinterpret_cast<uintptr_t>(start) < bytes;
    };
    return within(stacks_, STACK_BYTES * MAX_THREADS) || within(this, sizeof *this) ||
           within(fibers_.data(), fibers_.size() * sizeof(Fiber));
}

bool Engine::in_shared(uintptr_t address) const {
    return address - reinterpret_cast<uintptr_t>(shared) < SHARED_BYTES;
}

bool Engine::shared_has(size_t place, size_t bytes) const {
    if (place + bytes <= dynamic_shared) return true;
    for (const SharedVariable& variable : variables_) {
        if (place >= variable.offset && place + bytes <= variable.offset + variable.bytes) {
            return true;
        }
    }
    return false;
}

// ---- launches

bool Engine::run(const Launch& launch) {
    error.clear();
    failed_ = false;
    kernel = launch.kernel;
    grid = launch.grid;
    block = launch.block;
    dynamic_shared = launch.dynamic_shared;
    checked = launch.checked;
    entry_ = launch.entry;
    arguments_ = launch.arguments;
    uint64_t threads = uint64_t(block.x) * block.y * block.z;
    uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    // The limits of every card since compute capability 3.
    if (threads == 0 || threads > MAX_THREADS || block.z > 64 || blocks == 0 ||
        grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
        dynamic_shared > MAX_DYNAMIC_SHARED) {
        fail("impossible launch: grid (%u,%u,%u), block (%u,%u,%u), %zu bytes of shared memory",
             grid.x, grid.y, grid.z, block.x, block.y, block.z, dynamic_shared);
        return false;
    }
    // All ones are NaN in every float type and out of range as an index.
    memset(shared, 0xff, SHARED_BYTES);
    static_shared = 0;
    if (checked) checker().start_launch();
    for (uint64_t i = 0; i < blocks && !failed_; i++) {
        start_block(order == Order::Reverse ? blocks - 1 - i : i, unsigned(threads));
        resume(pop());
        // Writes between the dynamic shared memory and the first variable are past its end.
        const char* gap = shared + dynamic_shared;
        const char* variables = shared + (dynamic_shared + 191) / 128 * 128;
        bool touched = std::any_of(gap, variables, [](char byte) { return byte != char(0xff); });
        if (touched && !failed_) {
            current = nullptr;
            fail("wrote past the end of %zu bytes of dynamic shared memory", dynamic_shared);
        }
    }
    inside = true;
    current = nullptr;
    if (!failed_) {
        std::string damage = memory.damage();
        if (!damage.empty()) fail("%s", damage.c_str());
    }
    return !failed_;
}

void Engine::start_block(uint64_t number, unsigned threads) {
    block_index = {unsigned(number % grid.x), unsigned(number / grid.x % grid.y),
                   unsigned(number / grid.x / grid.y)};
    threads_ = alive_ = threads;
    at_barrier_ = 0;
    queue_head_ = queued_ = 0;
    memset(shared, 0xff, static_shared);  // what the block before has used
    variables_.clear();
    static_shared = (dynamic_shared + 191) / 128 * 128;
    if (checked) checker().start_block();
    else checker().rest();
    barriers.start_block(threads);
    for (unsigned warp = 0; warp * 32 < threads; warp++) {
        warps_[warp] = {0, lanes_of_warp(threads, warp), {}};
    }
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = fibers_[i];
        fiber.index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
        fiber.number = i;
        fiber.lane = i % 32;
        fiber.warp = i / 32;
        fiber.state = State::Ready;
        fiber.place = {"the kernel's start", 0};
        fiber.block_barriers = fiber.warp_barriers = 0;
        fiber.copies.clear();
        fiber.copy_group = 0;
        // Tops that are 128 KiB apart would share their sets of the first-level cache.
        char* top = fiber.stack + STACK_BYTES - 64 - (i % 64) * 832;
        prepare_context(fiber.context, top, top - fiber.stack - 4096, trampoline);
        push(&fiber);
    }
}

void Engine::trampoline() {
    Engine& self = engine();
    self.inside = false;
    self.entry_(self.arguments_);
    self.inside = true;
    self.finish();
    abort();  // a finished fiber is never resumed
}

void Engine::finish() {
    Fiber* fiber = current;
    fiber->state = State::Finished;
    alive_--;
    warps_[fiber->warp].alive &= ~(1u << fiber->lane);
    if (!fiber->copies.empty()) {
        fail("thread returned with %zu cp.async not waited for", fiber->copies.size());
    }
    if (size_t products = warps_[fiber->warp].products.pending.size()) {
        fail("thread returned with %zu wgmma not waited for", products);
    }
    if (alive_ == 0) {
        end_block();
        resume(nullptr);
    }
    if (at_barrier_ == alive_) {
        fail("thread returned while the other %u wait at a __syncthreads", alive_);
    }
    wait();
}

// What only shows when all threads have returned.
void Engine::end_block() {
    std::string leftover = barriers.leftover();
    if (!leftover.empty()) fail("%s", leftover.c_str());
    for (unsigned warp = 0; warp < threads_ / 128 * 4; warp++) {
        if (warps_[warp].products.started != warps_[warp / 4 * 4].products.started) {
            fail("warps %u and %u of a warpgroup started %u and %u wgmma", warp / 4 * 4, warp,
                 warps_[warp / 4 * 4].products.started, warps_[warp].products.started);
        }
    }
}

// ---- scheduling

void Engine::resume(Fiber* next) {
    Fiber* before = current;
    current = next;
    Context& from = before ? before->context : host_;
    Context& to = next ? next->context : host_;
    switch_context(from, to);
}

uint64_t Engine::next_random() {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random;
}

void Engine::push(Fiber* fiber) { queue_[(queue_head_ + queued_++) % MAX_THREADS] = fiber; }

Fiber* Engine::pop() {
    if (queued_ == 0) return nullptr;
    if (order == Order::Reverse) return queue_[(queue_head_ + --queued_) % MAX_THREADS];
    Fiber*& first = queue_[queue_head_];
    if (order == Order::Random) {
        std::swap(first, queue_[(queue_head_ + next_random() % queued_) % MAX_THREADS]);
    }
    Fiber* fiber = first;
    queue_head_ = (queue_head_ + 1) % MAX_THREADS;
    queued_--;
    return fiber;
}

// Runs somebody else until this fiber is ready again.
void Engine::wait() {
    Fiber* self = current;
    Fiber* next = pop();
    if (!next) return deadlock();
    if (next != self) resume(next);
}

// Lets the others go first where the order is not forward.
void Engine::yield() {
    if (order == Order::Forward) return;
    push(current);
    wait();
}

void Engine::deadlock() {
    std::string text = "deadlock;";
    int shown = 0;
    for (unsigned i = 0; i < threads_ && shown < 6; i++) {
        const Fiber& fiber = fibers_[i];
        if (fiber.state == State::Ready || fiber.state == State::Finished) continue;
        const char* what = fiber.state == State::AtBarrier         ? "__syncthreads"
                           : fiber.state == State::AtSharedBarrier ? "an mbarrier"
                           : fiber.state == State::AtNamedBarrier  ? "a named barrier"
                                                                   : "a warp operation";
        char line[256];
        snprintf(line, sizeof line, " thread %u waits at %s, %s:%d;", i, what, fiber.place.file,
                 fiber.place.line);
        text += line;
        shown++;
    }
    fail("%s", text.c_str());
}

void Engine::fail(const char* format, ...) {
    inside = true;
    if (!failed_) {
        char reason[2048], where[256];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(reason, sizeof reason, format, arguments);
        va_end(arguments);
        if (current) {
            snprintf(where, sizeof where, "%s, block (%u,%u,%u), thread (%u,%u,%u): ", kernel,
                     block_index.x, block_index.y, block_index.z, current->index.x,
                     current->index.y, current->index.z);
        } else {
            snprintf(where, sizeof where, "%s: ", kernel);
        }
        error = std::string(where) + reason;
        failed_ = true;
    }
    // Abandons all fibers; their stacks hold nothing that must be released.
    if (current) resume(nullptr);
}

// ---- barriers and collectives

void Engine::block_barrier(Place place) {
    Inside guard;
    Fiber* self = current;
    self->state = State::AtBarrier;
    self->place = place;
    at_barrier_++;
    if (at_barrier_ < alive_) return wait();
    if (alive_ != threads_) {
        fail("__syncthreads at %s:%d after %u threads have returned", place.file, place.line,
             threads_ - alive_);
    }
    for (unsigned i = 0; i < threads_; i++) {
        const Place& other = fibers_[i].place;
        if (other.line != place.line || strcmp(other.file, place.file) != 0) {
            fail("divergent __syncthreads: thread %u at %s:%d, others at %s:%d", i, other.file,
                 other.line, place.file, place.line);
        }
    }
    at_barrier_ = 0;
    if (checked) checker().join(0, threads_, ~0u);
    for (unsigned i = 0; i < threads_; i++) {
        Fiber& fiber = fibers_[i];
        fiber.state = State::Ready;
        fiber.block_barriers++;
        if (&fiber != self) push(&fiber);
    }
    yield();
}

void Engine::sleep(State state, Place place) {
    current->state = state;
    current->place = place;
    wait();
}

void Engine::wake(Fiber* fiber) {
    fiber->state = State::Ready;
    push(fiber);
}

void Engine::collective(unsigned mask, Collective function, void* argument, Place place) {
    Inside guard;
    Fiber* self = current;
    Warp& warp = warps_[self->warp];
    unsigned bit = 1u << self->lane;
    mask &= lanes_of_warp(threads_, self->warp);
    if (!(mask & bit)) {
        fail("warp operation at %s:%d: lane %u calls it, but mask %08x lacks it", place.file,
             place.line, self->lane, mask);
    }
    if (mask & ~warp.alive) {
        fail("warp operation at %s:%d: mask %08x names lanes that have returned, only %08x run",
             place.file, place.line, mask, warp.alive);
    }
    self->state = State::AtCollective;
    self->collective = function;
    self->argument = argument;
    self->mask = mask;
    self->place = place;
    warp.waiting |= bit;
    if ((warp.waiting & mask) != mask) return wait();

    Fiber* lanes[32];
    for (unsigned i = 0; i < 32; i++) {
        lanes[i] = &fibers_[std::min(self->warp * 32 + i, threads_ - 1)];
        if (!(mask >> i & 1)) continue;
        const Fiber& lane = *lanes[i];
        if (lane.collective != function || lane.mask != mask || lane.place.line != place.line) {
            fail("divergent warp operation: lane %u at %s:%d with mask %08x, lane %u at %s:%d "
                 "with mask %08x",
                 i, lane.place.file, lane.place.line, lane.mask, self->lane, place.file,
                 place.line, mask);
        }
    }
    function(lanes, mask);
    warp.waiting &= ~mask;
    for (unsigned i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        lanes[i]->state = State::Ready;
        if (lanes[i] != self) push(lanes[i]);
    }
    yield();
}

// ---- shared memory

void* Engine::shared_variable(const void* tag, size_t bytes) {
    Inside guard;
    for (const SharedVariable& variable : variables_) {
        if (variable.tag == tag) return shared + variable.offset;
    }
    size_t offset = static_shared;
    // A gap after each, so that an overrun hits poison rather than the next variable.
    static_shared = (offset + bytes + 79) / 16 * 16;
    if (static_shared > SHARED_BYTES) fail("shared memory beyond %zu bytes", SHARED_BYTES);
    variables_.push_back({tag, offset, bytes});
    return shared + offset;
}

}  // namespace emulator
