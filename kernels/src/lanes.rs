//! Sixteen f32 lanes as one value: the one place that names instructions.
//!
//! Why here: each kernel is written once over [`V16`] and instantiated for each [`Level`], so all levels share one
//! order of operations. Sixteen is the width of a packed panel (see `tile`) and of the partial sums of `dot`.
#![expect(
    unsafe_code,
    reason = "vector intrinsics and raw loads; bounds are checked by the safe functions above"
)]

use std::sync::OnceLock;

use half::{bf16, f16};

/// Lanes in one value.
pub(crate) const LANES: usize = 16;

/// Instruction set chosen at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Portable Rust.
    Plain,
    /// x86-64 with AVX2, FMA and F16C, which came together.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The same with AVX-512 (F, BW, VL) and its integer products (VNNI). The same bits as [`Level::Avx2`].
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The best level of this machine; detected once.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| levels().last().copied().unwrap_or(Level::Plain))
}

/// All levels of this machine, the best last.
pub(crate) fn levels() -> Vec<Level> {
    let mut present = vec![Level::Plain];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    {
        present.push(Level::Avx2);
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
        {
            present.push(Level::Avx512);
        }
    }
    present
}

/// Name of the instruction set in use: `avx512+vnni`, `avx2+fma` or `plain`.
pub fn cpu_level() -> &'static str {
    match level() {
        Level::Plain => "plain",
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => "avx2+fma",
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => "avx512+vnni",
    }
}

/// Sixteen lanes. All operations act lane by lane and round once each, except [`V16::sum`] and [`V16::largest`].
///
/// # Safety
/// Every method may be called only where the implementation's instruction set is present; `load` and `store` need 16
/// readable or writable floats at the pointer.
pub(crate) trait V16: Copy {
    /// Most rows of a matrix tile that fit the registers beside one panel.
    const TILE_ROWS: usize;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    /// Sixteen numbers widened, which is exact.
    unsafe fn load_f16(p: *const f16) -> Self;
    /// Sixteen numbers widened, which is exact.
    unsafe fn load_bf16(p: *const bf16) -> Self;
    unsafe fn store(self, p: *mut f32);
    /// `self * b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    /// The larger of each lane and `floor`; a NaN lane stays NaN.
    unsafe fn at_least(self, floor: Self) -> Self;
    /// The smaller of each lane and `ceiling`; a NaN lane stays NaN.
    unsafe fn at_most(self, ceiling: Self) -> Self;
    /// Two to the power of each lane, which holds an integer in [-126, 127].
    unsafe fn two_to_the(self) -> Self;
    /// Sum by halves: lanes i and i + 8, then i + 4, i + 2, i + 1.
    unsafe fn sum(self) -> f32;
    /// The largest lane.
    unsafe fn largest(self) -> f32;
    /// Asks for the cache line at `p`, which need not be a valid address.
    unsafe fn prefetch(p: *const f32);
}

/// Adding this to a float in [-126, 127] that is an integer leaves that integer plus 127, the exponent bias, in the low
/// mantissa bits.
const EXPONENT_MAGIC: f32 = 8_388_608.0 + 127.0;

/// Portable lanes; the compiler vectorises them with what the target has.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Plain([f32; LANES]);

/// Fused where the target is sure to fuse in hardware; a software fma would be a hundred times slower.
#[inline(always)]
pub(crate) fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}

macro_rules! lane_by_lane {
    ($self:ident, $other:ident, $f:expr) => {{
        let mut out = [0.0f32; LANES];
        for i in 0..LANES {
            out[i] = $f($self.0[i], $other.0[i]);
        }
        Plain(out)
    }};
}

impl V16 for Plain {
    // Two rows of 16 are 8 of the 16 SSE registers.
    const TILE_ROWS: usize = if cfg!(target_arch = "x86_64") { 2 } else { 4 };

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Plain([x; LANES])
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller gives 16 readable floats; an array of f32 needs no more alignment than f32.
        Plain(unsafe { p.cast::<[f32; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: the caller gives 16 readable numbers; an array needs no more alignment than its items.
        Plain(unsafe { p.cast::<[f16; LANES]>().read() }.map(f16::to_f32))
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Self {
        // SAFETY: as for f16.
        Plain(unsafe { p.cast::<[bf16; LANES]>().read() }.map(bf16::to_f32))
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller gives 16 writable floats.
        unsafe { p.cast::<[f32; LANES]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        let mut out = [0.0f32; LANES];
        for (i, o) in out.iter_mut().enumerate() {
            *o = multiply_add(self.0[i], b.0[i], c.0[i]);
        }
        Plain(out)
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        lane_by_lane!(self, b, |x: f32, y: f32| x + y)
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        lane_by_lane!(self, b, |x: f32, y: f32| x - y)
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        lane_by_lane!(self, b, |x: f32, y: f32| x * y)
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        lane_by_lane!(self, b, |x: f32, y: f32| x / y)
    }

    #[inline(always)]
    unsafe fn at_least(self, floor: Self) -> Self {
        lane_by_lane!(self, floor, |x: f32, low: f32| if low > x { low } else { x })
    }

    #[inline(always)]
    unsafe fn at_most(self, ceiling: Self) -> Self {
        lane_by_lane!(self, ceiling, |x: f32, high: f32| if high < x { high } else { x })
    }

    #[inline(always)]
    unsafe fn two_to_the(self) -> Self {
        let mut out = [0.0f32; LANES];
        for (i, o) in out.iter_mut().enumerate() {
            *o = f32::from_bits((self.0[i] + EXPONENT_MAGIC).to_bits() << 23);
        }
        Plain(out)
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        halves(self.0, |x, y| x + y)
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        halves(self.0, |x, y| if x > y { x } else { y })
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
}

/// Folds 16 lanes by halves.
#[inline(always)]
fn halves(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! Two 256-bit registers.
    use super::{EXPONENT_MAGIC, V16};
    use half::{bf16, f16};
    use std::arch::x86_64::*;

    /// Lanes 0 to 7 and 8 to 15.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(pub(super) __m256, pub(super) __m256);

    macro_rules! both {
        ($name:ident, $($x:ident),+) => {
            // SAFETY: AVX2 and FMA are present by the contract of the trait.
            unsafe { Avx2($name($($x.0),+), $name($($x.1),+)) }
        };
    }

    impl V16 for Avx2 {
        // Six rows of two registers, two for the panel, one for the broadcast: 15 of 16.
        const TILE_ROWS: usize = 6;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: as in `both`.
            let v = unsafe { _mm256_set1_ps(x) };
            Avx2(v, v)
        }

        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: the caller gives 16 readable floats.
            unsafe { Avx2(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
        }

        #[inline(always)]
        unsafe fn load_f16(p: *const f16) -> Self {
            // SAFETY: the caller gives 16 readable numbers, 32 bytes.
            unsafe {
                let p = p.cast::<__m128i>();
                Avx2(_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p.add(1))))
            }
        }

        #[inline(always)]
        unsafe fn load_bf16(p: *const bf16) -> Self {
            // SAFETY: the caller gives 16 readable numbers, 32 bytes. Its bits are the upper half of an f32's.
            unsafe {
                let p = p.cast::<__m128i>();
                let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(p));
                let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.add(1)));
                Avx2(
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
                )
            }
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: the caller gives 16 writable floats.
            unsafe {
                _mm256_storeu_ps(p, self.0);
                _mm256_storeu_ps(p.add(8), self.1);
            }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            both!(_mm256_fmadd_ps, self, b, c)
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            both!(_mm256_add_ps, self, b)
        }

        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            both!(_mm256_sub_ps, self, b)
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            both!(_mm256_mul_ps, self, b)
        }

        #[inline(always)]
        unsafe fn div(self, b: Self) -> Self {
            both!(_mm256_div_ps, self, b)
        }

        // The instructions give their second operand where either is NaN, hence the order.
        #[inline(always)]
        unsafe fn at_least(self, floor: Self) -> Self {
            both!(_mm256_max_ps, floor, self)
        }

        #[inline(always)]
        unsafe fn at_most(self, ceiling: Self) -> Self {
            both!(_mm256_min_ps, ceiling, self)
        }

        #[inline(always)]
        unsafe fn two_to_the(self) -> Self {
            // SAFETY: as in `both`.
            unsafe {
                let biased = self.add(Self::splat(EXPONENT_MAGIC));
                let low = _mm256_slli_epi32::<23>(_mm256_castps_si256(biased.0));
                let high = _mm256_slli_epi32::<23>(_mm256_castps_si256(biased.1));
                Avx2(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high))
            }
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: as in `both`.
            unsafe {
                let eight = _mm256_add_ps(self.0, self.1);
                let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }

        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            // SAFETY: as in `both`.
            unsafe {
                let eight = _mm256_max_ps(self.0, self.1);
                let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
            }
        }

        #[inline(always)]
        unsafe fn prefetch(p: *const f32) {
            // SAFETY: a prefetch of any address is allowed.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;

#[cfg(target_arch = "x86_64")]
mod avx512 {
    //! One 512-bit register.
    use super::{EXPONENT_MAGIC, V16};
    use half::{bf16, f16};
    use std::arch::x86_64::*;

    /// All sixteen lanes.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    macro_rules! all {
        ($name:ident, $($x:expr),+) => {
            // SAFETY: AVX-512 is present by the contract of the trait.
            unsafe { Avx512($name($($x),+)) }
        };
    }

    impl V16 for Avx512 {
        // Twelve rows of one register leave room among 32; a multiply-add reads what it broadcasts from memory.
        const TILE_ROWS: usize = 12;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            all!(_mm512_set1_ps, x)
        }

        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // The caller gives 16 readable floats.
            all!(_mm512_loadu_ps, p)
        }

        #[inline(always)]
        unsafe fn load_f16(p: *const f16) -> Self {
            // SAFETY: the caller gives 16 readable numbers, 32 bytes.
            unsafe { Avx512(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))) }
        }

        #[inline(always)]
        unsafe fn load_bf16(p: *const bf16) -> Self {
            // SAFETY: the caller gives 16 readable numbers, 32 bytes. Its bits are the upper half of an f32's.
            unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
                Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
            }
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: the caller gives 16 writable floats.
            unsafe { _mm512_storeu_ps(p, self.0) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            all!(_mm512_fmadd_ps, self.0, b.0, c.0)
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            all!(_mm512_add_ps, self.0, b.0)
        }

        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            all!(_mm512_sub_ps, self.0, b.0)
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            all!(_mm512_mul_ps, self.0, b.0)
        }

        #[inline(always)]
        unsafe fn div(self, b: Self) -> Self {
            all!(_mm512_div_ps, self.0, b.0)
        }

        // The order of operands as with AVX2.
        #[inline(always)]
        unsafe fn at_least(self, floor: Self) -> Self {
            all!(_mm512_max_ps, floor.0, self.0)
        }

        #[inline(always)]
        unsafe fn at_most(self, ceiling: Self) -> Self {
            all!(_mm512_min_ps, ceiling.0, self.0)
        }

        #[inline(always)]
        unsafe fn two_to_the(self) -> Self {
            // SAFETY: as in `all`.
            unsafe {
                let biased = _mm512_castps_si512(self.add(Self::splat(EXPONENT_MAGIC)).0);
                Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
            }
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: as in `all`.
            unsafe { self.halves().sum() }
        }

        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            // SAFETY: as in `all`.
            unsafe { self.halves().largest() }
        }

        #[inline(always)]
        unsafe fn prefetch(p: *const f32) {
            // SAFETY: a prefetch of any address is allowed.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
    }

    impl Avx512 {
        /// Lanes 0 to 7 and 8 to 15, so that folding them is written once.
        #[inline(always)]
        unsafe fn halves(self) -> super::Avx2 {
            // SAFETY: as in `all`.
            unsafe {
                let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self.0));
                super::Avx2(_mm512_castps512_ps256(self.0), _mm256_castpd_ps(high))
            }
        }
    }
}

/// Calls the kernel `$kernel::<V>` for the lanes of `$level`, compiled with that level's instructions; a kernel over
/// two types is written `$kernel::<Number>`.
///
/// The kernel must be `unsafe fn` and `#[inline(always)]`, so that its body is compiled inside the wrapper.
macro_rules! at_level {
    ($level:expr, $kernel:ident $(::<$number:ty>)? ( $($arg:ident : $ty:ty),* $(,)? ) $(-> $ret:ty)?) => {
        match $level {
            $crate::lanes::Level::Plain => {
                // SAFETY: plain lanes need no instruction set; the caller answers for the pointers.
                unsafe { $kernel::<$crate::lanes::Plain $(, $number)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::lanes::Level::Avx2 => {
                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn with_avx2($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: the features are enabled on this function.
                    unsafe { $kernel::<$crate::lanes::Avx2 $(, $number)?>($($arg),*) }
                }
                // SAFETY: `levels` gives Avx2 only where AVX2 and FMA were detected.
                unsafe { with_avx2($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::lanes::Level::Avx512 => {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
                unsafe fn with_avx512($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: the features are enabled on this function.
                    unsafe { $kernel::<$crate::lanes::Avx512 $(, $number)?>($($arg),*) }
                }
                // SAFETY: `levels` gives Avx512 only where these were detected.
                unsafe { with_avx512($($arg),*) }
            }
        }
    };
}
pub(crate) use at_level;
