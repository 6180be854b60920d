//! Sphinx 2.2: two shards, a distributed index over both, and one shard that dies.

use std::time::Duration;

use orion_engines::{Engine, EngineKind, Settings};

use crate::{
    cases,
    searchd::sphinx,
    servers::{Server, free_port},
};

fn shard(agent_port: u16) -> Option<Server> {
    sphinx(&format!(
        "index notes\n{{\n type = rt\n path = FOLDER/notes\n rt_field = title\n rt_field = text\n \
         rt_attr_string = doc\n rt_attr_string = stored\n rt_attr_json = metadata\n morphology = stem_en\n \
         index_field_lengths = 1\n}}\nsearchd\n{{\n listen = 127.0.0.1:{agent_port}\n \
         listen = 127.0.0.1:PORT:mysql41\n log = FOLDER/log\n pid_file = FOLDER/pid\n binlog_path = FOLDER\n \
         workers = threads\n}}\n"
    ))
}

fn distributed(agents: [u16; 2]) -> Option<Server> {
    let [one, two] = agents;
    sphinx(&format!(
        "index notes\n{{\n type = distributed\n agent = 127.0.0.1:{one}:notes\n agent = 127.0.0.1:{two}:notes\n \
         agent_connect_timeout = 500\n}}\nsearchd\n{{\n listen = 127.0.0.1:PORT:mysql41\n log = FOLDER/log\n \
         pid_file = FOLDER/pid\n binlog_path =\n workers = threads\n}}\n"
    ))
}

#[test]
fn a_distributed_index_goes_on_with_the_shards_it_has() {
    let agents = [free_port(), free_port()];
    let (Some(one), Some(mut two)) = (shard(agents[0]), shard(agents[1])) else { return };
    let Some(whole) = distributed(agents) else { return };
    let settings = Settings {
        shards: [&one, &two].map(|shard| format!("127.0.0.1:{}/notes", shard.port)).to_vec(),
        timeout: Duration::from_secs(60),
        ..Settings::new(EngineKind::Sphinx, format!("127.0.0.1:{}", whole.port), "notes")
    };
    let engine = Engine::new("shards", &settings).expect("an engine");
    cases::exercise(&engine);

    // Both shards have documents, so that each is missed.
    let of = |shard: &Server| {
        let address = format!("127.0.0.1:{}", shard.port);
        let engine =
            Engine::new("one", &Settings::new(EngineKind::Sphinx, address, "notes")).expect("an engine");
        engine.count().expect("a count")
    };
    let (first, second) = (of(&one), of(&two));
    assert!(0 < first && 0 < second, "{first} and {second}");

    let everything = "lamp reef lens salt rope pilots bread quotes";
    assert_eq!(engine.lexical(everything, 10, None).expect("an answer").hits.len() as u64, first + second);
    two.kill();
    let rest = engine.lexical(everything, 10, None).expect("an answer");
    assert_eq!(rest.hits.len() as u64, first);
    assert!(rest.partial.as_deref().is_some_and(|why| why.contains(&agents[1].to_string())), "{rest:?}");
    // A count, or documents that may be on the dead shard, would be wrong without it.
    assert!(engine.count().is_err());
    let ids: Vec<String> = cases::documents().into_iter().map(|document| document.id).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert!(engine.documents(&ids, 10).is_err());
}

#[test]
fn an_index_of_another_shape_is_told() {
    let Some(server) = sphinx(
        "index notes\n{\n type = rt\n path = FOLDER/notes\n rt_field = title\n rt_attr_uint = year\n}\nsearchd\n{\n \
         listen = 127.0.0.1:PORT:mysql41\n log = FOLDER/log\n pid_file = FOLDER/pid\n binlog_path =\n \
         workers = threads\n}\n",
    ) else {
        return;
    };
    let address = format!("127.0.0.1:{}", server.port);
    let engine =
        Engine::new("plain", &Settings::new(EngineKind::Sphinx, address, "notes")).expect("an engine");
    let refused = engine.prepare(None, &cases::kinds()).unwrap_err().to_string();
    assert!(refused.contains("got none named `text`"), "{refused}");
}
