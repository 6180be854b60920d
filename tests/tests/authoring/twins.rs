//! The scripted world of scenarios and the SDK's `MockHost` rank alike: an author's native test and scenario agree.

use orion_host::contract::{Query, Retriever};
use orion_host::scripted::Scenario;
use orion_sdk::Host as _;
use orion_sdk::mock::MockHost;

use crate::world::SCENARIO;

#[test]
fn scenarios_rank_as_the_sdks_mock_does() {
    let scenario = Scenario::parse("pump", SCENARIO).expect("a scenario");
    let mut mock = MockHost::new();
    for document in &scenario.scripts.document {
        mock = mock.document(&document.id, &document.title, &document.text);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    let retrieve = scenario.services().retrieve;
    for text in ["winter", "reversing valve of a pump", "Why? WHY, winter unit!", "xylophone", "evaporators"]
    {
        for (there, here) in [
            (orion_sdk::Retriever::Lexical, Retriever::Lexical),
            (orion_sdk::Retriever::Dense, Retriever::Dense),
            (orion_sdk::Retriever::Hybrid, Retriever::Hybrid),
        ] {
            for weight in [0.0, 0.3, 1.0, f32::NAN] {
                let query = orion_sdk::Query::new(text, there, weight, 2);
                let expected = mock.search(&[query]).expect("a ranking").remove(0);
                let query = Query {
                    text: text.to_owned(),
                    retriever: here,
                    dense_weight: weight,
                    k: 2,
                    filter: None,
                    options: Vec::new(),
                };
                let got = runtime.block_on(retrieve.search(vec![query])).expect("a ranking").remove(0);
                let expected: Vec<(String, f32)> =
                    expected.into_iter().map(|hit| (hit.id, hit.score)).collect();
                let got: Vec<(String, f32)> = got.into_iter().map(|hit| (hit.id, hit.score)).collect();
                assert_eq!(got, expected, "`{text}` {here:?} {weight}");
            }
        }
    }
}
