//! Disks that run full: a clear error that names a file, and nothing acknowledged is lost.
//!
//! Everywhere: a limit on the size of each file, which the shell sets and the child inherits. As root on Linux, also
//! a file system of half a megabyte.

use crate::say;
use crate::work::{self, Model};
use orion_index::{
    DenseSearch, DenseSettings, Document, Embedder, Index, IndexError, IndexSettings, OpenOptions, Writer,
};
use std::path::Path;
use std::process::Command;

/// Ways to run into the limit: in the log, in a vector segment, in a lexical segment.
const WAYS: [&str; 3] = ["log", "vectors", "lexical"];
/// Limit of each file, in the shell's blocks of 512 bytes: 256 KiB.
const LIMIT_BLOCKS: &str = "512";

/// Long vectors for short texts, so that vector segments outgrow the log.
const DIMENSIONS: usize = 4096;

fn setup(way: &str) -> (IndexSettings, OpenOptions) {
    if way != "vectors" {
        return (IndexSettings::lexical_only(), work::options());
    }
    // Codes and graphs take their room as well.
    let search = DenseSearch::Graph;
    let dense = DenseSettings { dimensions: DIMENSIONS, search, graph_from: 20, ..DenseSettings::default() };
    let encode = |texts: &[&str]| Ok(texts.iter().map(|_| vec![1.0; DIMENSIONS]).collect());
    let encoder = Some(Embedder::new("long", DIMENSIONS, encode));
    let settings = IndexSettings { dense: Some(dense), ..IndexSettings::default() };
    (settings, OpenOptions { encoder, writer_memory_bytes: 15_000_000, ..OpenOptions::default() })
}

fn text(way: &str, number: u64) -> String {
    let mut random = work::Random(number);
    let words = match way {
        "vectors" => 1,
        _ => 300,
    };
    (0..words).map(|_| format!("{:x} ", random.below(1 << 40))).collect()
}

/// The child: works until something fails, and says what it was.
pub(crate) fn fill(dir: &Path, way: &str) {
    let work = || -> Result<(), IndexError> {
        let index = Index::open(dir, setup(way).1)?;
        let mut writer: Writer = index.writer()?;
        for number in 0..20_000 {
            writer.add(Document {
                id: number.to_string(),
                text: text(way, number),
                ..Document::default()
            })?;
            match way {
                "log" => writer.sync()?,
                "vectors" if number % 40 == 39 => {
                    writer.sync()?;
                    say(&format!("ack {}", number + 1));
                    writer.commit()?;
                    if number % 120 == 119 {
                        writer.merge()?;
                    }
                    continue;
                }
                "lexical" if number % 10 == 9 => {
                    writer.sync()?;
                    say(&format!("ack {}", number + 1));
                    writer.commit()?;
                    writer.merge()?;
                    continue;
                }
                _ => continue,
            }
            say(&format!("ack {}", number + 1));
        }
        Ok(())
    };
    match work() {
        Ok(()) => say("never full"),
        Err(error) => say(&format!("failed {error}")),
    }
}

pub(crate) fn full_disks() {
    for way in WAYS {
        let root = tempfile::tempdir().unwrap();
        let script = format!("trap '' XFSZ; ulimit -f {LIMIT_BLOCKS}; exec \"$0\" fill \"$1\" {way}");
        run_full(root.path(), way, &["-c", &script]);
        println!("crash: file size limit reached in {way}: nothing lost");
    }
    let root = tempfile::tempdir().unwrap();
    for way in WAYS {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=600k", "tmpfs"]).arg(root.path()).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            println!("crash: no small file system can be mounted here: the full disk itself is not tried");
            return;
        }
        let script = format!("exec \"$0\" fill \"$1\" {way}");
        run_full(root.path(), way, &["-c", &script]);
        let unmounted = Command::new("umount").arg(root.path()).status().unwrap();
        assert!(unmounted.success());
        println!("crash: disk full in {way}: nothing lost");
    }
}

fn run_full(root: &Path, way: &str, shell: &[&str]) {
    let dir = root.join("index");
    let (settings, options) = setup(way);
    drop(Index::create(&dir, &settings, options.clone()).unwrap());
    let output =
        Command::new("sh").args(shell).arg(std::env::current_exe().unwrap()).arg(&dir).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    let failure = said.lines().find_map(|line| line.strip_prefix("failed "));
    let failure = failure.unwrap_or_else(|| panic!("{way}: expected a failure, got {said:.200} {talk}"));
    assert!(failure.contains(&dir.display().to_string()), "{way}: {failure} names no file");
    let acknowledged = said.lines().filter_map(|line| line.strip_prefix("ack ")).next_back();
    let acknowledged: u64 = acknowledged.unwrap_or("0").parse().unwrap();
    assert!(0 < acknowledged, "{way}: {failure} came before anything was acknowledged");
    println!("crash: {way}: after {acknowledged} documents: {failure}");
    // On a disk that stays full, opening must still answer from the last commit or say why not; with room again,
    // everything acknowledged is there. Here the room comes from copying the index elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("index");
    copy_folder(&dir, &copy);
    let index = Index::open(&copy, options).unwrap();
    let expected: Model = (0..acknowledged).map(|number| (number.to_string(), text(way, number))).collect();
    let held = work::contents(&index);
    assert_eq!(held.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{way}");
    assert!(held == expected, "{way}: a text changed");
    let searcher = index.searcher();
    if way == "vectors" {
        assert_eq!(searcher.vector_ids(), searcher.ids(), "{way}");
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
