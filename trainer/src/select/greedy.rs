//! Greedy farthest-point selection with a bonus: each pick is the one that is farthest from all picks so far, its own
//! complexity counted in. O(picks · records · dimensions), since only the newest pick can bring a record nearer.

/// Distance of two unit vectors, (1 - cosine) / 2, in [0, 1].
fn distance(left: &[f32], right: &[f32]) -> f64 {
    let cosine: f64 = left.iter().zip(right).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    ((1.0 - cosine) / 2.0).clamp(0.0, 1.0)
}

/// Places of at most `count` records in the order of picking. A record scores
/// `(1 - weight) · distance to the nearest pick + weight · bonus`, the distance being 1 before the first pick; the first
/// of equals is picked. Only groups with the fewest picks so far take part, as long as they have records left.
/// `vectors`, `bonus` and `groups` have one entry a record; vectors are of unit length or zero.
pub fn choose(
    vectors: &[Vec<f32>],
    bonus: &[f64],
    groups: &[usize],
    weight: f64,
    count: usize,
) -> Vec<usize> {
    debug_assert!(vectors.len() == bonus.len() && bonus.len() == groups.len());
    let mut left: Vec<usize> = vec![0; groups.iter().max().map_or(0, |last| last + 1)];
    groups.iter().for_each(|group| left[*group] += 1);
    let mut picks = vec![0usize; left.len()];
    let mut nearest = vec![1.0f64; vectors.len()];
    let mut is_picked = vec![false; vectors.len()];
    let mut chosen = Vec::new();
    while chosen.len() < count.min(vectors.len()) {
        let fewest = (0..picks.len()).filter(|&group| left[group] > 0).map(|group| picks[group]).min();
        let score = |place: usize| (1.0 - weight) * nearest[place] + weight * bonus[place];
        let best = (0..vectors.len())
            .filter(|&place| !is_picked[place] && Some(picks[groups[place]]) == fewest)
            .reduce(|best, place| if score(best) < score(place) { place } else { best });
        let Some(best) = best else { break };
        is_picked[best] = true;
        left[groups[best]] -= 1;
        picks[groups[best]] += 1;
        for (place, least) in nearest.iter_mut().enumerate() {
            *least = least.min(distance(&vectors[best], &vectors[place]));
        }
        chosen.push(best);
    }
    chosen
}

/// Mean distance of each of `places` to the nearest other one of them; 0 for fewer than two.
pub(super) fn spread(vectors: &[Vec<f32>], places: &[usize]) -> f64 {
    let nearest = |&place: &usize| {
        let others = places.iter().filter(|other| **other != place);
        others.map(|&other| distance(&vectors[place], &vectors[other])).fold(f64::INFINITY, f64::min)
    };
    if places.len() < 2 { 0.0 } else { places.iter().map(nearest).sum::<f64>() / places.len() as f64 }
}

/// The largest distance of any vector to the nearest of `places`; 0 where there are none.
pub(super) fn radius(vectors: &[Vec<f32>], places: &[usize]) -> f64 {
    let nearest = |vector: &Vec<f32>| {
        places.iter().map(|&place| distance(vector, &vectors[place])).fold(f64::INFINITY, f64::min)
    };
    if places.is_empty() { 0.0 } else { vectors.iter().map(nearest).fold(0.0, f64::max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by the definition: every distance anew at every pick.
    fn slow(vectors: &[Vec<f32>], bonus: &[f64], groups: &[usize], weight: f64, count: usize) -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < count.min(vectors.len()) {
            let free: Vec<usize> = (0..vectors.len()).filter(|place| !chosen.contains(place)).collect();
            let picks = |group: usize| chosen.iter().filter(|place| groups[**place] == group).count();
            let fewest = free.iter().map(|&place| picks(groups[place])).min().unwrap();
            let mut best: Option<(f64, usize)> = None;
            for &place in free.iter().filter(|place| picks(groups[**place]) == fewest) {
                let near = chosen.iter().map(|&pick| distance(&vectors[pick], &vectors[place]));
                let score = (1.0 - weight) * near.fold(1.0, f64::min) + weight * bonus[place];
                if best.is_none_or(|(other, _)| other < score) {
                    best = Some((score, place));
                }
            }
            chosen.push(best.unwrap().1);
        }
        chosen
    }

    /// Directions on a circle, some of them the same, with bonuses and groups.
    fn case(seed: u64) -> (Vec<Vec<f32>>, Vec<f64>, Vec<usize>) {
        let mut state = seed;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let count = 1 + next(14) as usize;
        let angle = |step: u64| step as f32 * std::f32::consts::TAU / 8.0;
        let vectors = (0..count).map(|_| angle(next(8))).map(|a| vec![a.cos(), a.sin()]).collect();
        let bonus = (0..count).map(|_| next(4) as f64 / 4.0).collect();
        let groups = (0..count).map(|_| next(3) as usize).collect();
        (vectors, bonus, groups)
    }

    #[test]
    fn fast_picks_what_slow_picks() {
        for seed in 0..256 {
            let (vectors, bonus, groups) = case(seed);
            for weight in [0.0, 0.3, 1.0] {
                for count in [0, 1, 4, 20] {
                    assert_eq!(
                        choose(&vectors, &bonus, &groups, weight, count),
                        slow(&vectors, &bonus, &groups, weight, count),
                        "seed {seed}, weight {weight}, count {count}"
                    );
                }
            }
        }
    }

    #[test]
    fn opposites_come_first_and_groups_take_turns() {
        let vectors = [[1.0, 0.0], [0.9999, 0.0141], [-1.0, 0.0], [0.0, 1.0]].map(|v: [f32; 2]| v.to_vec());
        assert_eq!(choose(&vectors, &[0.0; 4], &[0; 4], 0.0, 3), [0, 2, 3]);
        assert_eq!(choose(&vectors, &[0.0, 0.5, 0.0, 0.0], &[0; 4], 1.0, 1), [1]);
        let picked = choose(&vectors, &[0.0; 4], &[0, 0, 0, 1], 0.0, 4);
        assert_eq!(picked[..2], [0, 3]);
        assert!(radius(&vectors, &picked[..2]) > radius(&vectors, &picked[..3]));
        assert_eq!(spread(&vectors, &[0]), 0.0);
    }
}
