//! What holds for every bundled reward: the host loads it, and the same turns cost and give the same.

use orion_host::contract::Observation;
use orion_host::{Host, HostOptions, Limits, Scores};

#[test]
fn every_bundled_reward_scores_the_same_twice() {
    let turns: Vec<Observation> = (1..=20_u64)
        .map(|rank| Observation { cosine: 1.0 / rank as f32, rank, corpus_size: 363, options: Vec::new() })
        .collect();
    for component in orion_bundle::rewards() {
        let score = || -> Scores {
            let host =
                Host::new(HostOptions { concurrent_searches: 1, ..HostOptions::default() }).expect("a host");
            let reward = host.load_reward(component.name, component.bytes).expect("it loads");
            assert_eq!(reward.description().name, component.name);
            host.score_blocking(&reward, &turns, &[], &Limits::unhurried()).expect("scores")
        };
        let scores = score();
        assert_eq!(scores, score(), "{}", component.name);
        let is_falling = scores.rewards.windows(2).all(|pair| pair[0] > pair[1]);
        assert!(is_falling, "{}: {:?}", component.name, scores.rewards);
    }
}
