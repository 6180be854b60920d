// Runs the kernels on the CPU, for tests: the very same source, compiled as C by the tests themselves.
//
// A block's threads are fibers of one thread of the system, each on a stack of its own. Where threads of a device would
// meet, a fiber gives way until all others have come; threads that meet at different places are an error here, as they
// would be undefined there. One launch at a time: the caller sees to that.

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "kernels.cu"

#define MOST_THREADS 1024
// Not a power of two: equal places of all stacks would share one set of the cache.
#define STACK_BYTES 66624

enum { READY, AT_WARP, AT_BLOCK, DONE };

typedef void (*Kernel)(const Arguments);

typedef struct {
    const char *name;
    Kernel kernel;
} Named;

#define TYPED(type)                                                                                                    \
    {"embed_" #type, embed_##type}, {"normalise_" #type, normalise_##type}, {"collect_" #type, collect_##type},        \
        {"choose_" #type, choose_##type}, {"convolve_" #type, convolve_##type}, {"place_" #type, place_##type},        \
        {"attend_" #type, attend_##type}, {"join_" #type, join_##type}, {"linear_1_1_" #type, linear_1_1_##type}

static const Named kernels[] = {
    {"remember", remember},
    {"output", output},
    {"stream", stream},
    {"sample", sample},
    TYPED(f32),
    TYPED(f16),
    TYPED(bf16),
    {"linear_1_4_f16", linear_1_4_f16},
    {"linear_2_8_f16", linear_2_8_f16},
    {"linear_1_4_bf16", linear_1_4_bf16},
    {"linear_2_8_bf16", linear_2_8_bf16},
};

u32 emulated_thread;
u32 emulated_block[3];

static u32 lanes[MOST_THREADS / 32][2][32 * 8];
static float products[MOST_THREADS / 32][16 * 8];
static u8 turns[MOST_THREADS];
static u8 states[MOST_THREADS];
static jmp_buf fibers[MOST_THREADS];
static char *stacks;
static jmp_buf scheduler;
static ucontext_t start;
static int has_begun[MOST_THREADS];
static Kernel current_kernel;
static Arguments current_arguments;

u32 *emulated_lanes(void) { return lanes[emulated_thread / 32][turns[emulated_thread] ^= 1]; }

float *emulated_products(void) { return products[emulated_thread / 32]; }

static void give_way(u8 state) {
    const u32 own = emulated_thread;
    states[own] = state;
    if (!_setjmp(fibers[own])) _longjmp(scheduler, 1);
    emulated_thread = own;
}

void emulated_meet(void) { give_way(AT_BLOCK); }

void emulated_meet_warp(void) { give_way(AT_WARP); }

/// A fiber's life: one thread of one block after another.
static void live(void) {
    for (;;) {
        current_kernel(current_arguments);
        give_way(DONE);
    }
}

static void resume(u32 thread) {
    emulated_thread = thread;
    if (_setjmp(scheduler)) return;
    if (has_begun[thread]) _longjmp(fibers[thread], 1);
    has_begun[thread] = 1;
    getcontext(&start);
    start.uc_stack.ss_sp = stacks + (size_t)thread * STACK_BYTES;
    start.uc_stack.ss_size = STACK_BYTES;
    start.uc_link = 0;
    makecontext(&start, live, 0);
    setcontext(&start);
}

/// Runs the threads of a warp until each is at the block's meeting or done; 0 where they meet at different places.
static int run_warp(u32 first, u32 end) {
    for (;;) {
        u32 thread, at_warp = 0, elsewhere = 0;
        for (thread = first; thread < end; thread++) {
            if (states[thread] == READY) resume(thread);
            at_warp += states[thread] == AT_WARP;
            elsewhere += states[thread] != AT_WARP;
        }
        if (!at_warp) return 1;
        if (elsewhere) return 0;
        for (thread = first; thread < end; thread++) states[thread] = READY;
    }
}

static int run_block(u32 threads) {
    u32 thread, first;
    for (thread = 0; thread < threads; thread++) states[thread] = READY, turns[thread] = 0;
    for (;;) {
        u32 done = 0;
        for (first = 0; first < threads; first += 32) {
            if (!run_warp(first, first + 32 < threads ? first + 32 : threads)) return 0;
        }
        for (thread = 0; thread < threads; thread++) done += states[thread] == DONE;
        if (done == threads) return 1;
        if (done) return 0;
        for (thread = 0; thread < threads; thread++) states[thread] = READY;
    }
}

/// Whether there is a kernel of this name.
int orion_has(const char *name) {
    size_t i;
    for (i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        if (!strcmp(kernels[i].name, name)) return 1;
    }
    return 0;
}

/// Launches a kernel; 0 on success, 1 where there is none of that name, 2 for an impossible size, 3 where threads meet
/// at different places.
int orion_launch(const char *name, u32 x, u32 y, u32 z, u32 threads, const u64 *arguments) {
    size_t i;
    current_kernel = 0;
    for (i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        if (!strcmp(kernels[i].name, name)) current_kernel = kernels[i].kernel;
    }
    if (!current_kernel) return 1;
    if (!x || !y || !z || !threads || threads > MOST_THREADS) return 2;
    if (!stacks) stacks = malloc((size_t)MOST_THREADS * STACK_BYTES);
    if (!stacks) return 2;
    memcpy(&current_arguments, arguments, sizeof current_arguments);
    for (emulated_block[2] = 0; emulated_block[2] < z; emulated_block[2]++) {
        for (emulated_block[1] = 0; emulated_block[1] < y; emulated_block[1]++) {
            for (emulated_block[0] = 0; emulated_block[0] < x; emulated_block[0]++) {
                if (!run_block(threads)) {
                    // Fibers that still wait would wake in the next launch.
                    memset(has_begun, 0, sizeof has_begun);
                    return 3;
                }
            }
        }
    }
    return 0;
}
