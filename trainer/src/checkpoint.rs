//! Training checkpoints: weights in f32, optimiser moments and the step, written so that a kill leaves either the
//! old state or the new one, never half of either.
//!
//! A run folder holds `step-N` folders; each is written under another name and renamed when complete.

use crate::error::{Result, TrainError};
use crate::model::{Lfm2, LoraSettings, MATRICES};
use crate::optim::{AdamW, AdamWSettings, Moments};
use orion_policy::{Checkpoint, NumberFormat, Tensor, Weights};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimiser steps done.
    pub step: u64,
    /// Real tokens seen.
    pub tokens: u64,
}

/// Finished checkpoints kept; older ones are removed.
const KEPT: usize = 2;

/// Reads a whole file; the error names it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(TrainError::file("read", path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(TrainError::file("write", path))
}

fn policy_error(error: orion_policy::CheckpointError) -> TrainError {
    TrainError::Policy(error.to_string())
}

/// Finished checkpoints of a run, oldest first.
pub fn list(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(run) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(TrainError::file("read", run)(error)),
    };
    for entry in entries {
        let path = entry.map_err(TrainError::file("read", run))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if let Some(step) = name.strip_prefix("step-").and_then(|digits| digits.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a checkpoint into `run` and removes all but the newest few.
pub fn save(run: &Path, model: &Lfm2, optimiser: &AdamW, progress: Progress) -> Result<PathBuf> {
    save_with(run, model, optimiser, progress, &[])
}

/// [`save`] with further files, name and content, that become part of the checkpoint.
pub fn save_with(
    run: &Path,
    model: &Lfm2,
    optimiser: &AdamW,
    progress: Progress,
    extra: &[(&str, Vec<u8>)],
) -> Result<PathBuf> {
    let name = format!("step-{:07}", progress.step);
    let partial = run.join(format!("partial-{name}"));
    let finished = run.join(&name);
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(TrainError::file("remove", &partial))?;
    }
    model.to_weights()?.save(model.config(), &partial, NumberFormat::F32).map_err(policy_error)?;
    let mut tensors = BTreeMap::new();
    for (name, moments) in &optimiser.moments {
        let mut push = |kind: &str, data: &Vec<f32>| {
            tensors.insert(format!("{kind}.{name}"), Tensor { shape: vec![data.len()], data: data.clone() });
        };
        push("first", &moments.first);
        push("second", &moments.second);
    }
    let bytes = Weights { tensors }.to_safetensors(NumberFormat::F32).map_err(policy_error)?;
    write(&partial.join("optimizer.safetensors"), &bytes)?;
    let state = serde_json::to_vec(&progress)
        .map_err(|error| TrainError::content(&partial, "progress that is JSON", error))?;
    write(&partial.join("progress.json"), &state)?;
    if model.is_adapted() {
        write(&partial.join(MATRICES), &model.adapter_bytes()?)?;
    }
    for (name, content) in extra {
        write(&partial.join(name), content)?;
    }
    if finished.exists() {
        std::fs::remove_dir_all(&finished).map_err(TrainError::file("remove", &finished))?;
    }
    std::fs::rename(&partial, &finished).map_err(TrainError::file("write", &finished))?;
    let all = list(run)?;
    for (_, old) in all.iter().take(all.len().saturating_sub(KEPT)) {
        std::fs::remove_dir_all(old).map_err(TrainError::file("remove", old))?;
    }
    Ok(finished)
}

/// Reads a checkpoint folder back.
pub fn load(folder: &Path, settings: AdamWSettings) -> Result<(Lfm2, AdamW, Progress)> {
    let model = load_model(folder)?;
    load_state(folder, model, settings)
}

/// [`load`] for a run that started from `model`: where that is adapted, its own frozen weights stay and the adapters
/// alone are read.
pub fn restore(folder: &Path, model: Lfm2, settings: AdamWSettings) -> Result<(Lfm2, AdamW, Progress)> {
    if !model.is_adapted() {
        let (read, optimiser, progress) = load(folder, settings)?;
        return Ok((read.on(model.device())?, optimiser, progress));
    }
    model.load_adapters(folder)?;
    load_state(folder, model, settings)
}

fn load_state(folder: &Path, model: Lfm2, settings: AdamWSettings) -> Result<(Lfm2, AdamW, Progress)> {
    let path = folder.join("progress.json");
    let progress: Progress = serde_json::from_slice(&read(&path)?)
        .map_err(|error| TrainError::content(&path, "a step and a token count", error))?;
    let path = folder.join("optimizer.safetensors");
    let bytes = read(&path)?;
    let stored = SafeTensors::deserialize(&bytes)
        .map_err(|error| TrainError::content(&path, "a safetensors file", error))?;
    let mut optimiser = AdamW::new(settings);
    optimiser.steps = progress.step;
    for (name, variable) in model.variables() {
        let moment = |kind: &str| -> Result<Vec<f32>> {
            let key = format!("{kind}.{name}");
            let view = stored
                .tensor(&key)
                .map_err(|error| TrainError::content(&path, format!("tensor `{key}`"), error))?;
            let (quads, _) = view.data().as_chunks::<4>();
            if quads.len() != variable.elem_count() {
                let expected = format!("{} numbers in `{key}`", variable.elem_count());
                return Err(TrainError::content(&path, expected, quads.len()));
            }
            Ok(quads.iter().map(|quad| f32::from_le_bytes(*quad)).collect())
        };
        let moments = Moments { first: moment("first")?, second: moment("second")? };
        optimiser.moments.insert(name.clone(), moments);
    }
    Ok((model, optimiser, progress))
}

/// Reads the weights of any checkpoint folder that the policy crate reads.
pub fn load_model(folder: &Path) -> Result<Lfm2> {
    let checkpoint = Checkpoint::open(folder).map_err(policy_error)?;
    Lfm2::from_weights(checkpoint.config().clone(), checkpoint.weights().map_err(policy_error)?)
}

/// The model that a run starts from: all weights trained, or adapters over frozen ones.
pub fn load_start(folder: &Path, adapters: Option<&LoraSettings>) -> Result<Lfm2> {
    let Some(settings) = adapters else { return load_model(folder) };
    let checkpoint = Checkpoint::open(folder).map_err(policy_error)?;
    Lfm2::adapted(checkpoint.config().clone(), checkpoint.weights().map_err(policy_error)?, settings)
}

/// [`load_model`] with all weights frozen: a reference that is only read.
pub fn load_frozen(folder: &Path) -> Result<Lfm2> {
    let checkpoint = Checkpoint::open(folder).map_err(policy_error)?;
    Lfm2::frozen_from_weights(checkpoint.config().clone(), checkpoint.weights().map_err(policy_error)?)
}
