//! Signatures of plugins: who vouches for a component and its manifest.
//!
//! Detached ed25519 signatures (RFC 8032), checked offline against a folder of public keys; no certificate, no date, no
//! revocation list: a key is trusted while its file lies in the folder. What is signed is the hash of the component
//! and the hash of the manifest, so that neither can be exchanged. Verification is strict: keys of small order and
//! signatures in another than the one canonical form are refused. Neighbour: `directory.rs` asks before anything of a
//! component is parsed.
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::cache::random_key;
use crate::manifest::Manifest;
use crate::record::hexadecimal;

/// Beginning of what is signed: a signature for anything else never fits.
const PURPOSE: &[u8] = b"orion-plugin-signature-1\0";
/// First word of each kind of file.
const PUBLIC: &str = "orion-ed25519-public";
const SECRET: &str = "orion-ed25519-secret";
const SIGNATURE: &str = "orion-ed25519-signature";
/// Bytes of a public key's hash that name it: enough to tell keys apart; trust never rests on it.
const ID_BYTES: usize = 8;

/// Why a plugin is not trusted, or a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file or folder cannot be read or written.
    #[error("could not {attempted} `{path}`: {source}")]
    Io {
        /// Read or write.
        attempted: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key or signature file that is none.
    #[error("`{path}`: expected {expected}, got something else")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it holds.
        expected: &'static str,
    },
    /// No signature.
    #[error("component `{component}` is not signed: expected a signature in `{signature}`, found none")]
    Unsigned {
        /// The component.
        component: PathBuf,
        /// Where its signature would be.
        signature: PathBuf,
    },
    /// Signed, but by nobody that is trusted.
    #[error(
        "component `{component}` is signed by key {key}, which is not trusted: expected one of the {trusted} keys in \
         `{folder}`"
    )]
    UntrustedKey {
        /// The component.
        component: PathBuf,
        /// Id of the key.
        key: String,
        /// How many keys there are.
        trusted: usize,
        /// The folder of trusted keys.
        folder: PathBuf,
    },
    /// The signature of a trusted key, for something else.
    #[error(
        "component `{component}` is wrongly signed: the signature by key {key} (`{name}`) does not fit this component \
         with this manifest"
    )]
    WrongSignature {
        /// The component.
        component: PathBuf,
        /// Id of the key.
        key: String,
        /// Name of the key's file.
        name: String,
    },
}

/// Who signed a plugin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signer {
    /// Id of the key.
    pub key: String,
    /// Name of its file in the trust store, without the ending.
    pub name: String,
}

/// A folder of public keys, as read.
#[derive(Clone, Debug)]
pub struct TrustStore {
    folder: PathBuf,
    keys: BTreeMap<String, (String, VerifyingKey)>,
}

impl TrustStore {
    /// Reads every `*.pub` in a folder. Errors: an unreadable folder, or a file that is no key.
    pub fn open(folder: &Path) -> Result<Self, TrustError> {
        let failed =
            |source| TrustError::Io { attempted: "read trusted keys in", path: folder.to_owned(), source };
        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|ending| ending == "pub") {
                let key = read_public(&path)?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                keys.insert(key_id(&key), (name, key));
            }
        }
        Ok(Self { folder: folder.to_owned(), keys })
    }

    /// The trusted keys, by id.
    pub fn signers(&self) -> impl Iterator<Item = Signer> + '_ {
        self.keys.iter().map(|(key, (name, _))| Signer { key: key.clone(), name: name.clone() })
    }

    /// Whether a signer's key is still here.
    pub fn trusts(&self, signer: &Signer) -> bool {
        self.keys.contains_key(&signer.key)
    }

    /// Checks the text of a signature over a component and its manifest; `None` where there is none.
    pub fn verify(
        &self,
        component: &[u8],
        manifest: &Manifest,
        signature: Option<&str>,
    ) -> Result<Signer, TrustError> {
        let path = signature_path(manifest.component());
        let owned = || manifest.component().to_owned();
        let Some(text) = signature else {
            return Err(TrustError::Unsigned { component: owned(), signature: path });
        };
        let malformed = || TrustError::Malformed {
            path: path.clone(),
            expected: "`orion-ed25519-signature`, the id of a key and 128 hexadecimal digits",
        };
        let (id, digits) =
            fields(text, SIGNATURE).and_then(|rest| rest.split_once(' ')).ok_or_else(malformed)?;
        let signed: [u8; 64] = bytes_of(digits).ok_or_else(malformed)?;
        if bytes_of::<ID_BYTES>(id).is_none() {
            return Err(malformed());
        }
        let Some((name, key)) = self.keys.get(id) else {
            let (key, trusted, folder) = (id.to_owned(), self.keys.len(), self.folder.clone());
            return Err(TrustError::UntrustedKey { component: owned(), key, trusted, folder });
        };
        let (key_name, name) = (id.to_owned(), name.clone());
        match key.verify_strict(&message(component, manifest), &Signature::from_bytes(&signed)) {
            Ok(()) => Ok(Signer { key: key_name, name }),
            Err(_) => Err(TrustError::WrongSignature { component: owned(), key: key_name, name }),
        }
    }

    /// Reads the component that a manifest names, and checks the signature beside it.
    pub fn verify_files(&self, manifest: &Manifest) -> Result<(Vec<u8>, Signer), TrustError> {
        let path = manifest.component();
        let component = fs::read(path).map_err(|source| TrustError::Io {
            attempted: "read",
            path: path.to_owned(),
            source,
        })?;
        let signature = read_signature(path)?;
        let signer = self.verify(&component, manifest, signature.as_deref())?;
        Ok((component, signer))
    }

    /// What tells this set of keys from another.
    pub(crate) fn fingerprint(&self) -> String {
        self.keys.keys().cloned().collect::<Vec<_>>().join(" ")
    }
}

/// Makes a key: `NAME.key`, readable for its owner alone, and `NAME.pub`. An existing file is not overwritten.
pub fn generate_key(folder: &Path, name: &str) -> Result<(PathBuf, PathBuf), TrustError> {
    let urandom = Path::new("/dev/urandom");
    let seed = random_key().map_err(|source| TrustError::Io {
        attempted: "read",
        path: urandom.to_owned(),
        source,
    })?;
    let key = SigningKey::from_bytes(&seed);
    let (secret, public) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pub")));
    write_new(&secret, &format!("{SECRET} {}\n", hexadecimal(&seed)), 0o600)?;
    write_new(&public, &format!("{PUBLIC} {}\n", hexadecimal(key.verifying_key().as_bytes())), 0o644)?;
    Ok((secret, public))
}

/// Signs a component with its manifest; the text of the signature file.
pub fn sign(secret: &Path, component: &[u8], manifest: &Manifest) -> Result<String, TrustError> {
    let seed = read_line(secret, SECRET, "`orion-ed25519-secret` and 64 hexadecimal digits")?;
    let key = SigningKey::from_bytes(&seed);
    let signature = key.sign(&message(component, manifest)).to_bytes();
    Ok(format!("{SIGNATURE} {} {}\n", key_id(&key.verifying_key()), hexadecimal(&signature)))
}

/// Where a component's signature lies: its path with `.sig` after it.
pub fn signature_path(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

/// The text of a component's signature, or `None` where there is none.
pub(crate) fn read_signature(component: &Path) -> Result<Option<String>, TrustError> {
    let path = signature_path(component);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TrustError::Io { attempted: "read", path, source }),
    }
}

/// What is signed.
fn message(component: &[u8], manifest: &Manifest) -> Vec<u8> {
    // The manifest's hash is text of a fixed length, so the parts cannot run into each other.
    [PURPOSE, &Sha256::digest(component), manifest.sha256().as_bytes()].concat()
}

fn key_id(key: &VerifyingKey) -> String {
    hexadecimal(&Sha256::digest(key.as_bytes())[..ID_BYTES])
}

fn read_public(path: &Path) -> Result<VerifyingKey, TrustError> {
    let expected = "`orion-ed25519-public` and 64 hexadecimal digits of a public key";
    let bytes = read_line(path, PUBLIC, expected)?;
    VerifyingKey::from_bytes(&bytes).map_err(|_| TrustError::Malformed { path: path.to_owned(), expected })
}

fn read_line(path: &Path, kind: &str, expected: &'static str) -> Result<[u8; 32], TrustError> {
    let text = fs::read_to_string(path).map_err(|source| TrustError::Io {
        attempted: "read",
        path: path.to_owned(),
        source,
    })?;
    let bytes = fields(&text, kind).and_then(bytes_of);
    bytes.ok_or_else(|| TrustError::Malformed { path: path.to_owned(), expected })
}

/// What follows the first word of the only line.
fn fields<'t>(text: &'t str, kind: &str) -> Option<&'t str> {
    text.trim_end().strip_prefix(kind)?.strip_prefix(' ')
}

/// Exactly `N` bytes in hexadecimal digits.
fn bytes_of<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let digits = digits.as_bytes();
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (place, pair) in digits.chunks_exact(2).enumerate() {
        bytes[place] = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), TrustError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(|source| TrustError::Io {
        attempted: "write",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2: the curve and the hash are those of the standard.
    #[test]
    fn signatures_match_their_published_vector() {
        let seed =
            bytes_of("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").expect("digits");
        let key = SigningKey::from_bytes(&seed);
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(hexadecimal(key.verifying_key().as_bytes()), public);
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(hexadecimal(&key.sign(&[0x72]).to_bytes()), signature);
    }

    #[test]
    fn digits_are_read_whole_or_not_at_all() {
        assert_eq!(bytes_of("00fF"), Some([0, 255]));
        assert_eq!(bytes_of::<2>("00f"), None);
        assert_eq!(bytes_of::<2>("00fg"), None);
        assert_eq!(fields("kind a\n", "kind"), Some("a"));
        assert_eq!(fields("kinda", "kind"), None);
    }
}
