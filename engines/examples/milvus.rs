//! The cases of `tests/real` against a Milvus that runs already, for a command of its own: `tests/peers/milvus.py`.
//!
//! Arguments: its address and the version of its interface, `v1` or `v2`. Milvus makes changes visible when it likes, so the
//! cases are tried again until a minute has passed.

use std::{panic, time::Duration};

use orion_engines::{Engine, EngineKind, Settings};

#[path = "../tests/real/cases.rs"]
mod cases;

/// Tries, two seconds apart.
const TRIES: u32 = 30;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, interface] = arguments.as_slice() else {
        eprintln!("expected the address of a Milvus and `v1` or `v2`, got {arguments:?}");
        std::process::exit(2);
    };
    let settings = Settings {
        old_interface: interface == "v1",
        timeout: Duration::from_secs(60),
        ..Settings::new(EngineKind::Milvus, url.as_str(), "orion_cases")
    };
    let engine = match Engine::new("milvus", &settings) {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(2);
        }
    };
    for left in (0..TRIES).rev() {
        match panic::catch_unwind(panic::AssertUnwindSafe(|| cases::exercise(&engine))) {
            Ok(()) => break,
            Err(_) if 0 < left => std::thread::sleep(Duration::from_secs(2)),
            Err(_) => std::process::exit(1),
        }
    }
    println!("all done");
}
