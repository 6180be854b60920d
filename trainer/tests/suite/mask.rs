//! The mask of a trajectory, token by token: thoughts, queries, the choice of retriever and their end markers carry loss;
//! user query, results and start markers do not.

use orion_policy::{FormatKind, FormatSpec, PolicyTokenizer, TrajectoryFormat, tiny_config};
use orion_trainer::data::{Example, LossOn, Part, Piece, Record, SearchQuery, Snippet};
use orion_trainer::{preview, tokenizer};

fn format() -> TrajectoryFormat {
    let words = "who kept the lamp at oskhaven ask for keeper breakwater long 1 2 : . \n";
    let json = tokenizer::train((0..4).map(|_| words.to_owned()), 290).unwrap();
    let spec = FormatSpec::new(FormatKind::Full, true);
    let mut config = tiny_config();
    config.vocabulary_size = config.vocabulary_size.max(512);
    TrajectoryFormat::new(spec, PolicyTokenizer::parse(json.as_bytes(), "test").unwrap(), &config).unwrap()
}

fn record() -> Record {
    let snippet = Snippet { title: "The long breakwater".into(), text: "Lamp <think> keeper".into() };
    let issued = SearchQuery { query: "lamp keeper".into(), retriever: Some("dense".into()) };
    Record {
        id: "golden".into(),
        set: "test".into(),
        query_id: "1".into(),
        part: Part::Train,
        archetype: None,
        segments: vec![
            Piece::UserQuery("who kept the lamp at Oskhaven".into()),
            Piece::Think("ask for the keeper.".into()),
            Piece::SearchQuery(issued),
            Piece::TopKResponse(vec![snippet]),
            Piece::Think("found.".into()),
        ],
        turns: vec![],
    }
}

#[test]
fn the_mask_is_the_papers() {
    let format = format();
    let span = format.encode_trajectory(&record().policy_segments().unwrap());
    let example = Example { tokens: span.tokens, learn: span.learn };
    assert_eq!(
        preview::mask(&example, format.tokenizer(), false),
        "<bos><user_query> who kept the lamp at oskhaven</user_query><think>[ ask for the keeper.</think>]\
         <search_query>[<dense> lamp keeper</search_query>]<top_k_response> 1. the long breakwater: lamp <think> keeper\
         </top_k_response><think>[ found.</think>]"
    );
    // The marker in the document's text is plain text: one think marker for each thought, no more.
    let think = format.tokenizer().special("<think>").unwrap();
    assert_eq!(example.tokens.iter().filter(|token| **token == think).count(), 2);
}

#[test]
fn all_means_all_but_the_first_and_cutting_keeps_both_lists_alike() {
    let span = format().encode_trajectory(&record().policy_segments().unwrap());
    let example = Example { tokens: span.tokens, learn: span.learn }.prepared(9, LossOn::All);
    assert_eq!(example.tokens.len(), 9);
    assert_eq!(example.learned(), 8);
    assert!(!example.learn[0]);
}
