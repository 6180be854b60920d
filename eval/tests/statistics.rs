//! Randomisation test, Holm's correction and behaviour measures, against exact answers and naive twins.

use orion_eval::{
    behaviour::{Episode, Turn, backtracks, describe},
    significance::{compare_all, holm, paired_randomisation},
};
use proptest::prelude::*;

fn episode(ranks: &[u32]) -> Episode {
    let turns = ranks
        .iter()
        .map(|rank| Turn { query: "two words".to_owned(), best_rank: (*rank != 0).then_some(*rank) })
        .collect();
    Episode { turns, confidence: None }
}

#[test]
fn same_columns_are_never_significant_and_a_steady_gain_is() {
    let control: Vec<f64> = (0..50).map(|i| f64::from(i % 7) / 7.0).collect();
    let better: Vec<f64> = control.iter().map(|value| value + 0.01).collect();
    assert_eq!(paired_randomisation(&control, &control, 1), 1.0);
    assert_eq!(paired_randomisation(&better, &control, 1), 1.0 / 10_001.0);
    assert_eq!(paired_randomisation(&better, &control, 7), paired_randomisation(&better, &control, 7));
}

/// All sign patterns, for few differences.
fn exact_p(differences: &[f64]) -> f64 {
    let observed = differences.iter().sum::<f64>().abs();
    let patterns = 1_u32 << differences.len();
    let extreme = (0..patterns)
        .filter(|pattern| {
            let sum: f64 = differences
                .iter()
                .enumerate()
                .map(|(i, d)| if pattern >> i & 1 == 1 { *d } else { -*d })
                .sum();
            observed - 1e-9 <= sum.abs()
        })
        .count();
    extreme as f64 / f64::from(patterns)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn drawn_p_is_near_the_exact_one(steps in prop::collection::vec(-4_i8..5, 1..9), seed: u64) {
        let system: Vec<f64> = steps.iter().map(|step| f64::from(*step) / 8.0).collect();
        let control = vec![0.0; system.len()];
        let p = paired_randomisation(&system, &control, seed);
        // Five standard deviations of 10,000 draws.
        prop_assert!((p - exact_p(&system)).abs() < 0.025, "{p} against {}", exact_p(&system));
    }

    #[test]
    fn holm_keeps_order_and_only_raises(p_values in prop::collection::vec(0.0_f64..1.0, 0..8)) {
        let corrected = holm(&p_values);
        for (a, raw) in p_values.iter().enumerate() {
            prop_assert!(*raw <= corrected[a] && corrected[a] <= 1.0);
            for (b, other) in p_values.iter().enumerate() {
                prop_assert!(other < raw || corrected[a] <= corrected[b]);
            }
        }
    }
}

#[test]
fn holm_on_a_worked_example() {
    let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
    let rounded: Vec<f64> = corrected.iter().map(|p| (p * 1e6).round() / 1e6).collect();
    assert_eq!(rounded, [0.03, 0.06, 0.06, 0.02]);
}

#[test]
fn comparisons_carry_the_difference_of_means() {
    let control = vec![0.0, 0.5, 1.0];
    let compared = compare_all(&[vec![0.5, 0.5, 1.0], control.clone()], &control, 3);
    assert!((compared[0].difference - 1.0 / 6.0).abs() < 1e-12);
    assert_eq!((compared[1].difference, compared[1].p), (0.0, 1.0));
}

/// The paper prints these two progressions with their verdicts.
#[test]
fn backtracking_agrees_with_the_papers_examples() {
    assert!(backtracks(&episode(&[12, 13, 8, 1])));
    assert!(!backtracks(&episode(&[7, 11, 11, 8, 7])));
}

#[test]
fn backtracking_needs_a_loss_and_a_gain_over_the_best() {
    for (ranks, expected) in [
        (&[][..], false),
        (&[5, 4, 3], false),
        (&[5, 0, 4], true),
        (&[5, 9, 5], false),
        (&[0, 5, 3], false),
        (&[0, 5, 0, 5, 4], true),
    ] {
        assert_eq!(backtracks(&episode(ranks)), expected, "{ranks:?}");
    }
}

#[test]
fn behaviour_of_three_episodes() {
    let described = describe(&[episode(&[1, 30]), episode(&[0, 0, 7]), episode(&[40, 40, 90])], 10);
    assert_eq!(described.turn_wise_success, [0.5, 0.0, 0.5]);
    // Steps before success: 0→0 and 0→7 of the second, 40→40 and 40→90 of the third.
    assert_eq!(described.rank_stagnation, 0.5);
    assert_eq!(described.backtracking, 0.0);
    assert_eq!((described.mean_query_words, described.median_query_words), (2.0, 2.0));
    assert_eq!(described.episodes, 3);
}

#[test]
fn nothing_to_describe_is_zeros() {
    let described = describe(&[], 10);
    assert!(described.turn_wise_success.is_empty());
    assert_eq!(
        (described.rank_stagnation, described.backtracking, described.mean_query_words),
        (0.0, 0.0, 0.0)
    );
}

#[test]
fn confidence_is_worth_how_often_it_tells_success() {
    let sure = |ranks: &[u32], confidence: f32| Episode { confidence: Some(confidence), ..episode(ranks) };
    // Two that end well (0.9, 0.4), two that do not (0.5, 0.4), and one that says nothing: 2.5 of 4 pairs.
    let episodes =
        [sure(&[50, 3], 0.9), sure(&[2], 0.4), sure(&[2, 60], 0.5), sure(&[0], 0.4), episode(&[1])];
    assert_eq!(describe(&episodes, 10).confidence_auc, Some(0.625));
    assert_eq!(describe(&episodes[..2], 10).confidence_auc, None);
    assert_eq!(describe(&episodes[..2], 10).confidence_fit, None);
    // No falling curve is likelier than any other: among the sure as many succeed as among the unsure.
    let even = [sure(&[3], 0.9), sure(&[60], 0.9), sure(&[3], 0.4), sure(&[60], 0.4)];
    assert_eq!(describe(&even, 10).confidence_fit, None);
    // Three of four succeed at 1/e, one of four at 1/e^3: odds of 3 and of 1/3, so one half at 2 and width 1/ln 3.
    let shares = |log: f32, successes: usize| {
        (0..4).map(move |place| sure(&[if place < successes { 1 } else { 60 }], (-log).exp()))
    };
    let episodes: Vec<Episode> = shares(1.0, 3).chain(shares(3.0, 1)).collect();
    let fit = describe(&episodes, 10).confidence_fit.unwrap();
    assert!((fit.middle - 2.0).abs() < 1e-5 && (fit.width - 1.0 / 3.0_f64.ln()).abs() < 1e-5, "{fit:?}");
    assert!((fit.chance(1.0) - 0.75).abs() < 1e-5 && (fit.chance(3.0) - 0.25).abs() < 1e-5);
    // Thresholds that tell all are no curve.
    let told = [sure(&[1], 0.9), sure(&[60], 0.4)];
    assert_eq!(describe(&told, 10).confidence_fit, None);
}
