//! The program killed under bulk load, as often as one likes; how long each start took, and that nothing was lost.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::Result;
use crate::kills::survived;
use crate::server::Server;

pub(crate) fn run(program: &Path, models: Option<&Path>, kills: usize) -> Result<(Value, bool)> {
    let folder = Arc::new(tempfile::tempdir()?);
    let began = Instant::now();
    let mut starts_ms: Vec<u128> = Vec::new();
    let start = || {
        let started = Instant::now();
        let server = Server::over(Arc::clone(&folder), program, models, "[bounds]\nrefresh_ms = 20")?;
        starts_ms.push(started.elapsed().as_millis());
        Ok(server)
    };
    let ask = |server: &Server, path: &str, body: &str| server.client()?.ask("POST", path, body);
    let survived = survived(kills, start, ask, Server::kill)?;
    starts_ms.sort_unstable();
    let report = json!({
        "kills": kills,
        "seconds": began.elapsed().as_secs_f64().round(),
        "acknowledged": survived.acknowledged.len(),
        "sent": survived.sent,
        "counted": survived.counted,
        "looked_for": survived.looked_for,
        "lost": survived.lost.len(),
        "first_lost": survived.lost.first(),
        "start_ms": { "median": starts_ms.get(starts_ms.len() / 2), "longest": starts_ms.last() },
    });
    Ok((report, survived.is_sound(kills)))
}
