//! The manifest of a plugin: what an operator grants it, which limits it gets, which defaults its parameters have.
//!
//! A TOML file beside the component: `NAME.toml` in a plugin directory, `plugin.toml` in an author's folder. Nothing is
//! granted that it does not name, and it can only lower the operator's own limits. It is read with positions rather
//! than through serde, so that every complaint names file, line and field, what was expected and what came.
//! Neighbours: `check.rs` holds imports against the grants before compilation, `load.rs` the defaults against
//! `describe`, `run.rs` applies limits and defaults to each search.
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::contract::Description;
use crate::grants::{Grant, Grants};
use crate::limits::Limits;
use crate::load::{check_value, is_name};
use crate::record::hexadecimal;
use crate::world::World;

/// Versions of the contract that a manifest may name.
pub const CONTRACTS: [&str; 1] = ["0.1"];

/// Language that `orion plugin build` builds from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// A crate with `orion-sdk`.
    Rust,
    /// Through componentize-py.
    Python,
    /// Through componentize-js.
    JavaScript,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rust, Self::Python, Self::JavaScript];

    /// As a manifest names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "js",
        }
    }
}

/// A parameter's default in place of the component's own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ParameterDefault {
    value: String,
    line: usize,
}

/// One plugin's manifest, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    path: PathBuf,
    sha256: String,
    name: String,
    name_line: usize,
    component: PathBuf,
    contract: String,
    world: World,
    world_line: usize,
    grants: Grants,
    limits: Limits,
    parameters: BTreeMap<String, ParameterDefault>,
    language: Option<Language>,
}

/// Why a manifest is not acceptable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("could not read manifest `{path}`: {source}")]
    Read {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("manifest `{path}` line {line}: expected TOML: {message}")]
    Syntax {
        /// The manifest.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A field that must be there is not.
    #[error("manifest `{path}`: {field}: expected {expected}, found none")]
    Missing {
        /// The manifest.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it holds.
        expected: &'static str,
    },
    /// A field with a value that it cannot have, or one that does not exist.
    #[error("manifest `{path}` line {line}: {field}: expected {expected}, got {got}")]
    Field {
        /// The manifest.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// The field, with its table.
        field: String,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
}

impl Manifest {
    /// Reads and checks a manifest file.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// The manifest that lies beside a component file: one of the same name with the ending `toml`, or a `plugin.toml`
    /// that names this component.
    pub fn beside(component: &Path) -> Result<Option<Self>, ManifestError> {
        let own = component.with_extension("toml");
        if own.is_file() {
            return Self::read(&own).map(Some);
        }
        let shared = component.with_file_name("plugin.toml");
        if !shared.is_file() {
            return Ok(None);
        }
        let manifest = Self::read(&shared)?;
        Ok((manifest.component == component).then_some(manifest))
    }

    /// Checks a manifest's text; `path` is where it lies, for messages and for finding the component.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        Reader { path, text }.manifest()
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of its text, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The plugin's name, which its `describe` must give too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Path of the component: the manifest's folder and the name it gives.
    pub fn component(&self) -> &Path {
        &self.component
    }

    /// Version of the contract that the plugin was made for; one of [`CONTRACTS`].
    pub fn contract(&self) -> &str {
        &self.contract
    }

    /// What the component is: a strategy, unless it says otherwise.
    pub fn world(&self) -> World {
        self.world
    }

    /// Errors: it declares another world than the one that is wanted.
    pub(crate) fn expect_world(&self, wanted: World) -> Result<(), ManifestError> {
        if self.world == wanted {
            return Ok(());
        }
        Err(ManifestError::Field {
            path: self.path.clone(),
            line: self.world_line,
            field: "world".to_owned(),
            expected: format!("`{wanted}`, as which it is loaded"),
            got: format!("`{}`", self.world),
        })
    }

    /// What it may import beyond what is always there.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// `ceiling`, lowered where the manifest asks for less.
    pub fn limits(&self, ceiling: &Limits) -> Limits {
        ceiling.lowest(&self.limits)
    }

    /// Defaults of parameters that replace the component's own, by name.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, default)| (name.as_str(), default.value.as_str()))
    }

    /// What `orion plugin build` builds from, where the manifest says.
    pub fn language(&self) -> Option<Language> {
        self.language
    }

    /// `description` with the manifest's defaults. Errors: another name, or a default that the component does not take.
    pub(crate) fn describe(&self, mut description: Description) -> Result<Description, ManifestError> {
        let refuse = |line, field: String, expected: String, got: &str| {
            let (path, got) = (self.path.clone(), format!("`{got}`"));
            Err(ManifestError::Field { path, line, field, expected, got })
        };
        if description.name != self.name {
            let expected = format!("`{}`, the name that the component gives itself", description.name);
            return refuse(self.name_line, "name".to_owned(), expected, &self.name);
        }
        for (name, default) in &self.parameters {
            let field = format!("parameters.{name}");
            let Some(known) = description.parameters.iter_mut().find(|known| known.name == *name) else {
                let names: Vec<String> =
                    description.parameters.iter().map(|known| format!("`{}`", known.name)).collect();
                let expected = one_of(&names, "no parameters");
                return refuse(default.line, field, expected, name);
            };
            if let Err(expected) = check_value(known.kind, &default.value) {
                return refuse(default.line, field, expected.to_owned(), &default.value);
            }
            known.default.clone_from(&default.value);
        }
        Ok(description)
    }
}

/// A list for messages: "one of `a`, `b`", or `nothing` where it is empty.
fn one_of(names: &[String], nothing: &str) -> String {
    match names {
        [] => nothing.to_owned(),
        [only] => only.clone(),
        _ => format!("one of {}", names.join(", ")),
    }
}

/// A manifest's text while it is read.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

type Value<'a> = Spanned<DeValue<'a>>;

/// Longest name or value that a message repeats, in bytes.
const SHOWN_BYTES: u32 = 80;

impl Reader<'_> {
    fn manifest(&self) -> Result<Manifest, ManifestError> {
        let document = DeTable::parse(self.text).map_err(|error| ManifestError::Syntax {
            path: self.path.to_owned(),
            line: self.line(error.span().map_or(0, |span| span.start)),
            message: crate::trace::one_line(error.message(), 200),
        })?;
        let document = document.get_ref();
        self.known_keys(
            "",
            document,
            &["name", "component", "contract", "world", "grants", "limits", "parameters", "build"],
        )?;
        let name = self.needed(document, "name", "the plugin's name")?;
        let component = self.needed(document, "component", "a file name relative to the manifest")?;
        let contract = self.needed(document, "contract", "a version of orion:search")?;
        let world = document.get("world");
        let grants = document.get("grants").map_or(Ok(Grants::default()), |value| self.grants(value))?;
        let (world_line, world) = match world {
            Some(value) => (self.line(value.span().start), self.world(value)?),
            None => (1, World::Strategy),
        };
        if let (World::Reward, Some(first)) = (world, grants.names().first()) {
            let at = document.get("grants").map_or(0, |value| value.span().start);
            return self.refuse(at, "grants", "none, as a reward reaches nothing", format!("`{first}`"));
        }
        Ok(Manifest {
            path: self.path.to_owned(),
            sha256: hexadecimal(&Sha256::digest(self.text)),
            name: self.name(name)?,
            name_line: self.line(name.span().start),
            component: self.component(component)?,
            contract: self.contract(contract)?,
            world,
            world_line,
            grants,
            limits: self.table(document, "limits")?.map_or(Ok(Limits::NONE), |table| self.limits(table))?,
            parameters: match self.table(document, "parameters")? {
                Some(table) => self.parameters(table)?,
                None => BTreeMap::new(),
            },
            language: self.table(document, "build")?.map(|table| self.language(table)).transpose()?.flatten(),
        })
    }

    fn line(&self, byte: usize) -> usize {
        let before = self.text.get(..byte).unwrap_or(self.text);
        before.bytes().filter(|byte| *byte == b'\n').count() + 1
    }

    fn refuse<T>(
        &self,
        at: usize,
        field: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Result<T, ManifestError> {
        let (path, line) = (self.path.to_owned(), self.line(at));
        Err(ManifestError::Field {
            path,
            line,
            field: field.into(),
            expected: expected.into(),
            got: got.into(),
        })
    }

    fn known_keys(&self, table: &str, found: &DeTable<'_>, known: &[&str]) -> Result<(), ManifestError> {
        for key in found.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                let field = if table.is_empty() { "field" } else { table };
                let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                return self.refuse(
                    key.span().start,
                    field,
                    one_of(&names, "nothing"),
                    quoted(key.get_ref()),
                );
            }
        }
        Ok(())
    }

    fn needed<'t, 'd>(
        &self,
        table: &'t DeTable<'d>,
        field: &'static str,
        expected: &'static str,
    ) -> Result<&'t Value<'d>, ManifestError> {
        let path = || self.path.to_owned();
        table.get(field).ok_or_else(|| ManifestError::Missing { path: path(), field, expected })
    }

    fn table<'t, 'd>(
        &self,
        document: &'t DeTable<'d>,
        field: &str,
    ) -> Result<Option<&'t DeTable<'d>>, ManifestError> {
        match document.get(field).map(|value| (value, value.get_ref())) {
            None => Ok(None),
            Some((_, DeValue::Table(table))) => Ok(Some(table)),
            Some((value, _)) => self.refuse(value.span().start, field, "a table", shown(value)),
        }
    }

    fn text<'v>(&self, field: &str, value: &'v Value<'_>, expected: &str) -> Result<&'v str, ManifestError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => self.refuse(value.span().start, field, expected, shown(value)),
        }
    }

    fn name(&self, value: &Value<'_>) -> Result<String, ManifestError> {
        let expected = "1 to 64 of a-z, 0-9, `-` and `_`";
        let name = self.text("name", value, expected)?;
        if is_name(name) {
            Ok(name.to_owned())
        } else {
            self.refuse(value.span().start, "name", expected, quoted(name))
        }
    }

    fn component(&self, value: &Value<'_>) -> Result<PathBuf, ManifestError> {
        let expected = "a file name relative to the manifest, within its folder";
        let name = self.text("component", value, expected)?;
        let stays = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || !stays {
            return self.refuse(value.span().start, "component", expected, quoted(name));
        }
        Ok(self.path.with_file_name(name))
    }

    fn contract(&self, value: &Value<'_>) -> Result<String, ManifestError> {
        let expected = one_of(&CONTRACTS.map(quoted), "nothing");
        let version = self.text("contract", value, &expected)?;
        if CONTRACTS.contains(&version) {
            Ok(version.to_owned())
        } else {
            self.refuse(value.span().start, "contract", expected, quoted(version))
        }
    }

    fn world(&self, value: &Value<'_>) -> Result<World, ManifestError> {
        let expected = one_of(&World::ALL.map(|world| quoted(world.name())), "nothing");
        let name = self.text("world", value, &expected)?;
        match World::ALL.into_iter().find(|world| world.name() == name) {
            Some(world) => Ok(world),
            None => self.refuse(value.span().start, "world", expected, quoted(name)),
        }
    }

    fn grants(&self, value: &Value<'_>) -> Result<Grants, ManifestError> {
        let known = "a list of `retrieval`, `policy`, `feedback`";
        let DeValue::Array(list) = value.get_ref() else {
            return self.refuse(value.span().start, "grants", known, shown(value));
        };
        let mut grants = Grants::default();
        for item in list.iter() {
            let name = self.text("grants", item, known)?;
            let Some(grant) = Grant::ALL.into_iter().find(|grant| grant.name() == name) else {
                let why = match name {
                    "budget" | "trace" | "log" => " (it is always there and needs no grant)",
                    "network" | "filesystem" | "clock" | "random" | "environment" => {
                        " (no plugin can be granted that)"
                    }
                    _ => "",
                };
                return self.refuse(item.span().start, "grants", known, format!("{}{why}", quoted(name)));
            };
            if !grants.give(grant) {
                let got = format!("{} twice", quoted(name));
                return self.refuse(item.span().start, "grants", "each name once", got);
            }
        }
        Ok(grants)
    }

    fn limits(&self, table: &DeTable<'_>) -> Result<Limits, ManifestError> {
        let names = Limits::names();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        self.known_keys("limits", table, &known)?;
        let mut limits = serde_json::Map::new();
        for (key, value) in table {
            let (name, at) = (key.get_ref().as_ref(), value.span().start);
            let field = format!("limits.{name}");
            let DeValue::Integer(integer) = value.get_ref() else {
                return self.refuse(at, field, "a whole number", shown(value));
            };
            let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
            // Nothing runs at all without these.
            let least = u64::from(matches!(name, "deadline_ms" | "fuel" | "memory_bytes"));
            let Some(number) = number.filter(|number| *number >= least) else {
                return self.refuse(at, field, format!("a whole number of at least {least}"), shown(value));
            };
            limits.insert(name.to_owned(), number.into());
            if Limits::from_named(limits.clone()).is_none() {
                return self.refuse(at, field, format!("at most {}", u32::MAX), shown(value));
            }
        }
        Ok(Limits::from_named(limits).unwrap_or(Limits::NONE))
    }

    fn parameters(&self, table: &DeTable<'_>) -> Result<BTreeMap<String, ParameterDefault>, ManifestError> {
        let mut parameters = BTreeMap::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let value_text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(number) => number.to_string(),
                    Err(_) => integer.as_str().to_owned(),
                },
                DeValue::Float(float) => float.as_str().to_owned(),
                DeValue::Boolean(flag) => flag.to_string(),
                _ => {
                    let field = format!("parameters.{name}");
                    let expected = "text, a number, `true` or `false`";
                    return self.refuse(value.span().start, field, expected, shown(value));
                }
            };
            let line = self.line(key.span().start);
            parameters.insert(name.to_owned(), ParameterDefault { value: value_text, line });
        }
        Ok(parameters)
    }

    fn language(&self, table: &DeTable<'_>) -> Result<Option<Language>, ManifestError> {
        self.known_keys("build", table, &["language"])?;
        let Some(value) = table.get("language") else { return Ok(None) };
        let expected = one_of(&Language::ALL.map(|language| quoted(language.name())), "nothing");
        let name = self.text("build.language", value, &expected)?;
        match Language::ALL.into_iter().find(|language| language.name() == name) {
            Some(language) => Ok(Some(language)),
            None => self.refuse(value.span().start, "build.language", expected, quoted(name)),
        }
    }
}

/// A name or text as messages repeat it.
fn quoted(text: &str) -> String {
    format!("`{}`", crate::trace::one_line(text, SHOWN_BYTES))
}

/// A value as messages repeat it.
fn shown(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("the text {}", quoted(text)),
        DeValue::Integer(integer) => quoted(&integer.to_string()),
        DeValue::Float(float) => quoted(float.as_str()),
        DeValue::Boolean(flag) => quoted(&flag.to_string()),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
