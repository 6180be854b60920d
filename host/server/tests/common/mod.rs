//! Runs the real program in a folder of its own; shared by this crate's tests.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A data folder and an empty models folder that vanish with the test.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
}

/// What a command printed and how it ended, with the sandbox's folder written as `TMP`.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The program with folders inside the sandbox, no colour, and nothing of the caller's environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orion"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            // Compiling a component takes seconds in an unoptimised build: once for all tests is enough.
            .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .env("ORION_DATA_DIR", self.path().join("data"))
            .env("ORION_MODELS_DIR", self.path().join("models"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Printed {
        self.printed(self.command(arguments).output().expect("the program runs"))
    }

    /// Runs and insists on success.
    pub(crate) fn answered(&self, arguments: &[&str]) -> String {
        let printed = self.run(arguments);
        assert_eq!(printed.code, 0, "{arguments:?}: {printed:?}");
        printed.stdout
    }

    pub(crate) fn printed(&self, output: Output) -> Printed {
        let plain = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).expect("UTF-8 output");
            text.replace(&self.path().display().to_string(), "TMP")
        };
        Printed {
            code: output.status.code().expect("an exit code"),
            stdout: plain(output.stdout),
            stderr: plain(output.stderr),
        }
    }

    /// Writes a file in the sandbox.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path
    }
}
