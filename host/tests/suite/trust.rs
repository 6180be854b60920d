//! Signatures and the lock file: what is refused, with which words, and that checking needs nothing but the files.
use std::path::Path;

use crate::common::{component_from_text, options, text_guest};
use orion_host::{
    Change, DirectoryOptions, Host, LOCK_FILE, Manifest, PluginDirectory, TrustStore, generate_key, sign,
    signature_path,
};

const TOML: &str = "name = \"text-guest\"\ncomponent = \"text-guest.wasm\"\ncontract = \"0.1\"\n";

/// A plugin directory with one plugin, beside a folder of trusted keys and one of secret ones.
struct Stage {
    folder: tempfile::TempDir,
    host: Host,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["plugins", "trusted", "secret"] {
            std::fs::create_dir(folder.path().join(name)).expect("created");
        }
        let stage = Self { folder, host: Host::new(options()).expect("a host") };
        stage.write(
            "plugins/text-guest.wasm",
            component_from_text(&text_guest("", "i32.const 64", "unreachable")),
        );
        stage.write("plugins/text-guest.toml", TOML);
        stage
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("written");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("it is there")
    }

    /// Makes a key and, perhaps, trusts it.
    fn key(&self, name: &str, is_trusted: bool) {
        let (_, public) = generate_key(&self.path("secret"), name).expect("a key");
        if is_trusted {
            std::fs::copy(public, self.path(&format!("trusted/{name}.pub"))).expect("copied");
        }
    }

    /// Signs what lies in the folder now.
    fn sign(&self, key: &str) {
        let manifest = Manifest::read(&self.path("plugins/text-guest.toml")).expect("a manifest");
        let component = self.read("plugins/text-guest.wasm");
        let text = sign(&self.path(&format!("secret/{key}.key")), &component, &manifest).expect("signed");
        std::fs::write(signature_path(manifest.component()), text).expect("written");
    }

    fn directory(&self, is_trusting: bool, locked: bool) -> PluginDirectory {
        PluginDirectory::new(DirectoryOptions {
            folder: self.path("plugins"),
            trusted_keys: is_trusting.then(|| self.path("trusted")),
            locked,
        })
    }

    /// Why the plugin is refused, with the folder's own path left out.
    #[track_caller]
    fn refusal(&self, directory: &PluginDirectory) -> String {
        let changes = directory.refresh(&self.host).expect("the folder can be read");
        let [Change::Refused { reason, .. }] = changes.as_slice() else { panic!("{changes:?}") };
        reason.replace(&format!("{}/", self.folder.path().display()), "")
    }

    #[track_caller]
    fn serves(&self, directory: &PluginDirectory) {
        directory.refresh(&self.host).expect("the folder can be read");
        let plugins = directory.current();
        let plugin = &plugins["text-guest"];
        assert!(plugin.strategy.is_some() && plugin.refusal.is_none(), "{plugin:?}");
    }
}

#[test]
fn only_what_a_trusted_key_signed_is_loaded() {
    let stage = Stage::new();
    stage.key("alice", true);
    stage.key("mallory", false);
    let directory = stage.directory(true, false);
    assert_eq!(
        stage.refusal(&directory),
        "component `plugins/text-guest.wasm` is not signed: expected a signature in \
         `plugins/text-guest.wasm.sig`, found none"
    );
    stage.sign("mallory");
    let refused = stage.refusal(&directory);
    assert!(refused.starts_with("component `plugins/text-guest.wasm` is signed by key "), "{refused}");
    assert!(
        refused.ends_with(", which is not trusted: expected one of the 1 keys in `trusted`"),
        "{refused}"
    );
    stage.write("plugins/text-guest.wasm.sig", "hello");
    assert_eq!(
        stage.refusal(&directory),
        "`plugins/text-guest.wasm.sig`: expected `orion-ed25519-signature`, the id of a key and 128 hexadecimal \
         digits, got something else"
    );
    stage.sign("alice");
    stage.serves(&directory);
    assert_eq!(
        directory.current()["text-guest"].signer.as_ref().map(|signer| signer.name.as_str()),
        Some("alice")
    );
}

#[test]
fn neither_component_nor_manifest_can_be_changed_after_signing() {
    let stage = Stage::new();
    stage.key("alice", true);
    stage.sign("alice");
    let directory = stage.directory(true, false);
    stage.serves(&directory);
    let wrong = |refused: String| {
        assert!(refused.starts_with("component `plugins/text-guest.wasm` is wrongly signed: "), "{refused}");
        assert!(refused.ends_with(" (`alice`) does not fit this component with this manifest"), "{refused}");
    };
    let component = stage.read("plugins/text-guest.wasm");
    stage.write("plugins/text-guest.wasm", [component.as_slice(), &[0, 2, 1, b'x']].concat());
    wrong(stage.refusal(&directory));
    // What served goes on serving.
    assert!(directory.strategy("text-guest").is_some());
    stage.write("plugins/text-guest.wasm", component);
    stage.write("plugins/text-guest.toml", format!("{TOML}grants = [\"policy\"]\n"));
    wrong(stage.refusal(&directory));
    // One digit of the signature.
    stage.write("plugins/text-guest.toml", TOML);
    stage.serves(&directory);
    let mut signature = stage.read("plugins/text-guest.wasm.sig");
    let last = signature.len() - 2;
    signature[last] = if signature[last] == b'0' { b'1' } else { b'0' };
    stage.write("plugins/text-guest.wasm.sig", signature);
    wrong(stage.refusal(&directory));
}

#[test]
fn a_key_that_is_taken_away_takes_its_plugins_with_it() {
    let stage = Stage::new();
    stage.key("alice", true);
    stage.sign("alice");
    let directory = stage.directory(true, false);
    stage.serves(&directory);
    std::fs::remove_file(stage.path("trusted/alice.pub")).expect("removed");
    let refused = stage.refusal(&directory);
    assert!(refused.ends_with("expected one of the 0 keys in `trusted`"), "{refused}");
    assert!(directory.strategy("text-guest").is_none());
    std::fs::copy(stage.path("secret/alice.pub"), stage.path("trusted/alice.pub")).expect("copied");
    stage.serves(&directory);
}

#[test]
fn keys_are_files_of_one_line_that_nobody_overwrites() {
    let stage = Stage::new();
    let (secret, public) = generate_key(&stage.path("secret"), "alice").expect("a key");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&secret).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
    let again = generate_key(&stage.path("secret"), "alice").expect_err("there is one").to_string();
    assert!(again.starts_with("could not write `"), "{again}");
    assert_eq!(std::fs::read_to_string(&public).expect("text").lines().count(), 1);
    // A secret key is no public one, and a folder with a file that is no key is not read by halves.
    std::fs::copy(secret, stage.path("trusted/alice.pub")).expect("copied");
    let refused = TrustStore::open(&stage.path("trusted")).expect_err("no key").to_string();
    assert!(refused.ends_with("64 hexadecimal digits of a public key, got something else"), "{refused}");
    assert!(TrustStore::open(Path::new("/nonexistent")).is_err());
}

#[test]
fn what_differs_from_the_lock_file_is_refused_with_both_hashes() {
    let stage = Stage::new();
    let failed = stage.directory(false, true).refresh(&stage.host).expect_err("no lock file").to_string();
    assert!(failed.starts_with("could not read lock file `"), "{failed}");

    let locked = stage.directory(false, false).lock().expect("it is written");
    let entry = locked.plugins()["text-guest"].clone();
    let directory = stage.directory(false, true);
    stage.serves(&directory);
    assert_eq!(directory.strategy("text-guest").expect("it serves").component_sha256(), entry.component);

    stage.write("plugins/text-guest.toml", format!("{TOML}grants = [\"policy\"]\n"));
    let changed = Manifest::read(&stage.path("plugins/text-guest.toml")).expect("a manifest");
    assert_eq!(
        stage.refusal(&directory),
        format!(
            "lock file `plugins/plugins.lock`: manifest of plugin `text-guest`: expected {}, got {}",
            entry.manifest,
            changed.sha256()
        )
    );
    let component = stage.read("plugins/text-guest.wasm");
    stage.write("plugins/text-guest.toml", TOML);
    stage.write("plugins/text-guest.wasm", [component.as_slice(), &[0, 2, 1, b'x']].concat());
    let refused = stage.refusal(&directory);
    let expected = format!("component of plugin `text-guest`: expected {}, got ", entry.component);
    assert!(refused.contains(&expected), "{refused}");

    // Locked again, it is loaded; an unknown plugin is not.
    stage.directory(false, false).lock().expect("it is written");
    stage.serves(&directory);
    stage.write(&format!("plugins/{LOCK_FILE}"), "");
    assert_eq!(
        stage.refusal(&directory),
        "lock file `plugins/plugins.lock`: expected plugin `text-guest` in it, found none"
    );
    stage.write(&format!("plugins/{LOCK_FILE}"), "plugin = 3");
    let failed = directory.refresh(&stage.host).expect_err("no lock file").to_string();
    assert!(failed.contains("expected tables `[plugin.NAME]`"), "{failed}");
}
