//! PostgreSQL 18 with pgvector.

use std::{io::Read, net::TcpListener, time::Duration};

use orion_engines::{Engine, EngineError, EngineKind, Settings};
use tokio_postgres::NoTls;

use crate::{cases, servers::postgres};

fn settings(port: u16, table: &str) -> Settings {
    let url = format!("postgres://orion@127.0.0.1:{port}/postgres");
    Settings { timeout: Duration::from_secs(60), ..Settings::new(EngineKind::Postgres, url, table) }
}

fn execute(port: u16, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let url = format!("postgres://orion@127.0.0.1:{port}/postgres");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client.batch_execute(sql).await.expect("done");
    });
}

#[test]
fn postgres_is_both_halves() {
    let Some(mut server) = postgres() else { return };
    let engine = Engine::new("pg", &settings(server.port, "notes")).expect("an engine");
    cases::exercise(&engine);

    // A table without the column of words, as somebody else made it, answers the same.
    let ready = engine.lexical("bread lamp", 5, None).expect("an answer");
    execute(server.port, "ALTER TABLE notes DROP COLUMN orion_words");
    let plain = Engine::new("pg", &settings(server.port, "notes")).expect("an engine");
    assert!(!ready.hits.is_empty());
    assert_eq!(plain.lexical("bread lamp", 5, None).expect("an answer").hits, ready.hits);
    // Engines that are at work notice that it is gone, and that it is there again, with whatever words it has.
    assert_eq!(engine.lexical("bread lamp", 5, None).expect("an answer").hits, ready.hits);
    let words = "ALTER TABLE notes ADD COLUMN orion_words tsvector GENERATED ALWAYS AS (to_tsvector('english', 'zebra')) STORED";
    execute(server.port, words);
    for engine in [&engine, &plain] {
        assert_eq!(
            engine.lexical("zebra", 50, None).expect("an answer").hits.len(),
            cases::documents().len()
        );
    }
    execute(server.port, "ALTER TABLE notes DROP COLUMN orion_words");

    // Foreign names of tables and columns, quoted.
    let mut other = settings(server.port, "public.other \"notes\"");
    other.fields.text = "the text".to_owned();
    let other = Engine::new("other", &other).expect("an engine");
    cases::exercise(&other);

    // What the server refuses is refused at once and tells why.
    let wrong = Engine::new("pg", &settings(server.port, "nothing")).expect("an engine");
    let refused = wrong.lexical("lamp", 3, None).unwrap_err();
    assert!(matches!(refused, EngineError::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("does not exist"), "{refused}");
    assert_eq!(wrong.state().retried, 0);

    // A server that is gone is a failure, and after a few of them it is left alone.
    let brief = Settings { breaker_failures: 2, attempts: 2, ..settings(server.port, "notes") };
    let brief = Engine::new("pg", &brief).expect("an engine");
    assert_eq!(brief.lexical("bread", 3, None).expect("an answer").hits.len(), 1);
    server.kill();
    // The process behind a connection outlives the one that was killed by a moment.
    let mut answered = 0;
    let first = loop {
        match brief.lexical("bread", 3, None) {
            Ok(_) if answered < 500 => answered += 1,
            other => break other.unwrap_err(),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    for failed in [first, brief.lexical("bread", 3, None).unwrap_err()] {
        assert!(matches!(failed, EngineError::Failed { .. }), "{failed}");
    }
    assert!(matches!(brief.lexical("bread", 3, None), Err(EngineError::Resting { .. })));
}

#[test]
fn no_server_makes_a_caller_wait_beyond_the_deadline() {
    let port = silent();
    for (kind, url) in [
        (EngineKind::Postgres, format!("postgres://orion@127.0.0.1:{port}/postgres")),
        (EngineKind::OpenSearch, format!("http://127.0.0.1:{port}")),
        (EngineKind::Sphinx, format!("127.0.0.1:{port}")),
    ] {
        let settings = Settings { timeout: Duration::from_millis(100), ..Settings::new(kind, url, "notes") };
        let engine = Engine::new("silent", &settings).expect("an engine");
        let failed = engine.lexical("lamp", 3, None).unwrap_err();
        assert!(matches!(failed, EngineError::Failed { .. }), "{failed}");
    }
}

/// A server that takes connections, reads and never answers.
pub(crate) fn silent() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().take(100).flatten() {
            kept.push(stream.try_clone());
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).is_ok_and(|count| 0 < count) {}
            });
        }
    });
    port
}
