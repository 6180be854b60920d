//! The client against servers that refuse, stall, babble and lie.

use crate::server::{Reply, Server};
use orion_trainer::endpoint::{Ask, Endpoint, EndpointArguments, EndpointError, Protocol};
use std::path::Path;

pub(crate) fn arguments(url: &str) -> EndpointArguments {
    EndpointArguments {
        url: Some(url.to_owned()),
        model: "small".to_owned(),
        protocol: Protocol::Chat,
        key_file: None,
        timeout_ms: 20_000,
        retries: 3,
        back_off_ms: 1,
        requests_per_minute: 0,
        concurrency: 3,
        temperature: 0.7,
        max_tokens: 50,
    }
}

fn ask(user: &str) -> Ask {
    let (system, user) = ("Do it.".to_owned(), user.to_owned());
    Ask { system, user, lead: "Thought:", stop: &["\nResults:"], seed: 3 }
}

fn endpoint(server: &Server) -> Endpoint {
    Endpoint::new(&arguments(&server.url), None).unwrap()
}

#[test]
fn it_goes_on_after_too_many_requests_and_server_errors() {
    let server = Server::start(|number, _| match number {
        0 => Reply::Status(429, "retry-after: 0\r\n", "slow down".into()),
        1 => Reply::Status(500, "", "oops".into()),
        2 => Reply::Status(503, "retry-after: never\r\n", String::new()),
        _ => Reply::Text("Query: tea".into()),
    });
    let endpoint = endpoint(&server);
    assert_eq!(endpoint.ask(&ask("x")).unwrap(), "Query: tea");
    let counts = endpoint.counts();
    assert_eq!((counts.requests, counts.retries, counts.answers), (4, 3, 1));
    let bodies: Vec<_> = server.asked().into_iter().map(|asked| asked.body).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(bodies[0]["messages"][1]["content"], "x");
    assert_eq!((&bodies[0]["model"], &bodies[0]["seed"]), (&"small".into(), &3.into()));
}

#[test]
fn it_gives_up_after_its_attempts() {
    let server = Server::start(|_, _| Reply::Status(500, "", "still broken".into()));
    let error = endpoint(&server).ask(&ask("x")).unwrap_err();
    let url = format!("{}/chat/completions", server.url);
    let last = "status 500: still broken".to_owned();
    assert_eq!(error, EndpointError::Failed { url, attempts: 4, last });
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn a_stall_is_left_after_the_time_out() {
    let server =
        Server::start(|number, _| if number == 0 { Reply::Stall } else { Reply::Text("Query: tea".into()) });
    let patient = EndpointArguments { timeout_ms: 400, ..arguments(&server.url) };
    // A busy machine may let a second request time out too; there are attempts enough.
    let patient = EndpointArguments { retries: 20, ..patient };
    let endpoint = Endpoint::new(&patient, None).unwrap();
    assert_eq!(endpoint.ask(&ask("x")).unwrap(), "Query: tea");
    assert!(endpoint.counts().retries >= 1);
}

#[test]
fn broken_answers_are_told_from_failures() {
    for body in [
        "{\"choices\": [{\"mess",
        "[]",
        "{\"choices\": []}",
        "{\"choices\":[{\"message\":{\"content\":null}}]}",
    ] {
        let server = Server::start(move |_, _| Reply::Status(200, "", body.to_owned()));
        let error = endpoint(&server).ask(&ask("x")).unwrap_err();
        assert!(matches!(&error, EndpointError::Bad { got, .. } if got == body), "{error}");
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn a_refusal_is_not_repeated() {
    let server = Server::start(|_, _| Reply::Status(401, "", "no such key".into()));
    let error = endpoint(&server).ask(&ask("x")).unwrap_err();
    assert!(
        matches!(&error, EndpointError::Refused { got, .. } if got == "status 401: no such key"),
        "{error}"
    );
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn nobody_at_the_address_is_a_failure() {
    let gone = Server::start(|_, _| Reply::Stall);
    let url = gone.url.clone();
    drop(gone);
    let endpoint = Endpoint::new(&EndpointArguments { retries: 1, ..arguments(&url) }, None).unwrap();
    assert!(matches!(endpoint.ask(&ask("x")), Err(EndpointError::Failed { attempts: 2, .. })));
}

#[test]
fn what_was_answered_is_not_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("answers.jsonl");
    let server = Server::start(|number, _| Reply::Text(format!("answer {number}")));
    let open = |path: &Path| Endpoint::new(&arguments(&server.url), Some(path)).unwrap();
    let first = open(&journal);
    assert_eq!(first.ask(&ask("x")).unwrap(), "answer 0");
    assert_eq!(first.ask(&ask("x")).unwrap(), "answer 0");
    assert_eq!(first.ask(&ask("y")).unwrap(), "answer 1");
    drop(first);
    let second = open(&journal);
    assert_eq!(second.ask(&ask("y")).unwrap(), "answer 1");
    assert_eq!((second.counts().requests, second.counts().remembered), (0, 1));
    // Another seed is another question.
    assert_eq!(second.ask(&Ask { seed: 4, ..ask("y") }).unwrap(), "answer 2");
}

#[test]
fn plain_completions_and_keys_are_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, "secret\n").unwrap();
    let server = Server::start(|_, _| Reply::Text(" fine.\nQuery: tea".into()));
    let spoken = EndpointArguments {
        protocol: Protocol::Completions,
        key_file: Some(key_file),
        ..arguments(&format!("{}/", server.url))
    };
    let endpoint = Endpoint::new(&spoken, None).unwrap();
    assert_eq!(endpoint.ask(&ask("x")).unwrap(), "Thought: fine.\nQuery: tea");
    let asked = &server.asked()[0];
    assert!(asked.head.starts_with("post /v1/completions "), "{}", asked.head);
    assert!(asked.head.contains("authorization: bearer secret"), "{}", asked.head);
    assert_eq!(asked.body["prompt"], "Do it.\n\nx\nThought:");
    assert_eq!(asked.body["stop"][0], "\nResults:");
}

#[test]
fn addresses_that_are_none_are_refused() {
    for (url, got) in [(None, "got none"), (Some("localhost:8000"), "got localhost:8000")] {
        let wrong = EndpointArguments { url: url.map(str::to_owned), ..arguments("") };
        let error = Endpoint::new(&wrong, None).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with(got), "{error}");
    }
}
