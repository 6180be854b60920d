//! Compiled components on disk.
//!
//! A compiled component is native code: whoever can write an entry runs in this process. So the folder is private
//! (0700), entries carry an HMAC-SHA256 (RFC 2104) under a random key that only this user can read (0600), and the
//! authenticated bytes are the bytes that are loaded: the file is read once. An entry's name covers the component and
//! everything of the engine that shapes its code; the tag covers the name, so entries cannot be exchanged.
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::record::hexadecimal;

/// Format of the files; part of every name.
const FORMAT: &[u8] = b"orion-compiled-1";
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 32;

/// Why the cache folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cache folder `{folder}`: could not {attempted}: {source}")]
pub struct CacheError {
    folder: PathBuf,
    attempted: &'static str,
    source: io::Error,
}

/// A folder of compiled components and the key that authenticates them.
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
    engine: [u8; 32],
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Cache {
    /// Opens or makes the folder and its key.
    pub(crate) fn open(folder: &Path, engine: &wasmtime::Engine) -> Result<Self, CacheError> {
        let failed = |attempted| move |source| CacheError { folder: folder.to_owned(), attempted, source };
        make_private(folder).map_err(failed("make it private"))?;
        let key = read_or_make_key(folder).map_err(failed("read or make its key"))?;
        let mut identity = IdentityHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut identity);
        let (hits, misses) = Default::default();
        Ok(Self { folder: folder.to_owned(), key, engine: identity.0.finalize().into(), hits, misses })
    }

    /// The compiled form of the component with this hash, if an authentic entry is there.
    pub(crate) fn get(&self, component: &[u8; 32]) -> Option<Vec<u8>> {
        let found = self.read(component);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// How often [`Cache::get`] found something, and how often it did not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    fn read(&self, component: &[u8; 32]) -> Option<Vec<u8>> {
        let name = self.name(component);
        let mut entry = fs::read(self.folder.join(&name)).ok()?;
        if entry.len() < TAG_BYTES {
            return self.reject(&name);
        }
        let tag = entry.split_off(entry.len() - TAG_BYTES);
        let expected = self.tag(&name, &entry);
        // Every byte is looked at, so that timing says nothing of the tag.
        let difference = expected.iter().zip(&tag).fold(0, |sum, (left, right)| sum | (left ^ right));
        if difference != 0 {
            return self.reject(&name);
        }
        Some(entry)
    }

    /// Keeps a compiled component. A failure costs the next start some milliseconds and is only logged.
    pub(crate) fn put(&self, component: &[u8; 32], compiled: &[u8]) {
        let name = self.name(component);
        let tag = self.tag(&name, compiled);
        if let Err(error) = write_whole(&self.folder, &name, &[compiled, &tag]) {
            tracing::warn!("could not write compiled component `{name}`: {error}");
        }
    }

    fn reject(&self, name: &str) -> Option<Vec<u8>> {
        tracing::warn!("compiled component `{name}` is not authentic and is compiled again");
        // Its replacement is about to be written; if this fails, that decides.
        let _ = fs::remove_file(self.folder.join(name));
        None
    }

    fn name(&self, component: &[u8; 32]) -> String {
        let identity = Sha256::new().chain_update(FORMAT).chain_update(self.engine).chain_update(component);
        format!("{}.cwasm", hexadecimal(&identity.finalize()))
    }

    fn tag(&self, name: &str, compiled: &[u8]) -> [u8; TAG_BYTES] {
        hmac_sha256(&self.key, &[name.as_bytes(), compiled])
    }
}

/// HMAC-SHA256 (RFC 2104) of the parts in a row. The key is shorter than SHA-256's block of 64 bytes.
fn hmac_sha256(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; TAG_BYTES] {
    let mut inner_pad = [0x36_u8; 64];
    let mut outer_pad = [0x5c_u8; 64];
    for (place, byte) in key.iter().enumerate() {
        inner_pad[place] ^= byte;
        outer_pad[place] ^= byte;
    }
    let inner =
        parts.iter().fold(Sha256::new().chain_update(inner_pad), |hash, part| hash.chain_update(part));
    Sha256::new().chain_update(outer_pad).chain_update(inner.finalize()).finalize().into()
}

/// Feeds what an engine hashes of itself into SHA-256: stable within one build, which is all a cache needs.
struct IdentityHasher(Sha256);

impl Hasher for IdentityHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

/// Makes the folder readable for its owner alone. Fails where somebody else owns it.
#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make_private(_: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "private folders are known on unix only"))
}

/// Bytes that nobody can guess: for keys alone, never for anything that a result depends on.
pub(crate) fn random_key() -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0_u8; KEY_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

fn read_or_make_key(folder: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let path = folder.join("key");
    if !path.exists() {
        write_new(folder, "key", &random_key()?)?;
    }
    let key = fs::read(&path)?;
    <[u8; KEY_BYTES]>::try_from(key.as_slice()).map_err(|_| {
        let message = format!("`{}`: expected {KEY_BYTES} bytes, got {}", path.display(), key.len());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

/// Writes a file whole or not at all, readable for its owner alone.
fn write_whole(folder: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let draft = write_draft(folder, parts)?;
    fs::rename(&draft, folder.join(name))
}

/// As [`write_whole`], but an existing file stays: of several processes that start at once, one makes the key.
fn write_new(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let draft = write_draft(folder, &[bytes])?;
    let linked = fs::hard_link(&draft, folder.join(name));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn write_draft(folder: &Path, parts: &[&[u8]]) -> io::Result<PathBuf> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("draft-{}-{number}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 1, whose key is padded to this key length with zeros, which HMAC does anyway.
    #[test]
    fn hmac_matches_its_published_vector() {
        let mut key = [0_u8; KEY_BYTES];
        key[..20].fill(0x0b);
        let tag = hmac_sha256(&key, &[b"Hi ", b"There"]);
        assert_eq!(hexadecimal(&tag), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }
}
