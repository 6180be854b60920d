//! A server that is killed again and again while documents come in, and every document that it acknowledged looked for.
//!
//! Shared by the tests of `orion serve`, which do it a few times, and by `load kill`, which does it as often as one likes:
//! each brings its own way to start a server, to ask it and to kill it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// Whatever went wrong, said once.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
/// Status and body of an answer.
type Reply = Result<(u16, String)>;

/// Writers at once.
const WRITERS: usize = 2;
/// Documents of one bulk request.
const BATCH: usize = 20;
/// Requests of a writer that may be refused: a server that takes nothing is not killed for ever.
const MOST_REFUSED: usize = 500;
/// Documents looked for with one request.
const LOOKED_FOR: usize = 500;

/// What became of the documents.
#[derive(Debug, Default)]
pub(crate) struct Survived {
    /// Ids that the server said it has.
    pub(crate) acknowledged: Vec<String>,
    /// Documents that were sent; those of the request under way at a kill may be there without having been acknowledged.
    pub(crate) sent: usize,
    /// Times that a document was looked for.
    pub(crate) looked_for: usize,
    /// Those that were not there, or not as they were sent.
    pub(crate) lost: Vec<String>,
    /// Documents in the index at the end.
    pub(crate) counted: u64,
}

impl Survived {
    /// Nothing was lost, nothing is there that was not sent, and every kill met a server that had acknowledged something.
    pub(crate) fn is_sound(&self, kills: usize) -> bool {
        let counted = self.counted as usize;
        self.lost.is_empty()
            && kills <= self.acknowledged.len() / BATCH
            && (self.acknowledged.len()..=self.sent).contains(&counted)
    }
}

/// Kills `kills` servers, each over what the one before left, after it acknowledged a few requests, while more are under way;
/// then looks once more. `ask` sends a POST with a body to a path; it fails where the server is gone.
pub(crate) fn survived<Server: Sync>(
    kills: usize,
    mut start: impl FnMut() -> Result<Server>,
    ask: impl Fn(&Server, &str, &str) -> Reply + Sync,
    kill: impl Fn(&Server) -> Result<()>,
) -> Result<Survived> {
    let mut survived = Survived::default();
    for round in 0..kills {
        let server = start()?;
        survived.look(&|path, body| ask(&server, path, body))?;
        let answered = AtomicUsize::new(0);
        let wanted = 3 + round * 7 % 12;
        let written: Vec<(usize, Vec<String>)> = std::thread::scope(|scope| {
            let (server, ask, answered) = (&server, &ask, &answered);
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn(move || written(&format!("r{round}-w{writer}"), server, ask, answered))
                })
                .collect();
            while answered.load(Ordering::Relaxed) < wanted
                && !writers.iter().all(|writer| writer.is_finished())
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            kill(server)?;
            let ended =
                writers.into_iter().map(|writer| writer.join().map_err(|_| "a writer panicked".into()));
            ended.collect::<Result<_>>()
        })?;
        if answered.load(Ordering::Relaxed) < wanted {
            return Err(
                format!("the server ended, or took nothing, before it was killed in round {round}").into()
            );
        }
        for (sent, mut acknowledged) in written {
            survived.sent += sent;
            survived.acknowledged.append(&mut acknowledged);
        }
    }
    let server = start()?;
    survived.look(&|path, body| ask(&server, path, body))?;
    answer(&ask(&server, "/notes/_refresh", "")?)?;
    let counted = answer(&ask(&server, "/notes/_count", "")?)?;
    survived.counted = counted["count"].as_u64().ok_or("no count")?;
    Ok(survived)
}

fn title(id: &str) -> String {
    format!("title of {id}")
}

/// Writes until the server is gone; how many documents were sent, and which of them it acknowledged.
fn written<Server>(
    name: &str,
    server: &Server,
    ask: &impl Fn(&Server, &str, &str) -> Reply,
    answered: &AtomicUsize,
) -> (usize, Vec<String>) {
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for batch in 0.. {
        let ids: Vec<String> = (0..BATCH).map(|number| format!("{name}-{batch}-{number}")).collect();
        let one = |id: &String| {
            format!("{}\n{}\n", json!({ "index": { "_id": id } }), json!({ "title": title(id) }))
        };
        let lines: String = ids.iter().map(one).collect();
        let Ok(reply) = ask(server, "/notes/_bulk", &lines) else {
            return ((batch + 1) * BATCH, acknowledged);
        };
        if answer(&reply).is_ok_and(|reply| reply["errors"] == false) {
            acknowledged.extend(ids);
            answered.fetch_add(1, Ordering::Relaxed);
        } else if MOST_REFUSED < refused {
            return ((batch + 1) * BATCH, acknowledged);
        } else {
            refused += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    unreachable!("numbers of batches do not end")
}

/// The body of an answer that is one.
fn answer((status, body): &(u16, String)) -> Result<Value> {
    match status {
        200 => Ok(serde_json::from_str(body)?),
        _ => Err(format!("{status} {body}").into()),
    }
}

impl Survived {
    /// Looks for every acknowledged document.
    fn look(&mut self, ask: &dyn Fn(&str, &str) -> Reply) -> Result<()> {
        for ids in self.acknowledged.chunks(LOOKED_FOR) {
            let reply = answer(&ask("/notes/_mget", &json!({ "ids": ids }).to_string())?)?;
            self.looked_for += ids.len();
            for (place, id) in ids.iter().enumerate() {
                if reply["docs"][place]["_source"]["title"] != title(id) {
                    self.lost.push(id.clone());
                }
            }
        }
        Ok(())
    }
}
