//! The strategy of `plugins/README.md`, held equal to it and run.

// From here to `export!` the README shows every line.
use orion_sdk::parameters::Integer;
use orion_sdk::{Description, Error, Host, Outcome, Query, Request, Retriever, Strategy};

struct TitleEcho;

const WORDS: Integer = Integer { name: "words", default: 5, min: 1, max: 20, help: "title words to add" };

impl Strategy for TitleEcho {
    fn describe() -> Description {
        Description::new("title-echo", "search again with the first title added", vec![WORDS.describe()])
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        let count = WORDS.read(&request.options)? as usize;
        let first = host.search(&[Query::new(&request.query, Retriever::Lexical, 0.5, 1)])?;
        let ids: Vec<String> = first[0].iter().map(|hit| hit.id.clone()).collect();
        let titles = host.documents(&ids, 0)?;
        let mut text = request.query.clone();
        for title in titles.iter().flatten().map(|document| &document.title) {
            let words: Vec<&str> = title.split_whitespace().take(count).collect();
            text = format!("{text} {}", words.join(" "));
        }
        let ranking = host.search(&[Query::new(&text, Retriever::Hybrid, 0.5, request.k)])?.remove(0);
        Ok(Outcome::ranked(ranking, request.k, f32::NAN))
    }
}

orion_sdk::export!(TitleEcho);

#[test]
fn the_readme_shows_this_strategy() {
    let readme = include_str!("../../README.md");
    let source = include_str!("title_echo.rs");
    let start = source.find("use orion_sdk").expect("imports");
    let end = source.find("#[test]").expect("tests");
    assert!(readme.contains(source[start..end].trim_end()), "plugins/README.md shows another strategy");
}

#[test]
fn it_searches_again_with_the_first_title_added() -> Result<(), Error> {
    let mut host = orion_sdk::mock::MockHost::new()
        .document("frost", "Defrost cycle", "reversing valve")
        .document("sun", "Sun", "warm");
    let outcome = TitleEcho::search(&mut host, &Request::new("valve", 10, 7))?;
    assert_eq!(host.searched(), ["valve", "valve Defrost cycle"]);
    assert_eq!(outcome.ranking[0].id, "frost");
    Ok(())
}
