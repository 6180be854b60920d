//! The reward against numbers worked out by hand and against a slow twin written from the formulas alone.

use orion_reward::TurnReward;
use orion_sdk::{Error, Observation, Reward, Setting, setting};

fn score(turns: &[Observation], options: &[(&str, &str)]) -> Result<Vec<f32>, Error> {
    let options: Vec<Setting> = options.iter().map(|(name, value)| setting(name, value)).collect();
    TurnReward::score(turns, &options)
}

fn refusal(turns: &[Observation], options: &[(&str, &str)]) -> String {
    match score(turns, options) {
        Err(Error::InvalidInput(message)) => message,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[track_caller]
fn check(turns: &[Observation], options: &[(&str, &str)], expected: &[f32]) {
    let got = score(turns, options).expect("a score");
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < 1e-6, "expected {expected}, got {got}");
    }
}

/// Ranks 1, 10 and 1001 of 1001.
fn ladder() -> Vec<Observation> {
    vec![Observation::new(0.8, 1, 1001), Observation::new(0.2, 10, 1001), Observation::new(-0.4, 1001, 1001)]
}

#[test]
fn the_paper_s_reward_by_hand() {
    // 0.5·0.8 + 0.5·1; 0.5·0.2 + 0.5·(1 - 9/1000); 0 + 0: a negative cosine counts as none.
    check(&ladder(), &[], &[0.9, 0.5955, 0.0]);
}

#[test]
fn logarithmic_closeness_by_hand() {
    // ln 10 / ln 1001 = 2.302585 / 6.908755 = 0.333285.
    check(&ladder(), &[("rank", "logarithmic")], &[0.9, 0.1 + 0.5 * 0.666_715, 0.0]);
    // ln 10 / ln 1000 is a third.
    check(&[Observation::new(0.0, 10, 1000)], &[("rank", "logarithmic")], &[1.0 / 3.0]);
}

#[test]
fn weights_and_shift_by_hand() {
    // 0.2·0.8 + 1·1 - 0.5; 0.2·0.2 + 0.991 - 0.5; 0 - 0.5.
    let options = [("similarity-weight", "0.2"), ("rank-weight", "1"), ("shift", "0.5")];
    check(&ladder(), &options, &[0.66, 0.531, -0.5]);
    check(&ladder(), &[("rank-weight", "0")], &[0.4, 0.1, 0.0]);
}

#[test]
fn z_scores_by_hand() {
    // Rewards 0.5, 0.25, 0 and 0.25 of the cosine alone: mean 0.25, deviation √(0.125/4) = 0.1767767.
    let turns = [1.0, 0.5, 0.0, 0.5].map(|cosine| Observation::new(cosine, 1, 2));
    let options = [("rank-weight", "0"), ("z-score", "true")];
    let root = std::f32::consts::SQRT_2;
    check(&turns, &options, &[root, 0.0, -root, 0.0]);
    // The shift comes after.
    check(&turns, &[options[0], options[1], ("shift", "1")], &[root - 1.0, -1.0, -root - 1.0, -1.0]);
}

#[test]
fn a_constant_list_has_z_scores_of_zero() {
    // Three times 0.1 sums to more than 0.3 in binary, so the deviation alone would not notice.
    for cosine in [0.1, 0.2, 0.7] {
        let turns = vec![Observation::new(cosine, 3, 7); 3];
        assert_eq!(score(&turns, &[("z-score", "true")]), Ok(vec![0.0; 3]));
    }
    assert_eq!(score(&ladder()[..1], &[("z-score", "true")]), Ok(vec![0.0]));
}

#[test]
fn nothing_scored_is_nothing() {
    for z_score in ["false", "true"] {
        assert_eq!(score(&[], &[("z-score", z_score)]), Ok(Vec::new()));
    }
}

#[test]
fn a_corpus_of_one_document_has_one_rank() {
    let only = [Observation::new(0.5, 1, 1)];
    check(&only, &[], &[0.75]);
    check(&only, &[("rank", "logarithmic")], &[0.75]);
    assert_eq!(
        refusal(&[Observation::new(0.5, 2, 1)], &[]),
        "turn 0: rank: expected 1 to the corpus size 1, got 2"
    );
}

#[test]
fn the_last_rank_is_worth_nothing_and_the_first_everything() {
    for corpus_size in [2, 3, 363, 5_183, 1 << 40, u64::MAX] {
        for closeness in ["linear", "logarithmic"] {
            let options = [("similarity-weight", "0"), ("rank-weight", "1"), ("rank", closeness)];
            let turns =
                [Observation::new(0.0, 1, corpus_size), Observation::new(0.0, corpus_size, corpus_size)];
            assert_eq!(score(&turns, &options), Ok(vec![1.0, 0.0]), "{closeness} of {corpus_size}");
        }
    }
}

#[test]
fn a_cosine_that_rounding_pushed_beyond_one_counts_as_one() {
    let turns = [Observation::new(1.000_000_1, 1, 2), Observation::new(-1.000_000_1, 1, 2)];
    assert_eq!(score(&turns, &[]), Ok(vec![1.0, 0.5]));
}

#[test]
fn impossible_observations_are_refused_with_their_place() {
    let good = Observation::new(0.5, 1, 10);
    let cases = [
        (Observation::new(0.5, 0, 10), "turn 1: rank: expected 1 to the corpus size 10, got 0"),
        (Observation::new(0.5, 11, 10), "turn 1: rank: expected 1 to the corpus size 10, got 11"),
        (Observation::new(0.5, 1, 0), "turn 1: rank: expected 1 to the corpus size 0, got 1"),
        (Observation::new(f32::NAN, 1, 10), "turn 1: cosine: expected -1 to 1, got NaN"),
        (Observation::new(f32::INFINITY, 1, 10), "turn 1: cosine: expected -1 to 1, got inf"),
        (Observation::new(-1.5, 1, 10), "turn 1: cosine: expected -1 to 1, got -1.5"),
    ];
    for (bad, expected) in cases {
        assert_eq!(refusal(&[good.clone(), bad], &[]), expected);
    }
}

#[test]
fn impossible_parameters_are_refused_even_where_nothing_is_scored() {
    assert_eq!(
        refusal(&[], &[("rank", "quadratic")]),
        "parameter `rank`: expected one of `linear`, `logarithmic`, got `quadratic`"
    );
    assert_eq!(
        refusal(&[], &[("shift", "NaN")]),
        "parameter `shift`: expected a number from -10 to 10, got `NaN`"
    );
    assert!(
        refusal(&[], &[("similarity-weight", "0"), ("rank-weight", "0")]).contains("expected one above 0")
    );
}

#[test]
fn every_parameter_describes_itself() {
    let description = TurnReward::describe();
    let described: Vec<(&str, &str)> = description
        .parameters
        .iter()
        .map(|parameter| (parameter.name.as_str(), parameter.default.as_str()))
        .collect();
    assert_eq!(
        described,
        [
            ("similarity-weight", "0.5"),
            ("rank-weight", "0.5"),
            ("rank", "linear"),
            ("shift", "0"),
            ("z-score", "false")
        ]
    );
}

/// The formulas once more, in the most literal way there is: ranks by counting, the logarithm as a quotient of sums of
/// a series, moments as E[x²] - E[x]².
fn twin(turns: &[(f64, u64, u64)], weights: (f64, f64), is_linear: bool, is_standardised: bool) -> Vec<f64> {
    // ln x = 2 atanh((x - 1)/(x + 1)), after halving x into [1, 2).
    let artanh_series = |x: f64| {
        let y = (x - 1.0) / (x + 1.0);
        (0..60).map(|k| y.powi(2 * k + 1) / f64::from(2 * k + 1)).sum::<f64>() * 2.0
    };
    let logarithm = |mut x: f64| {
        let mut halvings = 0.0;
        while x >= 2.0 {
            x /= 2.0;
            halvings += 1.0;
        }
        artanh_series(x) + halvings * artanh_series(2.0)
    };
    let raw: Vec<f64> = turns
        .iter()
        .map(|&(cosine, rank, size)| {
            let behind = size - rank;
            let closeness = if is_linear {
                behind as f64 / (size - 1) as f64
            } else {
                1.0 - logarithm(rank as f64) / logarithm(size as f64)
            };
            let similarity = if cosine < 0.0 { 0.0 } else { cosine };
            weights.0 * similarity + weights.1 * closeness
        })
        .collect();
    if !is_standardised {
        return raw;
    }
    let count = raw.len() as f64;
    let mean = raw.iter().sum::<f64>() / count;
    let mean_of_squares = raw.iter().map(|x| x * x).sum::<f64>() / count;
    raw.iter().map(|x| (x - mean) / (mean_of_squares - mean * mean).sqrt()).collect()
}

#[test]
fn the_slow_twin_agrees_over_a_grid() {
    for size in [2_u64, 5, 363, 5_183, 523_000] {
        let ranks = [1, 2, size / 2 + 1, size - 1, size].map(|rank| rank.clamp(1, size));
        let cosines = [-0.5_f32, 0.0, 0.125, 0.7, 1.0];
        let turns: Vec<Observation> =
            ranks.iter().zip(cosines).map(|(rank, cosine)| Observation::new(cosine, *rank, size)).collect();
        let plain: Vec<(f64, u64, u64)> =
            turns.iter().map(|turn| (f64::from(turn.cosine), turn.rank, turn.corpus_size)).collect();
        for (words, weights) in
            [(("0.5", "0.5"), (0.5, 0.5)), (("0.25", "1"), (0.25, 1.0)), (("0", "1"), (0.0, 1.0))]
        {
            for is_linear in [true, false] {
                for is_standardised in [false, true] {
                    let options = [
                        ("similarity-weight", words.0),
                        ("rank-weight", words.1),
                        ("rank", if is_linear { "linear" } else { "logarithmic" }),
                        ("z-score", if is_standardised { "true" } else { "false" }),
                    ];
                    let expected = twin(&plain, weights, is_linear, is_standardised);
                    let expected: Vec<f32> = expected.into_iter().map(|value| value as f32).collect();
                    check(&turns, &options, &expected);
                }
            }
        }
    }
}
