//! Which queries may be trained or tuned on.
//!
//! Two rules, each in one place: a set without a dev file lends a hashed fifth of its training queries as dev,
//! and no training query may have the text of a test query. Neighbours: [`crate::dataset`] applies both.

use std::collections::BTreeSet;

use crate::dataset::Query;

/// One training query in this many is dev where a set has no dev file.
pub const HASHED_DEV_SHARE: u64 = 5;

/// Whether a training query belongs to the hashed dev split.
///
/// The rule: FNV-1a (64 bits, offset basis 0xcbf29ce484222325, prime 0x100000001b3) over the id's UTF-8 bytes,
/// then the SplitMix64 finaliser (FNV alone spreads short ids badly over small moduli); dev where the result
/// is divisible by [`HASHED_DEV_SHARE`].
pub fn is_hashed_dev(query_id: &str) -> bool {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in query_id.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    finalise(hash).is_multiple_of(HASHED_DEV_SHARE)
}

/// The SplitMix64 finaliser: a bijection of 64 bits that mixes every input bit into every output bit.
pub(crate) fn finalise(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// `train` less the queries whose text also occurs in `test`, compared lower-cased with runs of anything but
/// letters and digits read as one space; order is kept.
pub fn without_leaks(train: Vec<Query>, test: &[Query]) -> Vec<Query> {
    let test_texts: BTreeSet<String> = test.iter().map(|query| normalised(&query.text)).collect();
    train.into_iter().filter(|query| !test_texts.contains(&normalised(&query.text))).collect()
}

fn normalised(text: &str) -> String {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join(" ")
}
