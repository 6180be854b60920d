//! `orion doctor`: what this machine offers and what was found on it; and the one warning about old processors.

use orion_host::{
    index::cpu_level,
    policy::{EmbeddedCheckpoint, devices},
};

use super::Session;
use crate::{Verdict, failure::Failure, minilm, terminal::Terminal};

/// Whether the fast kernels can run. Without them every result is the same, later.
fn has_fast_vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

/// Tells the user of a processor without AVX2 what to expect. For commands that encode or ask a policy.
pub(super) fn warn_of_slow_processor(terminal: &Terminal) {
    if !has_fast_vectors() {
        terminal.warn("this processor has no AVX2: encoding and the policy run several times slower than on one that has");
    }
}

pub(super) fn run(session: &Session) -> Result<Verdict, Failure> {
    let places = &session.places;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = session.threads.map_or(cores, usize::from);
    let has_encoder = minilm::is_present(&places.minilm());
    let has_policy = EmbeddedCheckpoint::nano().is_ok();
    let indexes = places.index_names()?;
    let found = devices();
    let device_names: Vec<String> = found.iter().flatten().map(ToString::to_string).collect();
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "vector_instructions": cpu_level(),
            "cores": cores,
            "threads": threads,
            "data_dir": places.data(),
            "models_dir": places.models(),
            "encoder_present": has_encoder,
            "policy_embedded": has_policy,
            "cuda_devices": device_names,
            "cuda_missing": found.as_ref().err().map(ToString::to_string),
            "indexes": indexes,
        }))?;
        return Ok(Verdict::Answered);
    }
    let device = match &found {
        Ok(all) if all.is_empty() => "no CUDA device: policies run on the CPU".to_owned(),
        Ok(_) => device_names.join("; "),
        Err(error) => format!("none, policies run on the CPU: {error}"),
    };
    let yes_no = |holds: bool, yes: &str, no: &str| if holds { yes.to_owned() } else { no.to_owned() };
    let lines = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("vectors", cpu_level().to_owned()),
        ("threads", format!("{threads} of {cores} cores")),
        ("data", places.data().display().to_string()),
        ("models", places.models().display().to_string()),
        (
            "encoder",
            yes_no(
                has_encoder,
                "all-MiniLM-L6-v2",
                "missing: searches are lexical; `orion models fetch` gets it",
            ),
        ),
        (
            "policy",
            yes_no(has_policy, "orion-nano, in this program", "none in this build; --policy names a folder"),
        ),
        ("device", device),
        ("indexes", if indexes.is_empty() { "none".to_owned() } else { indexes.join(", ") }),
    ];
    let text: String = lines.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect();
    session.terminal.print(&text)?;
    warn_of_slow_processor(&session.terminal);
    Ok(Verdict::Answered)
}
