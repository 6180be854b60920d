//! Matrix tiles: a few rows times one or more panels of sixteen columns, accumulated in registers.
//!
//! Why here: `linear` and `attention` both reduce to this outer product. Each element of a tile is one lane of one
//! accumulator, so its chain of multiply-adds runs over the depth in order whatever the shape of the tile; that is the
//! whole reason for outer products instead of dot products.
//!
//! A panel holds sixteen columns: entry k is the sixteen values that meet `a[r][k]`.
#![expect(unsafe_code, reason = "register tiles over raw pointers; the callers check the bounds")]

use half::{bf16, f16};

use crate::lanes::{LANES, V16};

/// How far ahead panels are asked for: 4 KiB of f32, the 250 to 400 cycles of work that main memory takes to answer.
const ENTRIES_AHEAD: usize = 64;

/// A number as a panel holds it. Half precision is widened at every load: beside the multiply-adds of a tile of six
/// rows that costs nothing measurable.
pub(crate) trait Number: Copy {
    /// # Safety
    /// Sixteen numbers must be readable, and the instruction set of `V` present.
    unsafe fn load<V: V16>(from: *const Self) -> V;
}

impl Number for f32 {
    #[inline(always)]
    unsafe fn load<V: V16>(from: *const Self) -> V {
        // SAFETY: the same contract.
        unsafe { V::load(from) }
    }
}

impl Number for f16 {
    #[inline(always)]
    unsafe fn load<V: V16>(from: *const Self) -> V {
        // SAFETY: the same contract.
        unsafe { V::load_f16(from) }
    }
}

impl Number for bf16 {
    #[inline(always)]
    unsafe fn load<V: V16>(from: *const Self) -> V {
        // SAFETY: the same contract.
        unsafe { V::load_bf16(from) }
    }
}

/// What an accumulator holds before the first multiply-add.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    /// Zero.
    Zero,
    /// One value for each column, shared by all rows.
    Columns(*const f32),
    /// What the output holds: the chain goes on from an earlier range of the depth.
    Output,
}

/// A product of row-major `a` and panels, added up over `depth`.
#[derive(Clone, Copy)]
pub(crate) struct Product<N> {
    /// First row; `depth` floats are read of each.
    pub(crate) a: *const f32,
    /// Floats from one row of `a` to the next.
    pub(crate) a_row_stride: usize,
    pub(crate) depth: usize,
    /// First panel.
    pub(crate) b: *const N,
    /// Numbers from one panel to the next.
    pub(crate) b_panel_stride: usize,
    /// Numbers from one entry of a panel to the next; sixteen are read at each.
    pub(crate) b_depth_stride: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_row_stride: usize,
    pub(crate) rows: usize,
    /// Columns written; the last panel may hold more, which are computed and dropped.
    pub(crate) columns: usize,
    pub(crate) start: Start,
}

/// The whole product, panel by panel, and within a panel tile by tile: one panel stays in the first-level cache while
/// the rows pass by.
///
/// # Safety
/// All ranges that [`Product`] describes must be in bounds, `c` must overlap nothing else, and the instruction set of
/// `V` must be present.
#[inline(always)]
pub(crate) unsafe fn product<V: V16, N: Number>(p: Product<N>) {
    // One or two rows leave registers free: several panels in flight hide the latency of the multiply-adds.
    let abreast = match p.rows {
        1 if V::TILE_ROWS > 2 => 4,
        2 if V::TILE_ROWS > 3 => 2,
        _ => 1,
    };
    let mut panel = 0;
    while panel * LANES < p.columns {
        let left = (p.columns - panel * LANES).div_ceil(LANES);
        let width = if left < abreast { 1 } else { abreast };
        // SAFETY: `panel` is below the number of panels that `p` describes.
        unsafe {
            let mut part = p;
            part.b = p.b.add(panel * p.b_panel_stride);
            part.c = p.c.add(panel * LANES);
            part.columns = (p.columns - panel * LANES).min(width * LANES);
            if let Start::Columns(values) = p.start {
                part.start = Start::Columns(values.add(panel * LANES));
            }
            match width {
                4 => tile::<V, N, 1, 4>(part, Ahead::near(&part)),
                2 => tile::<V, N, 2, 2>(part, Ahead::near(&part)),
                _ => row_tiles::<V, N>(part),
            }
        }
        panel += width;
    }
}

/// One panel times all rows, in tiles of nearly equal height.
///
/// # Safety
/// As for [`product`], with one panel.
#[inline(always)]
unsafe fn row_tiles<V: V16, N: Number>(p: Product<N>) {
    let tiles = p.rows.div_ceil(V::TILE_ROWS);
    let mut row = 0;
    for i in 0..tiles {
        let height = (p.rows - row).div_ceil(tiles - i);
        // SAFETY: `row + height` is at most `p.rows`.
        unsafe {
            let mut part = p;
            part.a = p.a.add(row * p.a_row_stride);
            part.c = p.c.add(row * p.c_row_stride);
            let ahead = if tiles == 1 || p.b_depth_stride != LANES {
                Ahead::near(&part)
            } else {
                Ahead::next_panel(&part, i, tiles)
            };
            match height {
                1 => tile::<V, N, 1, 1>(part, ahead),
                2 => tile::<V, N, 2, 1>(part, ahead),
                3 => tile::<V, N, 3, 1>(part, ahead),
                4 => tile::<V, N, 4, 1>(part, ahead),
                5 => tile::<V, N, 5, 1>(part, ahead),
                6 => tile::<V, N, 6, 1>(part, ahead),
                7 => tile::<V, N, 7, 1>(part, ahead),
                8 => tile::<V, N, 8, 1>(part, ahead),
                9 => tile::<V, N, 9, 1>(part, ahead),
                10 => tile::<V, N, 10, 1>(part, ahead),
                11 => tile::<V, N, 11, 1>(part, ahead),
                _ => tile::<V, N, 12, 1>(part, ahead),
            }
        }
        row += height;
    }
}

/// What a tile asks memory for while it computes: a place and how many bytes it moves on for each entry.
#[derive(Clone, Copy)]
struct Ahead<N> {
    place: *const N,
    step_bytes: usize,
}

impl<N> Ahead<N> {
    /// What the tile itself comes to a little later.
    #[inline(always)]
    fn near(tile: &Product<N>) -> Self {
        let place = tile.b.wrapping_add(ENTRIES_AHEAD * LANES);
        Self { place, step_bytes: tile.b_depth_stride * size_of::<N>() }
    }

    /// Part `index` of `parts` of the next panel. All tiles of a panel take their part, for the first of them alone
    /// could not keep up with memory, and the rest would leave it idle.
    #[inline(always)]
    fn next_panel(tile: &Product<N>, index: usize, parts: usize) -> Self {
        let entry = tile.depth * index / parts;
        Self {
            place: tile.b.wrapping_add(tile.b_panel_stride + entry * LANES),
            step_bytes: LANES * size_of::<N>() / parts,
        }
    }
}

/// `R` rows times `P` panels.
///
/// # Safety
/// As for [`product`], with exactly `R` rows and `P` panels.
#[inline(always)]
unsafe fn tile<V: V16, N: Number, const R: usize, const P: usize>(t: Product<N>, ahead: Ahead<N>) {
    // SAFETY: all offsets stay within the ranges that the caller answers for.
    unsafe {
        let mut sums = [[V::splat(0.0); P]; R];
        match t.start {
            Start::Zero => {}
            Start::Columns(values) => {
                for j in 0..P {
                    let value = load_some::<V>(values.add(j * LANES), t.columns - j * LANES);
                    for row in &mut sums {
                        row[j] = value;
                    }
                }
            }
            Start::Output => {
                for (r, row) in sums.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate() {
                        let at = t.c.add(r * t.c_row_stride + j * LANES);
                        *sum = load_some::<V>(at, t.columns - j * LANES);
                    }
                }
            }
        }
        let (mut b, mut next) = (t.b, ahead.place);
        for k in 0..t.depth {
            let mut entry = [V::splat(0.0); P];
            for (j, value) in entry.iter_mut().enumerate() {
                let line = b.add(j * t.b_panel_stride);
                // Four streams keep the hardware's own prefetching busy; one does not.
                if P < 4 {
                    V::prefetch(next.wrapping_add(j * t.b_panel_stride).cast());
                }
                *value = N::load(line);
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let a = V::splat(*t.a.add(r * t.a_row_stride + k));
                for (sum, value) in row.iter_mut().zip(entry) {
                    *sum = a.mul_add(value, *sum);
                }
            }
            b = b.add(t.b_depth_stride);
            next = next.wrapping_byte_add(ahead.step_bytes);
        }
        for (r, row) in sums.iter().enumerate() {
            for (j, sum) in row.iter().enumerate() {
                let at = t.c.add(r * t.c_row_stride + j * LANES);
                store_some::<V>(*sum, at, t.columns - j * LANES);
            }
        }
    }
}

/// The first `count` lanes, at most sixteen; the rest are 0.
///
/// # Safety
/// `min(count, 16)` floats must be readable.
#[inline(always)]
pub(crate) unsafe fn load_some<V: V16>(from: *const f32, count: usize) -> V {
    // SAFETY: no more than `count` floats are read from `from`; the copy is 16 floats long.
    unsafe {
        if count >= LANES {
            return V::load(from);
        }
        let mut copy = [0.0f32; LANES];
        std::ptr::copy_nonoverlapping(from, copy.as_mut_ptr(), count);
        V::load(copy.as_ptr())
    }
}

/// Stores the first `count` lanes, at most sixteen.
///
/// # Safety
/// `min(count, 16)` floats must be writable.
#[inline(always)]
pub(crate) unsafe fn store_some<V: V16>(value: V, to: *mut f32, count: usize) {
    // SAFETY: no more than `count` floats are written to `to`; the copy is 16 floats long.
    unsafe {
        if count >= LANES {
            return value.store(to);
        }
        let mut copy = [0.0f32; LANES];
        value.store(copy.as_mut_ptr());
        std::ptr::copy_nonoverlapping(copy.as_ptr(), to, count);
    }
}
