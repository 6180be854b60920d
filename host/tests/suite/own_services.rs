//! The adapters: an embedded index and a local policy behind the host's seams, driven by a guest.
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{hostile_component, options};
use orion_host::contract::{Query, Retriever, Segment};
use orion_host::index::{Document, Index, IndexSettings, OpenOptions, Value};
use orion_host::policy::{Policy, PolicyOptions, Source, tiny_policy};
use orion_host::{
    CancelToken, EmbeddedRetriever, Generate, Host, Limits, Request, Retrieve, ServiceError, Services,
};

/// A lexical index of three documents.
fn retriever(folder: &std::path::Path) -> EmbeddedRetriever {
    let index = Index::create(&folder.join("index"), &IndexSettings::lexical_only(), OpenOptions::default());
    let index = index.expect("an index");
    let mut writer = index.writer().expect("a writer");
    for (id, text, year) in [("a", "red fox", 2019), ("b", "red wine", 2020), ("c", "blue fox fox", 2021)] {
        let metadata = BTreeMap::from([("year".to_owned(), Value::Number(f64::from(year)))]);
        let (id, title, text) = (id.to_owned(), format!("on {id}"), text.to_owned());
        writer.add(Document { id, title, text, metadata, ..Document::default() }).expect("added");
    }
    writer.commit().expect("committed");
    EmbeddedRetriever(index.refresh().expect("a snapshot"))
}

fn query(text: &str, retriever: Retriever, filter: Option<&str>) -> Query {
    let (text, filter) = (text.to_owned(), filter.map(str::to_owned));
    Query { text, retriever, dense_weight: f32::NAN, k: 10, filter, options: Vec::new() }
}

#[tokio::test]
async fn the_index_answers_by_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let retriever = retriever(folder.path());
    let queries =
        vec![query("fox", Retriever::Lexical, None), query("fox", Retriever::Lexical, Some("year < 2020"))];
    let rankings = retriever.search(queries).await.expect("rankings");
    let ids = |place: usize| rankings[place].iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>();
    assert_eq!(ids(0), ["c", "a"]);
    assert_eq!(ids(1), ["a"]);

    let dense = retriever.search(vec![query("fox", Retriever::Dense, None)]).await;
    assert!(matches!(dense, Err(ServiceError::Unavailable(_))), "{dense:?}");
    let filtered = retriever.search(vec![query("fox", Retriever::Lexical, Some("year <"))]).await;
    assert!(matches!(filtered, Err(ServiceError::InvalidInput(_))), "{filtered:?}");

    let documents = retriever.documents(vec!["b".to_owned(), "z".to_owned()], 4).await.expect("documents");
    let first = documents[0].as_ref().expect("it is there");
    assert_eq!((first.id.as_str(), first.title.as_str(), first.text.as_str()), ("b", "on b", "red "));
    assert_eq!(documents[1], None);
}

#[tokio::test]
async fn the_policy_answers_by_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    tiny_policy(folder.path(), 7).expect("a policy folder");
    let source = Source::Folder(folder.path().to_owned());
    let policy = Policy::load(&source, &PolicyOptions::default()).expect("a policy");
    let session = Generate::session(&policy);
    let steps = vec![(None, vec![Segment::UserQuery("fox".to_owned())])];
    let extended = session.extend(steps).await.expect("a node");
    assert_eq!(extended.usage.decoded_tokens, 0);
    assert!(extended.usage.prefilled_tokens > 3, "{:?}", extended.usage);
    let judged =
        session.perplexity(vec![(extended.value[0], vec!["red fox".to_owned()])]).await.expect("judged");
    assert!(judged.value[0][0].perplexity > 1.0);
    let unknown = session.perplexity(vec![(99, vec!["red fox".to_owned()])]).await;
    assert!(unknown.is_err());
}

#[test]
fn a_guest_searches_a_real_index_with_a_real_policy() {
    let folder = tempfile::tempdir().expect("a folder");
    tiny_policy(folder.path(), 7).expect("a policy folder");
    let source = Source::Folder(folder.path().to_owned());
    let policy = Policy::load(&source, &PolicyOptions::default()).expect("a policy");
    let retrieve = Arc::new(retriever(folder.path()));
    let services = Services { retrieve, generate: Some(Arc::new(policy)), feedback: None };
    let host = Host::new(options()).expect("a host");
    let strategy = host.load_bytes("guest", hostile_component()).expect("it loads");
    let limits = Limits::unhurried();
    let ask = |behaviour: &str, filter: Option<&str>| {
        let options = vec![("behaviour".to_owned(), behaviour.to_owned())];
        let request = Request { options, filter: filter.map(str::to_owned), ..Request::new("fox", 5) };
        host.search_blocking(&strategy, request, &services, &limits, CancelToken::new())
    };
    // No encoder: the hybrid query of the polite guest is refused, and the plain ranking is lexical.
    let outcome = ask("polite", Some("year > 2020"));
    let ids: Vec<&str> = outcome.ranking.iter().map(|hit| hit.id.as_str()).collect();
    assert_eq!(ids, ["c"]);
    let reason = outcome.degraded.expect("degraded").reason;
    assert!(reason.starts_with("unavailable: "), "{reason}");
    let outcome = ask("billion_candidates", None);
    assert!(outcome.cost.tokens_prefilled > 3, "{:?}", outcome.cost);
}
