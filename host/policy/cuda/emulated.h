// The CPU as a device for tests: one block at a time, each of its threads a fiber that gives way at every point where
// threads of a device would meet. See emulator.c; device.h says what the kernels expect.

#include <math.h>
#include <string.h>

#define KERNEL(threads) void
#define DEVICE static inline
#define SHARED static
#define THREAD (emulated_thread)
#define BLOCK_X (emulated_block[0])
#define BLOCK_Y (emulated_block[1])
#define BLOCK_Z (emulated_block[2])
#define SYNC() emulated_meet()
#define UNROLL

extern u32 emulated_thread;
extern u32 emulated_block[3];
/// Gives way until all threads of the block are here.
void emulated_meet(void);
/// Gives way until all threads of the warp are here; only threads of whole warps may call it.
void emulated_meet_warp(void);
/// Where the 32 lanes of this thread's warp lay down what the others read, 8 words a lane; another place every time.
u32 *emulated_lanes(void);
/// Where a lane lays down what it has computed for its warp.
float *emulated_products(void);

DEVICE float float_of(u32 bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

DEVICE u32 bits_of(float value) {
    u32 bits;
    memcpy(&bits, &value, 4);
    return bits;
}

DEVICE double double_of(u64 bits) {
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

DEVICE Words load_words(const void *from) {
    Words words;
    if ((u64)from % 16 != 0) __builtin_trap(); // A device would fault.
    memcpy(&words, from, 16);
    return words;
}

/// Lanes take turns with two places to lay things down, so that one meeting is enough: who is at the next exchange has
/// read the last.
DEVICE float exchanged(float value, u32 mask) {
    u32 *lanes = emulated_lanes();
    lanes[THREAD % 32] = bits_of(value);
    emulated_meet_warp();
    return float_of(lanes[THREAD % 32 ^ mask]);
}

/// The butterfly of device.h in one meeting: the same sums in the same order.
DEVICE float warp_sum(float value) {
    u32 *lanes = emulated_lanes(), step, lane;
    float sums[32];
    lanes[THREAD % 32] = bits_of(value);
    emulated_meet_warp();
    memcpy(sums, lanes, sizeof sums);
    for (step = 16; step; step /= 2) {
        for (lane = 0; lane < step; lane++) sums[lane] += sums[lane + step];
    }
    return sums[0];
}

DEVICE float from_f16(u16 bits) {
    u32 sign = (u32)(bits >> 15) << 31, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return float_of(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * (float)fraction * (1.0f / 16777216.0f);
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

/// To the nearest, ties to even.
DEVICE u16 to_f16(float value) {
    u32 bits = bits_of(value), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return (u16)(sign | 0x7e00u);
    if (rest >= 0x477ff000u) return (u16)(sign | 0x7c00u);
    if (rest < 0x38800000u) {
        // Below the normal numbers: adding 2^-1 leaves a multiple of 2^-24, rounded as it should be.
        float shifted = float_of(rest) + 0.5f;
        return (u16)(sign | (bits_of(shifted) - 0x3f000000u));
    }
    return (u16)(sign | (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13);
}

/// The product of a warp's tile by the layout that the PTX manual gives for `m16n8k16`: lane 4g + t holds of `a` the
/// rows g and g + 8 at the depths 2t, 2t + 1 and those 8 further, of `b` the column g at the same depths, of `c` the
/// rows g and g + 8 at the columns 2t and 2t + 1. One lane computes for all.
DEVICE void emulated_multiply(float *c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1, float (*widen)(u16)) {
    u32 *lanes = emulated_lanes(), *own = lanes + THREAD % 32 * 8;
    float *products = emulated_products();
    u32 group = THREAD % 32 / 4, part = THREAD % 4, row, column, depth;
    own[0] = a0, own[1] = a1, own[2] = a2, own[3] = a3, own[4] = b0, own[5] = b1;
    emulated_meet_warp();
    if (THREAD % 32 == 0) {
        float a[16][16], b[16][8];
        for (depth = 0; depth < 16; depth++) {
            u32 t = depth % 8 / 2, far = depth / 8, shift = depth % 2 * 16;
            for (row = 0; row < 16; row++) {
                a[row][depth] = widen((u16)(lanes[(row % 8 * 4 + t) * 8 + far * 2 + row / 8] >> shift));
            }
            for (column = 0; column < 8; column++) {
                b[depth][column] = widen((u16)(lanes[(column * 4 + t) * 8 + 4 + far] >> shift));
            }
        }
        for (row = 0; row < 16; row++) {
            float sums[8] = {0};
            for (depth = 0; depth < 16; depth++) {
                for (column = 0; column < 8; column++) sums[column] += a[row][depth] * b[depth][column];
            }
            for (column = 0; column < 8; column++) products[row * 8 + column] = sums[column];
        }
    }
    emulated_meet_warp();
    c[0] += products[group * 8 + part * 2];
    c[1] += products[group * 8 + part * 2 + 1];
    c[2] += products[(group + 8) * 8 + part * 2];
    c[3] += products[(group + 8) * 8 + part * 2 + 1];
}

DEVICE float emulated_from_bf16(u16 bits) { return float_of((u32)bits << 16); }

DEVICE void multiply_f16(float *c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    emulated_multiply(c, a0, a1, a2, a3, b0, b1, from_f16);
}

DEVICE void multiply_bf16(float *c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    emulated_multiply(c, a0, a1, a2, a3, b0, b1, emulated_from_bf16);
}
