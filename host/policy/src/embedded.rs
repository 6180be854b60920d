//! The policy that rides inside the program, where the build found one in `nano/`.

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::CheckpointError;
use crate::format::{FormatSpec, TrajectoryFormat};
use crate::tokenizer::PolicyTokenizer;

/// A checkpoint in the program itself: the bytes of its four files.
#[derive(Clone, Copy)]
pub struct EmbeddedCheckpoint {
    name: &'static str,
    config: &'static [u8],
    orion: &'static [u8],
    tokenizer: &'static [u8],
    weights: &'static [u8],
}

impl EmbeddedCheckpoint {
    /// The bytes of `config.json`, `orion.json`, `tokenizer.json` and `model.safetensors`; `name` stands for the
    /// folder in errors.
    pub const fn new(
        name: &'static str,
        config: &'static [u8],
        orion: &'static [u8],
        tokenizer: &'static [u8],
        weights: &'static [u8],
    ) -> Self {
        Self { name, config, orion, tokenizer, weights }
    }

    /// orion-nano; an error in a build without it.
    #[cfg(orion_nano)]
    pub fn nano() -> Result<Self, CheckpointError> {
        Ok(Self::new(
            "orion-nano (embedded)",
            include_bytes!("../nano/config.json"),
            include_bytes!("../nano/orion.json"),
            include_bytes!("../nano/tokenizer.json"),
            include_bytes!("../nano/model.safetensors"),
        ))
    }

    /// orion-nano; an error in a build without it.
    #[cfg(not(orion_nano))]
    pub fn nano() -> Result<Self, CheckpointError> {
        Err(CheckpointError::NoEmbeddedPolicy)
    }

    /// Its files by name, as a checkpoint folder has them.
    pub fn files(&self) -> [(&'static str, &'static [u8]); 4] {
        [
            ("config.json", self.config),
            ("orion.json", self.orion),
            ("tokenizer.json", self.tokenizer),
            ("model.safetensors", self.weights),
        ]
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn open(&self) -> Result<(Checkpoint, TrajectoryFormat), CheckpointError> {
        let file = |part: &str| format!("{}/{part}", self.name);
        let config = Config::parse(self.config, &file("config.json"))?;
        let spec = FormatSpec::parse(self.orion, &file("orion.json"))?;
        let tokenizer = PolicyTokenizer::parse(self.tokenizer, &file("tokenizer.json"))?;
        let format = TrajectoryFormat::new(spec, tokenizer, &config)?;
        let checkpoint = Checkpoint::from_static(config, &file("model.safetensors"), self.weights)?;
        Ok((checkpoint, format))
    }
}
