// The kernels of the LFM2 forward pass and of sampling. host/policy/src/cuda launches them; device.h says what they
// run on. Simple on purpose: decoding is bound by the bytes of weights, which `linear` streams in whole vectors.
//
// Every number of a row depends on that row and on what its own sequence holds, in a fixed order of operations, whatever
// else is in the step: a sequence has the same bits alone and batched, whole and in chunks, branched and read again.

#include "device.h"

#ifndef INFINITY
#define INFINITY float_of(0x7f800000u)
#endif

/// Positions of one run of attention.
#define SPAN 256
/// Most query heads that share a key head, and the widest head.
#define MOST_SHARED 8
#define MOST_HEAD 128

#define FINISH_STORED 0u
#define FINISH_ADDED 1u
#define FINISH_GATED 2u

/// The reciprocal root of the mean square of a row, the same in all 256 threads.
DEVICE float root_mean_square_scale(const float *x, u32 width, float epsilon) {
    SHARED float sums[8];
    float sum = 0.0f;
    u32 i;
    for (i = THREAD; i < width; i += 256) sum = fmaf(x[i], x[i], sum);
    sum = warp_sum(sum);
    if (THREAD % 32 == 0) sums[THREAD / 32] = sum;
    SYNC();
    sum = 0.0f;
    for (i = 0; i < 8; i++) sum += sums[i];
    SYNC();
    return 1.0f / sqrtf(sum / (float)width + epsilon);
}

/// Brings the products that a convolution remembers up to date. Blocks: feeds, channels / 256.
KERNEL(256) remember(const Arguments a) {
    const float *projected = (const float *)a.v[0]; // [rows, B C x]
    const u32 *first_of = (const u32 *)a.v[1], *count_of = (const u32 *)a.v[2];
    const u64 *memories = (const u64 *)a.v[3];
    const u32 hidden = (u32)a.v[5], length = (u32)a.v[6];
    const u32 feed = BLOCK_X, channel = BLOCK_Y * 256 + THREAD;
    float *remembered;
    u32 i;
    if (feed >= *(const u32 *)a.v[7] || channel >= hidden) return;
    remembered = (float *)memories[feed] + a.v[4];
    for (i = 0; i + 1 < length; i++) {
        const u32 from = count_of[feed] + i;
        if (from < length - 1) {
            remembered[i * hidden + channel] = remembered[from * hidden + channel];
        } else {
            const float *line = projected + (u64)(first_of[feed] + from - (length - 1)) * 3 * hidden;
            remembered[i * hidden + channel] = line[channel] * line[2 * hidden + channel];
        }
    }
}

/// The last norm: into `out`, and where destinations[row] is an address there too. Blocks: rows.
KERNEL(256) output(const Arguments a) {
    const float *x = (const float *)a.v[0] + (u64)BLOCK_X * a.v[3];
    const float *weight = (const float *)a.v[1];
    float *out = (float *)a.v[2] + (u64)BLOCK_X * a.v[3], *kept, scale;
    const u32 width = (u32)a.v[3];
    u32 i;
    if (BLOCK_X >= *(const u32 *)a.v[5]) return;
    kept = (float *)((const u64 *)a.v[6])[BLOCK_X];
    scale = root_mean_square_scale(x, width, float_of((u32)a.v[4]));
    for (i = THREAD; i < width; i += 256) {
        const float value = x[i] * scale * weight[i];
        out[i] = value;
        if (kept) kept[i] = value;
    }
}

/// Copies 16-byte words: what bandwidth is measured with. Blocks of 256 threads.
KERNEL(256) stream(const Arguments a) {
    const u64 count = a.v[2], step = a.v[3] * 256;
    u64 i;
    for (i = (u64)BLOCK_X * 256 + THREAD; i < count; i += step) {
        ((Words *)a.v[1])[i] = load_words((const Words *)a.v[0] + i);
    }
}

#define JOINED(a, b) a##b
#define NAME(name) JOINED(name, _f32)
#define LINEAR(m, n) linear_1_1_f32
#define NUMBER float
#define IS_HALF 0
#define WIDEN(number) (number)
#define NARROW(value) (value)
#include "typed.inc"

#define NAME(name) JOINED(name, _f16)
#define LINEAR_NAMED(m, n) linear_##m##_##n##_f16
#define LINEAR(m, n) LINEAR_NAMED(m, n)
#define NUMBER u16
#define IS_HALF 1
#define WIDEN(number) from_f16(number)
#define NARROW(value) to_f16_saturated(value)
#define MULTIPLY multiply_f16
#include "typed.inc"
#undef LINEAR_NAMED

#define NAME(name) JOINED(name, _bf16)
#define LINEAR_NAMED(m, n) linear_##m##_##n##_bf16
#define LINEAR(m, n) LINEAR_NAMED(m, n)
#define NUMBER u16
#define IS_HALF 1
#define WIDEN(number) from_bf16(number)
#define NARROW(value) to_bf16(value)
#define MULTIPLY multiply_bf16
#include "typed.inc"
#undef LINEAR_NAMED

#include "sample.inc"
