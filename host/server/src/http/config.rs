//! The server's configuration: what there is to set, an example that says so, and a reader that names lines.
//!
//! Read by hand rather than through serde, so that every complaint has file, line, key, what was expected and what
//! came, and an unknown key the known one that is nearest. [`EXAMPLE`] is the documentation: a test reads it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use orion_host::policy::Device;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    failure::{Explain, Failure},
    meant::PolicyChoice,
};

mod backends;

pub use backends::{BackendConfig, IndexConfig};

/// Every key with its default and what it does.
pub const EXAMPLE: &str = include_str!("example.toml");

/// What one API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Search, get, count, look.
    Read,
    /// Add, change and delete documents; refresh.
    Write,
    /// Make and delete indices and pipelines.
    Admin,
}

impl Scope {
    /// The word in configurations and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// One API key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyConfig {
    /// The user's part of it.
    pub name: String,
    /// SHA-256 of the secret part, in hexadecimal.
    pub sha256: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Requests a second, on average; also the burst.
    pub requests_per_second: Option<u64>,
    /// Tokens of the policy a minute, on average; also the burst.
    pub tokens_per_minute: Option<u64>,
}

/// Bounds of the whole server.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "`example.toml` says what each does")]
pub struct Bounds {
    pub body_bytes: u64,
    pub connections: u64,
    pub requests: u64,
    pub adaptive_searches: u64,
    pub waiting_documents: u64,
    pub cursors: u64,
    pub refresh_ms: u64,
    pub drain_ms: u64,
}

/// What adaptive searches start from, and the most that a request may ask for.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "`example.toml` says what each does")]
pub struct AdaptiveConfig {
    pub strategy: String,
    pub policy: String,
    pub policies: BTreeMap<String, PolicyChoice>,
    pub device: Device,
    pub ms: u64,
    pub tokens: u64,
    pub retrievals: u64,
}

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The data folder; without one, the usual one.
    pub data: Option<PathBuf>,
    /// The folder that snapshot repositories are in.
    pub snapshots: Option<PathBuf>,
    /// Whether a server that others reach may do without keys.
    pub open: bool,
    /// Certificate chain and key, in PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Milliseconds between two looks at the plugin folder; 0 for none but those of SIGHUP.
    pub watch_plugins_ms: u64,
    /// Where spans are sent, as OTLP over HTTP.
    pub traces: Option<String>,
    /// Whether log lines are JSON.
    pub json_log: bool,
    /// The least level that is logged.
    pub log_level: String,
    /// Bounds.
    pub bounds: Bounds,
    /// Adaptive search.
    pub adaptive: AdaptiveConfig,
    /// API keys; without any, everybody may do everything.
    pub keys: Vec<KeyConfig>,
    /// Other engines.
    pub backends: BTreeMap<String, BackendConfig>,
    /// Indexes whose halves are elsewhere.
    pub indices: BTreeMap<String, IndexConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9200)),
            data: None,
            snapshots: None,
            open: false,
            tls: None,
            watch_plugins_ms: 0,
            traces: None,
            json_log: true,
            log_level: "info".to_owned(),
            bounds: Bounds {
                body_bytes: 100 << 20,
                connections: 1_000,
                requests: 256,
                adaptive_searches: 16,
                waiting_documents: 20_000,
                cursors: 500,
                refresh_ms: 1_000,
                drain_ms: 10_000,
            },
            adaptive: AdaptiveConfig {
                strategy: "beam".to_owned(),
                policy: "nano".to_owned(),
                device: Device::Auto,
                policies: BTreeMap::new(),
                ms: 10_000,
                tokens: 100_000,
                retrievals: 256,
            },
            keys: Vec::new(),
            backends: BTreeMap::new(),
            indices: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text =
            std::fs::read_to_string(path).attempt(format!("reading configuration `{}`", path.display()))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads and checks a text; `name` is for messages.
    pub fn parse(text: &str, name: &str) -> Result<Self, Failure> {
        let file = File { name, text };
        let parsed = DeTable::parse(text)
            .map_err(|error| file.failure(error.span().map_or(0, |span| span.start), error.message()))?;
        let mut config = Self::default();
        let root = Section { file: &file, name: String::new(), table: parsed.get_ref() };
        root.known(&[
            "listen",
            "data",
            "snapshots",
            "watch_plugins_ms",
            "traces",
            "open",
            "tls",
            "log",
            "bounds",
            "adaptive",
            "keys",
            "backends",
            "indices",
        ])?;
        if let Some((text, at)) = root.text("listen")? {
            config.listen = text.parse().map_err(|_| {
                file.failure(
                    at,
                    &format!("`listen`: expected an address such as 127.0.0.1:9200, got `{text}`"),
                )
            })?;
        }
        config.data = root.text("data")?.map(|(text, _)| PathBuf::from(text));
        config.snapshots = root.text("snapshots")?.map(|(text, _)| PathBuf::from(text));
        config.open = root.boolean("open")?.unwrap_or(false);
        if let Some(tls) = root.section("tls")? {
            tls.known(&["certificate", "key"])?;
            config.tls = Some((PathBuf::from(tls.needed("certificate")?), PathBuf::from(tls.needed("key")?)));
        }
        config.watch_plugins_ms = root.number("watch_plugins_ms", 0..=86_400_000)?.unwrap_or(0);
        config.traces = root.address("traces")?;
        if let Some(log) = root.section("log")? {
            log.known(&["format", "level"])?;
            config.json_log = log.choice("format", &["json", "text"])?.is_none_or(|format| format == "json");
            let level = log.choice("level", &["error", "warn", "info", "debug"])?;
            config.log_level = level.unwrap_or(config.log_level);
        }
        if let Some(bounds) = root.section("bounds")? {
            bounds.read_bounds(&mut config.bounds)?;
        }
        if let Some(adaptive) = root.section("adaptive")? {
            adaptive.read_adaptive(&mut config.adaptive)?;
        }
        config.keys = root.read_keys()?;
        config.backends = root.read_backends()?;
        config.indices = root.read_indices(&config.backends)?;
        config.check_reach().map_err(|reason| {
            let at = root.table.get("listen").map_or(0, |value| value.span().start);
            file.failure(at, &format!("`listen`: {reason}"))
        })?;
        Ok(config)
    }

    /// Refuses an address that others reach where nothing keeps them out.
    pub fn check_reach(&self) -> Result<(), String> {
        if self.keys.is_empty() && !self.open && !self.listen.ip().is_loopback() {
            return Err(format!(
                "expected a loopback address, or `[[keys]]`, or `open = true`, got {}",
                self.listen
            ));
        }
        Ok(())
    }
}

/// The text that positions point into.
struct File<'t> {
    name: &'t str,
    text: &'t str,
}

impl File<'_> {
    fn failure(&self, at: usize, message: &str) -> Failure {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::new(format!("configuration `{}` line {line}: {message}", self.name))
    }
}

/// One table of the file.
struct Section<'t> {
    file: &'t File<'t>,
    /// With a dot at its end, or empty.
    name: String,
    table: &'t DeTable<'t>,
}

impl<'t> Section<'t> {
    fn known(&self, known: &[&str]) -> Result<(), Failure> {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                // 0.7 is where one or two slips in a word of usual length still count.
                let nearest = known
                    .iter()
                    .map(|one| (strsim::jaro_winkler(name, one), *one))
                    .filter(|(likeness, _)| 0.7 <= *likeness)
                    .max_by(|left, right| left.0.total_cmp(&right.0));
                let hint = match nearest {
                    Some((_, one)) => format!("did you mean `{}{one}`?", self.name),
                    None => format!("there are {}", known.join(", ")),
                };
                let message = format!("unknown key `{}{name}`; {hint}", self.name);
                return Err(self.file.failure(key.span().start, &message));
            }
        }
        Ok(())
    }

    fn wrong(&self, key: &str, at: usize, expected: &str, value: &DeValue<'_>) -> Failure {
        let got = match value {
            DeValue::String(text) => format!("`{text}`"),
            DeValue::Integer(number) => format!("`{number}`"),
            DeValue::Float(number) => format!("`{number}`"),
            DeValue::Boolean(value) => format!("`{value}`"),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.file.failure(at, &format!("`{}{key}`: expected {expected}, got {got}", self.name))
    }

    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.get(key)
    }

    fn text(&self, key: &str) -> Result<Option<(String, usize)>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) => Ok(Some((text.to_string(), value.span().start))),
            other => Err(self.wrong(key, value.span().start, "text", other)),
        }
    }

    /// An address of HTTP.
    fn address(&self, key: &str) -> Result<Option<String>, Failure> {
        let Some((text, at)) = self.text(key)? else { return Ok(None) };
        let is_address = text
            .parse::<axum::http::Uri>()
            .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some());
        if !is_address {
            let expected = "an address such as http://127.0.0.1:4318/v1/traces";
            return Err(self.wrong(key, at, expected, &DeValue::String(text.into())));
        }
        Ok(Some(text))
    }

    fn needed(&self, key: &str) -> Result<String, Failure> {
        let found = self.text(key)?.map(|(text, _)| text);
        found.ok_or_else(|| {
            let at = self.table.iter().next().map_or(0, |(other, _)| other.span().start);
            self.file.failure(at, &format!("`{}{key}`: expected text, got nothing", self.name))
        })
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::Boolean(value) => Ok(Some(*value)),
            other => Err(self.wrong(key, value.span().start, "true or false", other)),
        }
    }

    fn choice(&self, key: &str, choices: &[&str]) -> Result<Option<String>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) if choices.contains(&text.as_ref()) => Ok(Some(text.to_string())),
            other => {
                Err(self.wrong(key, value.span().start, &format!("one of {}", choices.join(", ")), other))
            }
        }
    }

    fn number(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value.get_ref() {
            DeValue::Integer(integer) => integer.to_string().parse::<u64>().ok(),
            _ => None,
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                Err(self.wrong(key, value.span().start, &expected, value.get_ref()))
            }
        }
    }

    fn section(&self, key: &'static str) -> Result<Option<Section<'t>>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let name = match key {
            "tls" => "tls.",
            "log" => "log.",
            "bounds" => "bounds.",
            "policies" => "adaptive.policies.",
            _ => "adaptive.",
        };
        match value.get_ref() {
            DeValue::Table(table) => Ok(Some(Section { file: self.file, name: name.to_owned(), table })),
            other => Err(self.wrong(key, value.span().start, "a table", other)),
        }
    }

    fn read_bounds(&self, bounds: &mut Bounds) -> Result<(), Failure> {
        let fields: [(&str, &mut u64, RangeInclusive<u64>); 8] = [
            ("body_bytes", &mut bounds.body_bytes, 1_024..=1 << 32),
            ("connections", &mut bounds.connections, 1..=100_000),
            ("requests", &mut bounds.requests, 1..=100_000),
            ("adaptive_searches", &mut bounds.adaptive_searches, 1..=1_000),
            ("waiting_documents", &mut bounds.waiting_documents, 1..=10_000_000),
            ("cursors", &mut bounds.cursors, 0..=100_000),
            ("refresh_ms", &mut bounds.refresh_ms, 10..=3_600_000),
            ("drain_ms", &mut bounds.drain_ms, 0..=3_600_000),
        ];
        let names: Vec<&str> = fields.iter().map(|(name, _, _)| *name).collect();
        self.known(&names)?;
        for (name, field, range) in fields {
            if let Some(number) = self.number(name, range)? {
                *field = number;
            }
        }
        Ok(())
    }

    fn read_adaptive(&self, adaptive: &mut AdaptiveConfig) -> Result<(), Failure> {
        self.known(&["strategy", "policy", "policies", "device", "ms", "tokens", "retrievals"])?;
        if let Some((strategy, _)) = self.text("strategy")? {
            adaptive.strategy = strategy;
        }
        if let Some(policies) = self.section("policies")? {
            for (key, value) in policies.table.iter() {
                let name = key.get_ref().to_string();
                let (folder, at) = policies.text(&name)?.unwrap_or_default();
                let choice = PolicyChoice::parse(&folder)
                    .map_err(|failure| self.file.failure(at.max(value.span().start), &failure.to_string()))?;
                adaptive.policies.insert(name, choice);
            }
        }
        if let Some((policy, at)) = self.text("policy")? {
            if !matches!(policy.as_str(), "nano" | "none") && !adaptive.policies.contains_key(&policy) {
                let expected = "nano, none or a name from [adaptive.policies]";
                let message = format!("`adaptive.policy`: expected {expected}, got `{policy}`");
                return Err(self.file.failure(at, &message));
            }
            adaptive.policy = policy;
        }
        if let Some((device, at)) = self.text("device")? {
            let named = device.parse::<Device>();
            adaptive.device =
                named.map_err(|error| self.file.failure(at, &format!("`adaptive.device`: {error}")))?;
        }
        adaptive.ms = self.number("ms", 1..=3_600_000)?.unwrap_or(adaptive.ms);
        adaptive.tokens = self.number("tokens", 0..=1 << 40)?.unwrap_or(adaptive.tokens);
        adaptive.retrievals = self.number("retrievals", 0..=1 << 40)?.unwrap_or(adaptive.retrievals);
        Ok(())
    }

    fn read_keys(&self) -> Result<Vec<KeyConfig>, Failure> {
        let Some(value) = self.get("keys") else { return Ok(Vec::new()) };
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.wrong("keys", value.span().start, "tables `[[keys]]`", value.get_ref()));
        };
        let mut keys: Vec<KeyConfig> = Vec::new();
        for item in items.iter() {
            let DeValue::Table(table) = item.get_ref() else {
                return Err(self.wrong("keys", item.span().start, "tables `[[keys]]`", item.get_ref()));
            };
            let section = Section { file: self.file, name: "keys.".to_owned(), table };
            section.known(&["name", "sha256", "scopes", "requests_per_second", "tokens_per_minute"])?;
            let key = KeyConfig {
                name: section.needed("name")?,
                sha256: section.needed("sha256")?,
                scopes: section.read_scopes()?,
                requests_per_second: section.number("requests_per_second", 1..=1_000_000)?,
                tokens_per_minute: section.number("tokens_per_minute", 1..=1 << 40)?,
            };
            let is_hash = key.sha256.len() == 64
                && key.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let at = |name: &str| section.get(name).map_or(0, |value| value.span().start);
            if !is_hash {
                let message = "`keys.sha256`: expected 64 hexadecimal digits in lower case";
                return Err(self.file.failure(at("sha256"), message));
            }
            if key.name.is_empty()
                || key.name.contains(':')
                || keys.iter().any(|other| other.name == key.name)
            {
                let message =
                    format!("`keys.name`: expected a name of its own without `:`, got `{}`", key.name);
                return Err(self.file.failure(at("name"), &message));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    fn read_scopes(&self) -> Result<Vec<Scope>, Failure> {
        const EXPECTED: &str = "a list of read, write, admin";
        let Some(value) = self.get("scopes") else { return Ok(vec![Scope::Read]) };
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.wrong("scopes", value.span().start, EXPECTED, value.get_ref()));
        };
        let scope = |item: &Spanned<DeValue<'_>>| {
            let known = [Scope::Read, Scope::Write, Scope::Admin];
            let named = match item.get_ref() {
                DeValue::String(name) => known.into_iter().find(|scope| scope.name() == name.as_ref()),
                _ => None,
            };
            named.ok_or_else(|| self.wrong("scopes", item.span().start, EXPECTED, item.get_ref()))
        };
        items.iter().map(scope).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_defaults_and_says_all() {
        let config = Config::parse(EXAMPLE, "example.toml").unwrap();
        assert_eq!(config, Config::default());
        // With every commented line switched on it still reads.
        let whole: String = EXAMPLE
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let config = Config::parse(&whole, "example.toml").unwrap();
        assert_eq!(config.keys.len(), 1);
        assert!(config.tls.is_some() && config.data.is_some());
        assert_eq!((config.backends.len(), config.indices.len()), (1, 1));
    }

    #[test]
    fn slips_are_named_with_their_line() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Config::parse(text, "o.toml").unwrap_err().to_string(), expected, "{text}");
        };
        check(
            "listen = \"here\"",
            "configuration `o.toml` line 1: `listen`: expected an address such as 127.0.0.1:9200, got `here`",
        );
        check(
            "\nlissten = \"x\"",
            "configuration `o.toml` line 2: unknown key `lissten`; did you mean `listen`?",
        );
        check(
            "[bounds]\nconections = 3",
            "configuration `o.toml` line 2: unknown key `bounds.conections`; did you mean `bounds.connections`?",
        );
        check(
            "[bounds]\nrequests = 0",
            "configuration `o.toml` line 2: `bounds.requests`: expected a whole number from 1 to 100000, got `0`",
        );
        check(
            "listen = \"0.0.0.0:9200\"",
            "configuration `o.toml` line 1: `listen`: expected a loopback address, or `[[keys]]`, or `open = true`, got 0.0.0.0:9200",
        );
        check(
            "traces = \"here\"",
            "configuration `o.toml` line 1: `traces`: expected an address such as http://127.0.0.1:4318/v1/traces, got `here`",
        );
        check(
            "watch_plugins_ms = -1",
            "configuration `o.toml` line 1: `watch_plugins_ms`: expected a whole number from 0 to 86400000, got `-1`",
        );
        check(
            "[log]\nformat = 3",
            "configuration `o.toml` line 2: `log.format`: expected one of json, text, got `3`",
        );
        check(
            "[[keys]]\nname = \"a\"\nsha256 = \"b\"",
            "configuration `o.toml` line 3: `keys.sha256`: expected 64 hexadecimal digits in lower case",
        );
        check(
            "[tls]\nkey = \"k\"",
            "configuration `o.toml` line 2: `tls.certificate`: expected text, got nothing",
        );
    }
}
