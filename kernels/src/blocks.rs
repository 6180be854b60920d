//! Weights of four to eight bits in blocks with shared scales, as GGUF files hold them.
//!
//! Why here: their layout is what the kernels of `block_linear` read, so that a mapped file is used as it lies. This
//! file says what the bytes mean: a block's size, its numbers widened, and how numbers become blocks. All of it is
//! plain code: it runs at load, and for one row at a time where an embedding is looked up.
//!
//! Layouts are those of llama.cpp (`Q8_0`, `Q4_0`, `Q4_K`, `Q6_K`); all numbers are little-endian.

use half::f16;

/// How weights lie in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    /// 32 numbers: a scale in f16 and 8-bit integers. 8.5 bits a number.
    Q8_0,
    /// 32 numbers: a scale in f16 and 4-bit integers less 8. 4.5 bits a number.
    Q4_0,
    /// 256 numbers in eight runs of 32: 4-bit integers, each run with a scale and an offset of six bits, which two
    /// numbers in f16 scale in turn. 4.5 bits a number.
    Q4K,
    /// 256 numbers in sixteen runs of 16: 6-bit integers less 32, each run with an 8-bit scale, which one number in f16
    /// scales in turn. 6.56 bits a number.
    Q6K,
}

impl BlockFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Q8_0, Self::Q4_0, Self::Q4K, Self::Q6K];

    /// Numbers of one block; rows are whole blocks.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 => 32,
            Self::Q4K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4K => 144,
            Self::Q6K => 210,
        }
    }

    /// Bytes of that many numbers; `None` where they are no whole number of blocks, or too many to count.
    pub fn bytes_of(self, numbers: usize) -> Option<usize> {
        if !numbers.is_multiple_of(self.block_len()) {
            return None;
        }
        (numbers / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Where the numbers in f16 that scale a block stand in it.
    const fn scales(self) -> &'static [usize] {
        match self {
            Self::Q8_0 | Self::Q4_0 => &[0],
            Self::Q4K => &[0, 2],
            Self::Q6K => &[208],
        }
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The first scale that is not finite, with the number of its block: whoever reads blocks from elsewhere asks.
pub fn scale_that_is_not_finite(format: BlockFormat, bytes: &[u8]) -> Option<(usize, f32)> {
    let places = format.scales();
    let blocks = bytes.chunks_exact(format.block_bytes()).enumerate();
    let mut scales = blocks.flat_map(|(index, block)| places.iter().map(move |at| (index, block, *at)));
    scales
        .find(|(_, block, at)| block[at + 1] & 0x7c == 0x7c)
        .map(|(index, block, at)| (index, half_at(block, at)))
}

/// Scale and offset of each of the eight runs of a Q4_K block, six bits each, packed into twelve bytes.
pub(crate) fn scales_and_offsets(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut offsets) = ([0; 8], [0; 8]);
    for j in 0..4 {
        scales[j] = packed[j] & 63;
        offsets[j] = packed[j + 4] & 63;
        scales[j + 4] = (packed[j + 8] & 15) | (packed[j] >> 6 << 4);
        offsets[j + 4] = (packed[j + 8] >> 4) | (packed[j + 4] >> 6 << 4);
    }
    (scales, offsets)
}

/// Widens whole blocks.
///
/// # Panics
/// Where `bytes` are not the blocks of `out.len()` numbers.
pub fn widen_blocks(format: BlockFormat, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(format.bytes_of(out.len()), Some(bytes.len()), "bytes must be {} numbers", out.len());
    let blocks = bytes.chunks_exact(format.block_bytes());
    for (block, numbers) in blocks.zip(out.chunks_exact_mut(format.block_len())) {
        match format {
            BlockFormat::Q8_0 => {
                let scale = half_at(block, 0);
                for (number, byte) in numbers.iter_mut().zip(&block[2..]) {
                    *number = f32::from(*byte as i8) * scale;
                }
            }
            BlockFormat::Q4_0 => {
                let scale = half_at(block, 0);
                for (i, byte) in block[2..].iter().enumerate() {
                    numbers[i] = (f32::from(byte & 15) - 8.0) * scale;
                    numbers[i + 16] = (f32::from(byte >> 4) - 8.0) * scale;
                }
            }
            BlockFormat::Q4K => widen_q4k(block, numbers),
            BlockFormat::Q6K => widen_q6k(block, numbers),
        }
    }
}

fn widen_q4k(block: &[u8], numbers: &mut [f32]) {
    let (scale, offset) = (half_at(block, 0), half_at(block, 2));
    let mut packed = [0; 12];
    packed.copy_from_slice(&block[4..16]);
    let (scales, offsets) = scales_and_offsets(&packed);
    for (run, out) in numbers.chunks_exact_mut(32).enumerate() {
        let (by, less) = (scale * f32::from(scales[run]), offset * f32::from(offsets[run]));
        for (number, byte) in out.iter_mut().zip(&block[16 + run / 2 * 32..]) {
            let bits = if run % 2 == 0 { byte & 15 } else { byte >> 4 };
            *number = by * f32::from(bits) - less;
        }
    }
}

/// The 6-bit integers of a Q6_K block, less 32, in order.
pub(crate) fn sixes(block: &[u8]) -> [i8; 256] {
    let mut out = [0; 256];
    for (i, value) in out.iter_mut().enumerate() {
        // Two halves of 128; in each, four quarters of 32 share bytes.
        let (half, quarter, place) = (i / 128, i / 32 % 4, i % 32);
        let low = block[half * 64 + quarter % 2 * 32 + place] >> (quarter / 2 * 4) & 15;
        let high = block[128 + half * 32 + place] >> (quarter * 2) & 3;
        *value = (low | high << 4) as i8 - 32;
    }
    out
}

fn widen_q6k(block: &[u8], numbers: &mut [f32]) {
    let scale = half_at(block, 208);
    for (i, (number, six)) in numbers.iter_mut().zip(sixes(block)).enumerate() {
        *number = scale * f32::from(block[192 + i / 16] as i8) * f32::from(six);
    }
}

/// Rounds numbers to blocks. A block whose scale f16 cannot hold comes out with an infinite one.
///
/// Each run takes the scale that its extremes ask for; llama.cpp's search for a scale with a smaller squared error is
/// left out.
///
/// # Panics
/// Where `values` are no whole number of blocks.
pub fn quantise_blocks(format: BlockFormat, values: &[f32]) -> Vec<u8> {
    let Some(length) = format.bytes_of(values.len()) else {
        panic!("{} numbers are no whole blocks of {}", values.len(), format.block_len());
    };
    let mut bytes = vec![0; length];
    let blocks = bytes.chunks_exact_mut(format.block_bytes());
    for (block, numbers) in blocks.zip(values.chunks_exact(format.block_len())) {
        match format {
            BlockFormat::Q8_0 => {
                let scale = extreme(numbers).abs() / 127.0;
                put_half(block, 0, scale);
                for (byte, number) in block[2..].iter_mut().zip(numbers) {
                    *byte = nearest(*number, scale, -127.0, 127.0) as i8 as u8;
                }
            }
            BlockFormat::Q4_0 => {
                // The extreme becomes -8, which has no counterpart above.
                let scale = extreme(numbers) / -8.0;
                put_half(block, 0, scale);
                for i in 0..16 {
                    let four = |number| (nearest(number, scale, -8.0, 7.0) + 8.0) as u8;
                    block[2 + i] = four(numbers[i]) | four(numbers[i + 16]) << 4;
                }
            }
            BlockFormat::Q4K => quantise_q4k(numbers, block),
            BlockFormat::Q6K => quantise_q6k(numbers, block),
        }
    }
    bytes
}

/// The number that is farthest from 0.
fn extreme(numbers: &[f32]) -> f32 {
    numbers.iter().copied().fold(0.0, |a: f32, b| if a.abs() < b.abs() { b } else { a })
}

/// `number / scale` as an integer in a range; 0 where the scale is 0.
fn nearest(number: f32, scale: f32, low: f32, high: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { (number / scale).round().clamp(low, high) }
}

fn put_half(block: &mut [u8], at: usize, value: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

fn quantise_q4k(numbers: &[f32], block: &mut [u8]) {
    let (mut steps, mut floors) = ([0.0f32; 8], [0.0f32; 8]);
    for (run, (step, floor)) in numbers.chunks_exact(32).zip(steps.iter_mut().zip(&mut floors)) {
        let low = run.iter().copied().fold(0.0, f32::min);
        let high = run.iter().copied().fold(low, f32::max);
        *step = (high - low) / 15.0;
        *floor = -low;
    }
    put_half(block, 0, extreme(&steps) / 63.0);
    put_half(block, 2, extreme(&floors) / 63.0);
    let (scale, offset) = (half_at(block, 0), half_at(block, 2));
    let scales = steps.map(|step| nearest(step, scale, 0.0, 63.0) as u8);
    let offsets = floors.map(|floor| nearest(floor, offset, 0.0, 63.0) as u8);
    for j in 0..4 {
        block[4 + j] = scales[j] | scales[j + 4] >> 4 << 6;
        block[8 + j] = offsets[j] | offsets[j + 4] >> 4 << 6;
        block[12 + j] = (scales[j + 4] & 15) | (offsets[j + 4] & 15) << 4;
    }
    for (run, part) in numbers.chunks_exact(32).enumerate() {
        let (by, less) = (scale * f32::from(scales[run]), offset * f32::from(offsets[run]));
        for (byte, number) in block[16 + run / 2 * 32..].iter_mut().zip(part) {
            *byte |= (nearest(number + less, by, 0.0, 15.0) as u8) << (run % 2 * 4);
        }
    }
}

fn quantise_q6k(numbers: &[f32], block: &mut [u8]) {
    let mut steps = [0.0f32; 16];
    for (run, step) in numbers.chunks_exact(16).zip(&mut steps) {
        *step = extreme(run) / -32.0;
    }
    put_half(block, 208, extreme(&steps) / -128.0);
    let scale = half_at(block, 208);
    for (run, step) in steps.iter().enumerate() {
        block[192 + run] = nearest(*step, scale, -128.0, 127.0) as i8 as u8;
    }
    for (i, number) in numbers.iter().enumerate() {
        let step = scale * f32::from(block[192 + i / 16] as i8);
        let six = (nearest(*number, step, -32.0, 31.0) + 32.0) as u8;
        let (half, quarter, place) = (i / 128, i / 32 % 4, i % 32);
        block[half * 64 + quarter % 2 * 32 + place] |= (six & 15) << (quarter / 2 * 4);
        block[128 + half * 32 + place] |= six >> 4 << (quarter * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn rounding_loses_no_more_than_a_step() {
        let values: Vec<f32> =
            numbers(1024, 7).iter().enumerate().map(|(i, x)| x * (1 + i / 32) as f32).collect();
        for (format, room) in [
            (BlockFormat::Q8_0, 1.0 / 127.0),
            (BlockFormat::Q4_0, 1.0 / 7.9),
            (BlockFormat::Q4K, 0.12),
            (BlockFormat::Q6K, 0.04),
        ] {
            let bytes = quantise_blocks(format, &values);
            let mut back = vec![0.0; values.len()];
            widen_blocks(format, &bytes, &mut back);
            // Blocks of 256 share scales among runs of different size.
            for (block, got) in values.chunks(format.block_len()).zip(back.chunks(format.block_len())) {
                let largest = extreme(block).abs();
                for (a, b) in block.iter().zip(got) {
                    assert!((a - b).abs() <= room * largest, "{format:?}: {a} {b} of {largest}");
                }
            }
            // What came from blocks goes back without loss of more than the scales' own rounding.
            assert!(scale_that_is_not_finite(format, &bytes).is_none());
            let mut broken = bytes.clone();
            let at = format.block_bytes() + format.scales()[0];
            broken[at..at + 2].copy_from_slice(&f16::INFINITY.to_le_bytes());
            assert_eq!(scale_that_is_not_finite(format, &broken), Some((1, f32::INFINITY)));
        }
    }

    #[test]
    fn known_bytes_mean_known_numbers() {
        let mut out = [0.0; 32];
        let mut block = vec![0u8; 34];
        put_half(&mut block, 0, 0.5);
        block[2] = 3;
        block[33] = -4i8 as u8;
        widen_blocks(BlockFormat::Q8_0, &block, &mut out);
        assert_eq!((out[0], out[1], out[31]), (1.5, 0.0, -2.0));
        let mut four = vec![0x88u8; 18];
        put_half(&mut four, 0, 2.0);
        four[2] = 0x1f;
        widen_blocks(BlockFormat::Q4_0, &four, &mut out);
        assert_eq!((out[0], out[16], out[1], out[17]), (14.0, -14.0, 0.0, 0.0));
        // Scales and offsets of all six bits, in every place.
        let packed = [0xC1, 0x02, 0x03, 0x44, 0x85, 0x06, 0x07, 0x3f, 0x21, 0x43, 0x65, 0x87];
        let (scales, offsets) = scales_and_offsets(&packed);
        assert_eq!(scales, [1, 2, 3, 4, 0x31, 3, 5, 0x17]);
        assert_eq!(offsets, [5, 6, 7, 63, 0x22, 4, 6, 8]);
    }

    #[test]
    fn zeros_stay_zeros() {
        for format in BlockFormat::ALL {
            let bytes = quantise_blocks(format, &[0.0; 256]);
            let mut out = [9.0; 256];
            widen_blocks(format, &bytes, &mut out);
            assert_eq!(out, [0.0; 256]);
        }
    }
}
