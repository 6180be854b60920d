//! Eight sums of products of small integers as one value: the instructions of `block_linear`.
//!
//! Why here: beside `lanes`, the other place that names instructions. A step takes 32 weights and 32 activations of
//! eight bits; lane j of its result is the exact sum of products 4 j to 4 j + 3, so plain code and vector code agree to
//! the bit before anything is rounded.
#![expect(unsafe_code, reason = "vector intrinsics and raw loads; bounds are checked by the callers")]

use half::f16;

use crate::lanes::{Plain, multiply_add};

/// # Safety
/// Every method may be called only where the implementation's instruction set is present; loads need as many readable
/// bytes as they say.
pub(crate) trait Eights {
    /// 32 bytes.
    type Bytes: Copy;
    /// Eight 32-bit integers.
    type Ints: Copy;
    /// Sums on their way to [`Eights::widened`]: sixteen 16-bit integers, or already eight of 32.
    type Pairs: Copy;
    /// Eight floats.
    type Floats: Copy;

    /// 32 bytes.
    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    /// Four bytes, eight times.
    unsafe fn four(from: *const u8) -> Self::Bytes;
    /// The lower four bits of each.
    unsafe fn low(all: Self::Bytes) -> Self::Bytes;
    /// The upper four bits of each.
    unsafe fn high(all: Self::Bytes) -> Self::Bytes;
    /// Bits `2 QUARTER` and the next of each, moved to bits 4 and 5.
    unsafe fn two_bits<const QUARTER: i32>(all: Self::Bytes) -> Self::Bytes;
    /// All bits of both.
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Each less `n`.
    unsafe fn less(all: Self::Bytes, n: i8) -> Self::Bytes;
    /// `sums` plus sums of four products each. Activations are in -127 ..= 127.
    unsafe fn add_products(sums: Self::Ints, weights: Self::Bytes, activations: Self::Bytes) -> Self::Ints;
    /// Weights as [`Eights::add_lifted`] takes them: made once for many rows of activations.
    unsafe fn lifted(weights: Self::Bytes) -> Self::Bytes;
    /// What sums of products over lifted weights begin with, so that in the end they are those over the weights
    /// themselves; `activation_sum` is the sum of all activations that a lane will meet.
    unsafe fn lifted_start(activation_sum: *const i16) -> Self::Ints;
    /// As [`Eights::add_products`], over lifted weights.
    unsafe fn add_lifted(sums: Self::Ints, lifted: Self::Bytes, activations: Self::Bytes) -> Self::Ints;
    /// Sums of four products each, those of the first sixteen bytes times `first`, those of the rest times `second`. Weights
    /// are in -64 ..= 63.
    unsafe fn scaled_products(
        weights: Self::Bytes,
        activations: Self::Bytes,
        first: i16,
        second: i16,
    ) -> Self::Ints;
    /// Sums of four products each, times `scale`. Weights are in 0 ..= 63.
    unsafe fn scaled_nibbles(weights: Self::Bytes, activations: Self::Bytes, scale: i16) -> Self::Ints;
    unsafe fn no_pairs() -> Self::Pairs;
    /// `sums` plus sums of two products each, which 16 bits must hold. Weights are in 0 ..= 127.
    unsafe fn add_pairs(sums: Self::Pairs, weights: Self::Bytes, activations: Self::Bytes) -> Self::Pairs;
    /// Sums of two neighbours each.
    unsafe fn widened(pairs: Self::Pairs) -> Self::Ints;
    unsafe fn no_ints() -> Self::Ints;
    /// Each less `n`.
    unsafe fn less_of_each(all: Self::Ints, n: i32) -> Self::Ints;
    unsafe fn add(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// The sum of all eight, which 32 bits must hold.
    unsafe fn total(all: Self::Ints) -> i32;
    /// Eight small integers times eight.
    unsafe fn multiply(a: &[u8; 8], b: *const i16) -> Self::Ints;
    unsafe fn no_floats() -> Self::Floats;
    /// `sums + scale * by * ints`: the scales are multiplied first, and each int is rounded to a float.
    unsafe fn mul_add(scale: Self::Floats, by: f32, ints: Self::Ints, sums: Self::Floats) -> Self::Floats;
    /// `sums - scale * by * ints`, in the same order.
    unsafe fn mul_sub(scale: Self::Floats, by: f32, ints: Self::Ints, sums: Self::Floats) -> Self::Floats;
    /// Sum by halves: lanes i and i + 4, then i + 2, i + 1.
    unsafe fn sum(all: Self::Floats) -> f32;
    /// One f16 at any address, in all lanes.
    unsafe fn half(from: *const u8) -> Self::Floats;
    /// Eight f16 at any address.
    unsafe fn halves(from: *const u8) -> Self::Floats;
    unsafe fn lanes(all: Self::Floats) -> [f32; 8];
}

impl Eights for Plain {
    type Bytes = [u8; 32];
    type Ints = [i32; 8];
    type Pairs = [i16; 16];
    type Floats = [f32; 8];

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> [u8; 32] {
        // SAFETY: the caller gives 32 readable bytes.
        unsafe { from.cast::<[u8; 32]>().read() }
    }

    #[inline(always)]
    unsafe fn four(from: *const u8) -> [u8; 32] {
        // SAFETY: the caller gives 4 readable bytes.
        let bytes = unsafe { from.cast::<[u8; 4]>().read() };
        std::array::from_fn(|i| bytes[i % 4])
    }

    #[inline(always)]
    unsafe fn low(all: [u8; 32]) -> [u8; 32] {
        all.map(|byte| byte & 15)
    }

    #[inline(always)]
    unsafe fn high(all: [u8; 32]) -> [u8; 32] {
        all.map(|byte| byte >> 4)
    }

    #[inline(always)]
    unsafe fn two_bits<const QUARTER: i32>(all: [u8; 32]) -> [u8; 32] {
        all.map(|byte| (byte >> (2 * QUARTER) & 3) << 4)
    }

    #[inline(always)]
    unsafe fn or(a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        std::array::from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    unsafe fn less(all: [u8; 32], n: i8) -> [u8; 32] {
        all.map(|byte| byte.wrapping_sub(n as u8))
    }

    #[inline(always)]
    unsafe fn add_products(sums: [i32; 8], weights: [u8; 32], activations: [u8; 32]) -> [i32; 8] {
        let product = |i: usize| i32::from(weights[i] as i8) * i32::from(activations[i] as i8);
        std::array::from_fn(|lane| sums[lane] + (4 * lane..4 * lane + 4).map(product).sum::<i32>())
    }

    #[inline(always)]
    unsafe fn lifted(weights: [u8; 32]) -> [u8; 32] {
        weights
    }

    #[inline(always)]
    unsafe fn lifted_start(_: *const i16) -> [i32; 8] {
        [0; 8]
    }

    #[inline(always)]
    unsafe fn add_lifted(sums: [i32; 8], lifted: [u8; 32], activations: [u8; 32]) -> [i32; 8] {
        // SAFETY: plain code.
        unsafe { Self::add_products(sums, lifted, activations) }
    }

    #[inline(always)]
    unsafe fn scaled_products(weights: [u8; 32], activations: [u8; 32], first: i16, second: i16) -> [i32; 8] {
        // SAFETY: plain code.
        let sums = unsafe { Self::add_products([0; 8], weights, activations) };
        std::array::from_fn(|lane| sums[lane] * i32::from(if lane < 4 { first } else { second }))
    }

    #[inline(always)]
    unsafe fn scaled_nibbles(weights: [u8; 32], activations: [u8; 32], scale: i16) -> [i32; 8] {
        // SAFETY: plain code.
        unsafe { Self::scaled_products(weights, activations, scale, scale) }
    }

    #[inline(always)]
    unsafe fn no_pairs() -> [i16; 16] {
        [0; 16]
    }

    #[inline(always)]
    unsafe fn add_pairs(sums: [i16; 16], weights: [u8; 32], activations: [u8; 32]) -> [i16; 16] {
        let product = |i: usize| i16::from(weights[i]) * i16::from(activations[i] as i8);
        std::array::from_fn(|pair| sums[pair].wrapping_add(product(2 * pair) + product(2 * pair + 1)))
    }

    #[inline(always)]
    unsafe fn widened(pairs: [i16; 16]) -> [i32; 8] {
        std::array::from_fn(|lane| i32::from(pairs[2 * lane]) + i32::from(pairs[2 * lane + 1]))
    }

    #[inline(always)]
    unsafe fn no_ints() -> [i32; 8] {
        [0; 8]
    }

    #[inline(always)]
    unsafe fn less_of_each(all: [i32; 8], n: i32) -> [i32; 8] {
        all.map(|value| value.wrapping_sub(n))
    }

    #[inline(always)]
    unsafe fn add(a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        std::array::from_fn(|lane| a[lane].wrapping_add(b[lane]))
    }

    #[inline(always)]
    unsafe fn total(all: [i32; 8]) -> i32 {
        all.into_iter().fold(0, i32::wrapping_add)
    }

    #[inline(always)]
    unsafe fn multiply(a: &[u8; 8], b: *const i16) -> [i32; 8] {
        // SAFETY: the caller gives eight readable numbers.
        let others = unsafe { b.cast::<[i16; 8]>().read_unaligned() };
        std::array::from_fn(|lane| i32::from(a[lane]) * i32::from(others[lane]))
    }

    #[inline(always)]
    unsafe fn no_floats() -> [f32; 8] {
        [0.0; 8]
    }

    #[inline(always)]
    unsafe fn mul_add(scale: [f32; 8], by: f32, ints: [i32; 8], sums: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| multiply_add(scale[lane] * by, ints[lane] as f32, sums[lane]))
    }

    #[inline(always)]
    unsafe fn mul_sub(scale: [f32; 8], by: f32, ints: [i32; 8], sums: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| multiply_add(-(scale[lane] * by), ints[lane] as f32, sums[lane]))
    }

    #[inline(always)]
    unsafe fn sum(all: [f32; 8]) -> f32 {
        let four: [f32; 4] = std::array::from_fn(|i| all[i] + all[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }

    #[inline(always)]
    unsafe fn half(from: *const u8) -> [f32; 8] {
        // SAFETY: the caller gives two readable bytes.
        [f16::from_le_bytes(unsafe { from.cast::<[u8; 2]>().read() }).to_f32(); 8]
    }

    #[inline(always)]
    unsafe fn halves(from: *const u8) -> [f32; 8] {
        // SAFETY: the caller gives sixteen readable bytes.
        let bytes = unsafe { from.cast::<[[u8; 2]; 8]>().read() };
        bytes.map(|both| f16::from_le_bytes(both).to_f32())
    }

    #[inline(always)]
    unsafe fn lanes(all: [f32; 8]) -> [f32; 8] {
        all
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Eights;
    use crate::lanes::{Avx2, Avx512};
    use std::arch::x86_64::*;

    // SAFETY of all that follows: the implementation's instruction set is present, and the bytes readable, by the contract of
    // the trait.

    /// What AVX2 does best, with AVX-512 or without.
    macro_rules! of_256_bits {
        () => {
            type Bytes = __m256i;
            type Ints = __m256i;
            type Pairs = __m256i;
            type Floats = __m256;

            #[inline(always)]
            unsafe fn bytes(from: *const u8) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_loadu_si256(from.cast()) }
            }

            #[inline(always)]
            unsafe fn four(from: *const u8) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
            }

            #[inline(always)]
            unsafe fn low(all: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_and_si256(all, _mm256_set1_epi8(15)) }
            }

            #[inline(always)]
            unsafe fn high(all: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_and_si256(_mm256_srli_epi16::<4>(all), _mm256_set1_epi8(15)) }
            }

            #[inline(always)]
            unsafe fn two_bits<const QUARTER: i32>(all: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe {
                    let moved = match QUARTER {
                        0 => _mm256_slli_epi16::<4>(all),
                        1 => _mm256_slli_epi16::<2>(all),
                        2 => all,
                        _ => _mm256_srli_epi16::<2>(all),
                    };
                    _mm256_and_si256(moved, _mm256_set1_epi8(0x30))
                }
            }

            #[inline(always)]
            unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_or_si256(a, b) }
            }

            #[inline(always)]
            unsafe fn less(all: __m256i, n: i8) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_sub_epi8(all, _mm256_set1_epi8(n)) }
            }

            #[inline(always)]
            unsafe fn scaled_products(
                weights: __m256i,
                activations: __m256i,
                first: i16,
                second: i16,
            ) -> __m256i {
                // SAFETY: as above.
                unsafe {
                    let pairs = _mm256_maddubs_epi16(
                        _mm256_abs_epi8(weights),
                        _mm256_sign_epi8(activations, weights),
                    );
                    let scales = _mm256_set_m128i(_mm_set1_epi16(second), _mm_set1_epi16(first));
                    _mm256_madd_epi16(pairs, scales)
                }
            }

            #[inline(always)]
            unsafe fn scaled_nibbles(weights: __m256i, activations: __m256i, scale: i16) -> __m256i {
                // SAFETY: as above.
                unsafe {
                    _mm256_madd_epi16(_mm256_maddubs_epi16(weights, activations), _mm256_set1_epi16(scale))
                }
            }

            #[inline(always)]
            unsafe fn no_ints() -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_setzero_si256() }
            }

            #[inline(always)]
            unsafe fn less_of_each(all: __m256i, n: i32) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_sub_epi32(all, _mm256_set1_epi32(n)) }
            }

            #[inline(always)]
            unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_add_epi32(a, b) }
            }

            #[inline(always)]
            unsafe fn total(all: __m256i) -> i32 {
                // SAFETY: as above.
                unsafe {
                    let four = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
                    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
                    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
                }
            }

            #[inline(always)]
            unsafe fn multiply(a: &[u8; 8], b: *const i16) -> __m256i {
                // SAFETY: as above; `b` has eight readable numbers.
                unsafe {
                    let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(a.as_ptr().cast()));
                    _mm256_mullo_epi32(bytes, _mm256_cvtepi16_epi32(_mm_loadu_si128(b.cast())))
                }
            }

            #[inline(always)]
            unsafe fn no_floats() -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_setzero_ps() }
            }

            #[inline(always)]
            unsafe fn mul_add(scale: __m256, by: f32, ints: __m256i, sums: __m256) -> __m256 {
                // SAFETY: as above.
                unsafe {
                    let both = _mm256_mul_ps(scale, _mm256_set1_ps(by));
                    _mm256_fmadd_ps(both, _mm256_cvtepi32_ps(ints), sums)
                }
            }

            #[inline(always)]
            unsafe fn mul_sub(scale: __m256, by: f32, ints: __m256i, sums: __m256) -> __m256 {
                // SAFETY: as above.
                unsafe {
                    let both = _mm256_mul_ps(scale, _mm256_set1_ps(by));
                    _mm256_fnmadd_ps(both, _mm256_cvtepi32_ps(ints), sums)
                }
            }

            #[inline(always)]
            unsafe fn sum(all: __m256) -> f32 {
                // SAFETY: as above.
                unsafe {
                    let four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
                    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
                }
            }

            #[inline(always)]
            unsafe fn half(from: *const u8) -> __m256 {
                // SAFETY: as above. A broadcast depends on no register, where inserting one number would.
                unsafe {
                    let bits = from.cast::<i16>().read_unaligned();
                    _mm256_cvtph_ps(_mm_set1_epi16(bits))
                }
            }

            #[inline(always)]
            unsafe fn halves(from: *const u8) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
            }

            #[inline(always)]
            unsafe fn lanes(all: __m256) -> [f32; 8] {
                // SAFETY: eight lanes are eight floats.
                unsafe { std::mem::transmute(all) }
            }

            #[inline(always)]
            unsafe fn no_pairs() -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_setzero_si256() }
            }
        };
    }

    impl Eights for Avx2 {
        of_256_bits!();

        // The instruction multiplies unsigned by signed bytes, hence the sign that moves to the activation. Two
        // products add up to at most 2 * 128 * 127, which 16 bits hold.
        #[inline(always)]
        unsafe fn add_products(sums: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
            // SAFETY: as above.
            unsafe {
                let pairs =
                    _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(activations, weights));
                _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            }
        }

        // Lifted to unsigned, two products would not fit 16 bits.
        #[inline(always)]
        unsafe fn lifted(weights: __m256i) -> __m256i {
            weights
        }

        #[inline(always)]
        unsafe fn lifted_start(_: *const i16) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_setzero_si256() }
        }

        #[inline(always)]
        unsafe fn add_lifted(sums: __m256i, lifted: __m256i, activations: __m256i) -> __m256i {
            // SAFETY: as above.
            unsafe { Self::add_products(sums, lifted, activations) }
        }

        #[inline(always)]
        unsafe fn add_pairs(sums: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(weights, activations)) }
        }

        #[inline(always)]
        unsafe fn widened(pairs: __m256i) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)) }
        }
    }

    // One instruction adds four products of unsigned and signed bytes to 32 bits, none of it saturating.
    impl Eights for Avx512 {
        of_256_bits!();

        #[inline(always)]
        unsafe fn add_products(sums: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
            // SAFETY: as above.
            unsafe {
                _mm256_dpbusd_epi32(sums, _mm256_abs_epi8(weights), _mm256_sign_epi8(activations, weights))
            }
        }

        // Each weight plus 128: unsigned, whatever it was.
        #[inline(always)]
        unsafe fn lifted(weights: __m256i) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_xor_si256(weights, _mm256_set1_epi8(-128)) }
        }

        // Less 128 times the activations: of each pair of 16-bit numbers one product counts.
        #[inline(always)]
        unsafe fn lifted_start(activation_sum: *const i16) -> __m256i {
            // SAFETY: as above; one number is readable.
            unsafe { _mm256_madd_epi16(_mm256_set1_epi16(*activation_sum), _mm256_set1_epi32(0xff80)) }
        }

        #[inline(always)]
        unsafe fn add_lifted(sums: __m256i, lifted: __m256i, activations: __m256i) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_dpbusd_epi32(sums, lifted, activations) }
        }

        #[inline(always)]
        unsafe fn add_pairs(sums: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_dpbusd_epi32(sums, weights, activations) }
        }

        #[inline(always)]
        unsafe fn widened(pairs: __m256i) -> __m256i {
            pairs
        }
    }
}
