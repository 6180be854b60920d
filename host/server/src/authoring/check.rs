//! `orion plugin check`: what a component is, and every reason for which a host would refuse it.
//!
//! The host's loader stops at the first thing that is wrong; here everything is listed with what to do about it, and
//! only a component without a visible fault is compiled and asked to describe itself. Neighbours: the host's
//! `inspect.rs` and `check.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use orion_host::{
    Grant, Host, ImportRefusal, Inspection, Manifest,
    contract::{Description, World},
    inspect,
};

use super::build::{MANIFEST, read_manifest};
use crate::failure::{Explain, Failure};

/// One reason for which a host would refuse the component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// What was found out about a component.
#[derive(Debug)]
pub struct Report {
    /// The component.
    pub component: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Where it has one.
    pub manifest: Option<Manifest>,
    /// Imports, exports and size; `None` where it could not be read.
    pub inspection: Option<Inspection>,
    /// What it was looked at as: what its manifest says, or what it exports.
    pub world: World,
    /// What it says of itself; `None` where it was refused before it could.
    pub description: Option<Description>,
    /// In the order in which they were found; none for a component that a host takes.
    pub refusals: Vec<Refusal>,
}

/// Looks at a component file, or at the component of a plugin's folder.
///
/// # Errors
/// A file that cannot be read. A component that is refused is no error but a [`Report`].
pub fn check(path: &Path, host: impl FnOnce() -> Result<Host, Failure>) -> Result<Report, Failure> {
    let (component, manifest) = if path.is_dir() {
        let manifest = read_manifest(path)?;
        (manifest.component().to_owned(), Some(manifest))
    } else {
        (path.to_owned(), Manifest::beside(path).attempt("reading the manifest beside the component")?)
    };
    let bytes =
        fs::read(&component).attempt(format!("reading `{}`", component.display())).map_err(|failure| {
            failure.hint(format!("`orion plugin build` makes the component of a folder with {MANIFEST}"))
        })?;
    let mut report = Report {
        component,
        bytes: bytes.len() as u64,
        manifest,
        inspection: None,
        world: World::Strategy,
        description: None,
        refusals: Vec::new(),
    };
    match inspect(&bytes) {
        Ok(found) => {
            let exported = World::of_exports(found.exports.iter().map(String::as_str));
            let declared = report.manifest.as_ref().map(Manifest::world);
            report.world = declared.or(exported).unwrap_or(World::Strategy);
            report.refusals = import_refusals(&found, report.manifest.as_ref());
            report.refusals.extend(export_refusals(&found, report.world));
            report.inspection = Some(found);
        }
        Err(error) => report.refusals.push(Refusal {
            problem: error.to_string(),
            remedy: "a plugin is a WebAssembly component; `orion plugin build` makes one".to_owned(),
        }),
    }
    if report.refusals.is_empty() {
        let host = host()?;
        let described = match report.world {
            World::Strategy => host.load_file(&report.component).map(|found| found.description().clone()),
            World::Reward => {
                host.load_reward_file(&report.component).map(|found| found.description().clone())
            }
        };
        match described {
            Ok(description) => report.description = Some(description),
            Err(error) => report
                .refusals
                .push(Refusal { problem: error.to_string(), remedy: load_remedy(&error).to_owned() }),
        }
    }
    Ok(report)
}

/// Imports that a host would not satisfy; without a manifest everything of the contract is granted.
pub fn import_refusals(found: &Inspection, manifest: Option<&Manifest>) -> Vec<Refusal> {
    let mut refusals: Vec<Refusal> = Vec::new();
    for import in &found.imports {
        let name = &import.name;
        let refusal = match import.refusal {
            None => match missing_grant(name, manifest) {
                Some((grant, path)) => Refusal {
                    problem: format!("it imports `{name}`, which `{}` does not grant", path.display()),
                    remedy: format!(
                        "add \"{grant}\" to `grants` in the manifest; or, where nothing calls it, build again with \
                         `orion plugin build`, which leaves it out"
                    ),
                },
                None => continue,
            },
            Some(ImportRefusal::System) => Refusal {
                problem: format!("it imports `{name}`: plugins get no system interface"),
                remedy: system_remedy(name).to_owned(),
            },
            Some(ImportRefusal::Version) => Refusal {
                problem: format!("it imports `{name}`: this orion has orion:search 0.1"),
                remedy: "build it again with the contract that `orion plugin new` writes (wit/orion.wit)"
                    .to_owned(),
            },
            Some(ImportRefusal::Interface) => Refusal {
                problem: format!("it imports `{name}`: the contract has no such interface"),
                remedy: "build it with the contract that `orion plugin new` writes (wit/orion.wit)"
                    .to_owned(),
            },
            Some(_) => Refusal {
                problem: format!("it imports `{name}`, which is not of the contract orion:search"),
                remedy: "a plugin may import nothing else; link what it needs into the component".to_owned(),
            },
        };
        refusals.push(refusal);
    }
    refusals
}

/// What would have to be granted, and by which manifest.
fn missing_grant<'m>(import: &str, manifest: Option<&'m Manifest>) -> Option<(&'static str, &'m Path)> {
    let manifest = manifest?;
    let grant = needed_grant(import)?;
    (!manifest.grants().has(grant)).then(|| (grant.name(), manifest.path()))
}

/// The grant that an import of the contract needs; `None` for those that are always there.
pub fn needed_grant(import: &str) -> Option<Grant> {
    let interface = import.split_once('/')?.1.split_once('@')?.0;
    Grant::ALL.into_iter().find(|grant| grant.name() == interface)
}

/// By what a language's tools import where they are not told otherwise.
fn system_remedy(import: &str) -> &'static str {
    match import.split([':', '/']).nth(1) {
        Some("random") => {
            "draw random numbers from the request's seed; build with `orion plugin build`, which leaves WASI out"
        }
        Some("clocks") => {
            "ask `budget.left` for the time that is left; build with `orion plugin build`, which leaves WASI out"
        }
        _ => {
            "build with `orion plugin build`, or: in Rust for the target wasm32-unknown-unknown, in Python with \
             --stub-wasi, in JavaScript with all features disabled"
        }
    }
}

fn export_refusals(found: &Inspection, world: World) -> Vec<Refusal> {
    let missing = world.exports().iter().filter(|name| !found.exports.iter().any(|export| export == *name));
    let remedy = match world {
        World::Strategy => {
            "a strategy exports `describe` and `search`; in Rust `orion_sdk::export!` does that"
        }
        World::Reward => {
            "a reward exports `describe` and `score`; in Rust `orion_sdk::export_reward!` does that"
        }
    };
    missing
        .map(|name| Refusal { problem: format!("it does not export `{name}`"), remedy: remedy.to_owned() })
        .collect()
}

fn load_remedy(error: &orion_host::LoadError) -> &'static str {
    use orion_host::LoadError as Error;
    match error {
        Error::Contract { .. } => {
            "its types are not the contract's: build it again with this orion's wit/orion.wit"
        }
        Error::Describe { .. } => {
            "`describe` must return at once and call nothing; its log lines say where it failed"
        }
        Error::Description { .. } => "correct what `describe` returns",
        Error::Manifest(_) => "correct the manifest",
        _ => "build it again; if that does not help, the tools that made it and this orion do not fit",
    }
}
