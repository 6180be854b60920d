// What the kernels see of the machine they run on: a CUDA device, or the emulator on the CPU (emulator.c).
//
// The kernels are written in the part of the language that C and CUDA C++ share, so that any C compiler can build the
// very same source for the tests. Nothing is included here: a run-time compiler needs no headers of the toolkit.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;
typedef unsigned short u16;

/// Every kernel takes one block of 64-bit words: addresses, counts, and floats by their bits.
typedef struct {
    u64 v[16];
} Arguments;

/// Four 32-bit words: one vector load of a thread.
typedef struct {
    u32 w[4];
} Words;

#ifdef __CUDACC__

#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__ __align__(16)
#define THREAD threadIdx.x
#define BLOCK_X blockIdx.x
#define BLOCK_Y blockIdx.y
#define BLOCK_Z blockIdx.z
#define SYNC() __syncthreads()
#define UNROLL _Pragma("unroll")

DEVICE float float_of(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 bits_of(float value) { return __float_as_uint(value); }
DEVICE double double_of(u64 bits) { return __longlong_as_double((long long)bits); }
DEVICE float exchanged(float value, u32 mask) { return __shfl_xor_sync(0xffffffffu, value, (int)mask); }

DEVICE Words load_words(const void *from) {
    uint4 all = *(const uint4 *)from;
    Words words;
    words.w[0] = all.x;
    words.w[1] = all.y;
    words.w[2] = all.z;
    words.w[3] = all.w;
    return words;
}

DEVICE float from_f16(u16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

DEVICE u16 to_f16(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

/// c += a * b for a tile of 16 by 8 with a depth of 16, over a whole warp (PTX `mma.sync.aligned.m16n8k16`).
DEVICE void multiply_f16(float *c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

DEVICE void multiply_bf16(float *c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// The sum over a warp, the same in every lane: a butterfly, so its order is fixed.
DEVICE float warp_sum(float value) {
    value += exchanged(value, 16);
    value += exchanged(value, 8);
    value += exchanged(value, 4);
    value += exchanged(value, 2);
    value += exchanged(value, 1);
    return value;
}

#else

#include "emulated.h"

#endif

DEVICE float from_bf16(u16 bits) { return float_of((u32)bits << 16); }

/// To the nearest, ties to even.
DEVICE u16 to_bf16(float value) {
    u32 bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)((bits >> 16) | 0x40u);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// The largest f16, for what lies beyond it: one outlier of an activation must not become an infinity.
DEVICE u16 to_f16_saturated(float value) {
    return to_f16(value > 65504.0f ? 65504.0f : (value < -65504.0f ? -65504.0f : value));
}

/// The exponential of the CPU's kernels, operation by operation, so that both sample from the same weights.
DEVICE float exponential(float x) {
    const float round = 12582912.0f;
    float bounded = x > -104.0f ? x : -104.0f;
    float n, half, r, sum;
    bounded = bounded < 88.8f ? bounded : 88.8f;
    n = fmaf(bounded, 1.44269504f, round) - round;
    r = fmaf(n, -(-2.12194440e-4f), fmaf(n, -0.693359375f, bounded));
    sum = 1.0f / 5040.0f;
    sum = fmaf(sum, r, 1.0f / 720.0f);
    sum = fmaf(sum, r, 1.0f / 120.0f);
    sum = fmaf(sum, r, 1.0f / 24.0f);
    sum = fmaf(sum, r, 1.0f / 6.0f);
    sum = fmaf(sum, r, 0.5f);
    sum = fmaf(sum, r, 1.0f);
    sum = fmaf(sum, r, 1.0f);
    half = fmaf(n, 0.5f, round) - round;
    return sum * float_of((u32)((int)half + 127) << 23) * float_of((u32)((int)(n - half) + 127) << 23);
}

DEVICE float larger(float a, float b) { return a > b ? a : b; }

DEVICE float warp_largest(float value) {
    value = larger(value, exchanged(value, 16));
    value = larger(value, exchanged(value, 8));
    value = larger(value, exchanged(value, 4));
    value = larger(value, exchanged(value, 2));
    value = larger(value, exchanged(value, 1));
    return value;
}
