//! Loading: what is refused before compilation, what may not stop the host while it loads, and the compile cache.
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::common::{component_from_text, hostile_component, text_guest};
use orion_host::contract::World;
use orion_host::{CheckError, DegradedKind, Host, HostOptions, LoadError, Manifest};

fn host() -> Host {
    Host::new(HostOptions { concurrent_searches: 2, ..HostOptions::default() }).expect("a host")
}

fn check_error(host: &Host, bytes: &[u8]) -> CheckError {
    match host.load_bytes("guest", bytes) {
        Err(LoadError::Check { source, .. }) => source,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn the_smallest_guest_loads() {
    let component = component_from_text(&text_guest("", "i32.const 64", "unreachable"));
    let strategy = host().load_bytes("small", &component).expect("it loads");
    assert_eq!(strategy.description().name, "text-guest");
    assert_eq!(strategy.name(), "small");
    assert_eq!(strategy.component_sha256().len(), 64);
    assert!(!strategy.is_from_cache());
}

#[test]
fn a_guest_that_spins_while_it_starts_is_stopped() {
    let extra = "(func $spin (loop $again (br $again))) (start $spin)";
    let component = component_from_text(&text_guest(extra, "i32.const 64", "unreachable"));
    let Err(LoadError::Describe { reason, .. }) = host().load_bytes("spinner", &component) else {
        panic!("expected it to be stopped")
    };
    // Fuel on a fast machine, the deadline on a slow one.
    assert!(matches!(reason.kind, DegradedKind::Fuel | DegradedKind::Deadline), "{reason}");
}

#[test]
fn a_guest_that_spins_while_it_describes_itself_is_stopped() {
    let component =
        component_from_text(&text_guest("", "(loop $again (br $again)) unreachable", "unreachable"));
    let Err(LoadError::Describe { reason, .. }) = host().load_bytes("spinner", &component) else {
        panic!("expected it to be stopped")
    };
    assert!(matches!(reason.kind, DegradedKind::Fuel | DegradedKind::Deadline), "{reason}");
}

#[test]
fn a_guest_that_traps_while_it_describes_itself_is_refused() {
    let component = component_from_text(&text_guest("", "unreachable", "unreachable"));
    let Err(LoadError::Describe { reason, .. }) = host().load_bytes("trap", &component) else {
        panic!("expected it to be refused")
    };
    assert_eq!(reason.to_string(), "trap: wasm trap: wasm `unreachable` instruction executed");
}

#[test]
fn a_description_outside_memory_is_refused() {
    let component = component_from_text(&text_guest("", "i32.const 65520", "unreachable"));
    let refused = host().load_bytes("liar", &component);
    assert!(matches!(refused, Err(LoadError::Describe { .. })), "{refused:?}");
}

#[test]
fn a_description_with_a_bad_name_is_refused() {
    let text = text_guest("", "i32.const 64", "unreachable").replace("text-guest", "Text Guest");
    let Err(LoadError::Description { message, .. }) = host().load_bytes("loud", &component_from_text(&text))
    else {
        panic!("expected it to be refused")
    };
    assert_eq!(message, "name: expected 1 to 64 of a-z, 0-9, `-` and `_`, got `Text Guest`");
}

#[test]
fn a_guest_that_starts_with_too_much_memory_is_refused() {
    // 3000 pages of 64 KiB.
    let text = text_guest("", "i32.const 64", "unreachable").replace(r#""memory") 1)"#, r#""memory") 3000)"#);
    let component = component_from_text(&text);
    let Err(LoadError::Describe { reason, .. }) = host().load_bytes("large", &component) else {
        panic!("expected it to be refused")
    };
    assert_eq!(reason.kind, DegradedKind::Memory, "{reason}");
}

#[test]
fn a_truncated_component_is_refused() {
    let host = host();
    let component = hostile_component();
    for length in [0, 4, 8, 100, component.len() / 2, component.len() - 1] {
        let refused = check_error(&host, &component[..length]);
        let is_expected = matches!(refused, CheckError::Invalid { .. } | CheckError::MissingExport(_));
        assert!(is_expected, "{length} bytes: {refused}");
    }
}

#[test]
fn a_flipped_byte_never_panics() {
    let host = host();
    let component = component_from_text(&text_guest("", "i32.const 64", "unreachable"));
    // Every seventh byte: each section is hit, and the test stays quick.
    for place in (0..component.len()).step_by(7) {
        let mut changed = component.clone();
        changed[place] ^= 0x41;
        // Some flips only change a name or a string; what matters is that an answer comes.
        let _ = host.load_bytes("flipped", &changed);
    }
}

#[test]
fn foreign_imports_are_named_and_refused() {
    let host = host();
    let foreign = wat::parse_str(r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#);
    let refused = check_error(&host, &foreign.expect("valid text"));
    let message = refused.to_string();
    assert!(
        message.starts_with("import `wasi:clocks/wall-clock@0.2.0` is not allowed; a strategy may import ")
    );
    assert!(message.contains("`orion:search/retrieval@0.1.x`"), "{message}");

    let later = wat::parse_str(r#"(component (import "orion:search/retrieval@0.2.0" (instance)))"#);
    let refused = check_error(&host, &later.expect("valid text"));
    assert_eq!(refused, CheckError::Version { import: "orion:search/retrieval@0.2.0".to_owned() });
    assert!(refused.to_string().contains("this host speaks orion:search@0.1.x"), "{refused}");

    let function = wat::parse_str(r#"(component (import "help" (func)))"#);
    let refused = check_error(&host, &function.expect("valid text"));
    assert_eq!(refused, CheckError::Import { import: "help".to_owned(), world: World::Strategy });
}

#[test]
fn other_things_than_strategies_are_refused() {
    let host = host();
    assert_eq!(check_error(&host, &wat::parse_str("(module)").expect("valid text")), CheckError::CoreModule);
    let empty = wat::parse_str("(component)").expect("valid text");
    assert_eq!(check_error(&host, &empty), CheckError::MissingExport("describe"));
    let tiny = Host::new(HostOptions { max_component_bytes: 10, ..HostOptions::default() }).expect("a host");
    let got_bytes = hostile_component().len() as u64;
    let refused = check_error(&tiny, hostile_component());
    assert_eq!(refused, CheckError::TooLarge { limit_bytes: 10, got_bytes });
}

#[test]
fn a_component_of_another_shape_does_not_fit_the_contract() {
    let text = r#"(component
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (export "describe" (func $f))
        (export "search" (func $f)))"#;
    let refused = host().load_bytes("other", &wat::parse_str(text).expect("valid text"));
    let Err(LoadError::Contract { message, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(
        message,
        "export `describe`: the result: the host's contract has record `description` of `about`, the component has \
         nothing; a function links by its whole signature, so a changed one needs a new name; export `search`: the \
         host's contract has parameter `request`, the component has not; a function links by its whole signature, so a \
         changed one needs a new name"
    );
}

#[test]
fn a_missing_file_is_named() {
    let refused = host().load_file(Path::new("/nonexistent/beam.wasm")).expect_err("there is no such file");
    assert!(
        refused.to_string().starts_with("could not read component `/nonexistent/beam.wasm`: "),
        "{refused}"
    );
}

/// Entries of the cache, without its key.
fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let listed = std::fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<_> = listed.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "cwasm"));
    paths.sort();
    paths
}

#[test]
fn compiled_components_are_kept_private_and_authentic() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("compiled");
    let options =
        HostOptions { cache_folder: Some(cache.clone()), concurrent_searches: 2, ..HostOptions::default() };
    let first = component_from_text(&text_guest("", "i32.const 64", "unreachable"));
    let second = component_from_text(&text_guest("(func nop)", "i32.const 64", "unreachable"));
    let is_from_cache = |component: &[u8]| {
        // A new host each time, as after a restart.
        let host = Host::new(options.clone()).expect("a host");
        host.load_bytes("guest", component).expect("it loads").is_from_cache()
    };

    assert!(!is_from_cache(&first));
    assert!(is_from_cache(&first));
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&cache), 0o700);
    assert_eq!(mode(&cache.join("key")), 0o600);
    let [entry] = entries(&cache).try_into().expect("one entry");
    assert_eq!(mode(&entry), 0o600);

    // One byte of machine code changed.
    let mut bytes = std::fs::read(&entry).expect("the entry");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&entry, &bytes).expect("written");
    assert!(!is_from_cache(&first));
    assert!(is_from_cache(&first));

    // Cut short, and emptied.
    for length in [bytes.len() - 1, 10, 0] {
        std::fs::write(&entry, &bytes[..length]).expect("written");
        assert!(!is_from_cache(&first), "{length} bytes");
    }

    // An authentic entry under another component's name.
    assert!(!is_from_cache(&second));
    let both = entries(&cache);
    let other = both.iter().find(|path| **path != entry).expect("a second entry");
    std::fs::copy(other, &entry).expect("copied");
    assert!(!is_from_cache(&first));

    // Another key.
    std::fs::write(cache.join("key"), [7_u8; 32]).expect("written");
    assert!(!is_from_cache(&first));
    assert!(is_from_cache(&first));

    // A key that is none.
    std::fs::write(cache.join("key"), b"short").expect("written");
    let refused = Host::new(options.clone()).map(|_| ()).expect_err("no key");
    assert!(refused.to_string().contains("expected 32 bytes, got 5"), "{refused}");
}

#[test]
fn an_unusable_cache_folder_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, b"").expect("written");
    let options = HostOptions { cache_folder: Some(file.join("compiled")), ..HostOptions::default() };
    let refused = Host::new(options).map(|_| ()).expect_err("a file is no folder");
    assert!(refused.to_string().contains("could not make it private"), "{refused}");
}

/// A draft's sources are read through an interface that is there for drafts alone.
#[test]
fn only_a_draft_may_read_sources() {
    let text = r#"(component (import "orion:draft/sources@0.1.0" (instance)))"#;
    let component = wat::parse_str(text).expect("a component");
    let refused = host().load_bytes("shell", &component).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("import `orion:draft/sources@0.1.0` is not allowed"), "{refused}");
    let manifest = "name = \"shell\"\ncomponent = \"shell.wasm\"\ncontract = \"0.1\"\n";
    let manifest = Manifest::parse(manifest, Path::new("shell.toml")).expect("a manifest");
    let refused = host().load_draft(&component, Vec::new(), manifest).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("expected an exported function `describe`"), "{refused}");
}
