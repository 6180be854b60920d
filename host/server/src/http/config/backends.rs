//! `[backends]` and `[indices]` of the configuration: other engines, and which of them is which half of an index.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use orion_engines::{EngineKind, Fields, Half, Settings};
use orion_host::index::Kind;
use toml::de::DeValue;

use super::Section;
use crate::failure::Failure;

/// The word for Orion's own index.
const EMBEDDED: &str = "embedded";

/// One engine.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendConfig {
    /// How it is reached; its secret is still in its file.
    pub settings: Settings,
    /// File with the secret.
    pub secret_file: Option<PathBuf>,
}

/// Where an index is.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexConfig {
    /// Backend of the lexical half; `None` for Orion's own index.
    pub lexical: Option<String>,
    /// Backend of the dense half; `None` for Orion's own index.
    pub dense: Option<String>,
    /// How deep hybrid searches look into each half.
    pub depth: usize,
    /// Types of metadata, for filters.
    pub metadata: BTreeMap<String, Kind>,
}

impl<'t> Section<'t> {
    /// The tables inside one, by name.
    fn tables(&self, key: &str) -> Result<Vec<(String, Section<'t>)>, Failure> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let DeValue::Table(outer) = value.get_ref() else {
            return Err(self.wrong(key, value.span().start, "a table", value.get_ref()));
        };
        let mut found = Vec::new();
        for (name, value) in outer.iter() {
            let name = name.get_ref().to_string();
            let prefix = format!("{}{key}.{name}", self.name);
            match value.get_ref() {
                DeValue::Table(table) => {
                    found.push((name, Section { file: self.file, name: format!("{prefix}."), table }));
                }
                other => {
                    let section = Section { file: self.file, name: format!("{key}."), table: outer };
                    return Err(section.wrong(&name, value.span().start, "a table", other));
                }
            }
        }
        Ok(found)
    }

    pub(super) fn read_backends(&self) -> Result<BTreeMap<String, BackendConfig>, Failure> {
        let mut backends = BTreeMap::new();
        for (name, section) in self.tables("backends")? {
            if name == EMBEDDED {
                let at = section.table.iter().next().map_or(0, |(key, _)| key.span().start);
                let message =
                    format!("`backends.{name}`: expected another name, since that is Orion's own index");
                return Err(self.file.failure(at, &message));
            }
            let backend = section.read_backend()?;
            backends.insert(name, backend);
        }
        Ok(backends)
    }

    fn read_backend(&self) -> Result<BackendConfig, Failure> {
        self.known(&[
            "kind",
            "url",
            "collection",
            "user",
            "secret_file",
            "fields",
            "interface",
            "shards",
            "language",
            "timeout_ms",
            "attempts",
            "breaker_failures",
            "breaker_rest_ms",
            "connections",
        ])?;
        let kinds = EngineKind::ALL.map(EngineKind::name);
        let word = self.choice("kind", &kinds)?;
        let kind = EngineKind::ALL.into_iter().find(|kind| Some(kind.name()) == word.as_deref());
        // Without the key this complains of its absence.
        let kind = kind.map_or_else(|| self.needed("kind").map(|_| EngineKind::OpenSearch), Ok)?;
        let mut settings = Settings::new(kind, self.needed("url")?, self.needed("collection")?);
        settings.user = self.text("user")?.map(|(user, _)| user);
        let number = |name: &str, range, usual: u32| {
            Ok::<u32, Failure>(self.number(name, range)?.map_or(usual, |given| given as u32))
        };
        let milliseconds = |name: &str, usual: Duration| {
            Ok::<Duration, Failure>(self.number(name, 1..=600_000)?.map_or(usual, Duration::from_millis))
        };
        settings.timeout = milliseconds("timeout_ms", settings.timeout)?;
        settings.attempts = number("attempts", 1..=20, settings.attempts)?;
        settings.breaker_failures = number("breaker_failures", 1..=1_000, settings.breaker_failures)?;
        settings.breaker_rest = milliseconds("breaker_rest_ms", settings.breaker_rest)?;
        settings.connections = number("connections", 1..=1_000, settings.connections)?;
        if let Some((language, _)) = self.text("language")? {
            settings.language = language;
        }
        settings.old_interface = self.choice("interface", &["v1", "v2"])?.as_deref() == Some("v1");
        settings.shards = self.texts("shards")?;
        settings.fields = self.read_fields()?;
        Ok(BackendConfig { settings, secret_file: self.text("secret_file")?.map(|(path, _)| path.into()) })
    }

    fn read_fields(&self) -> Result<Fields, Failure> {
        let mut fields = Fields::default();
        let Some(value) = self.get("fields") else { return Ok(fields) };
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.wrong("fields", value.span().start, "a table", value.get_ref()));
        };
        let section = Section { file: self.file, name: format!("{}fields.", self.name), table };
        section.known(&["id", "title", "text", "vector", "metadata"])?;
        for (name, field) in [
            ("id", &mut fields.id),
            ("title", &mut fields.title),
            ("text", &mut fields.text),
            ("vector", &mut fields.vector),
            ("metadata", &mut fields.metadata),
        ] {
            if let Some((given, _)) = section.text(name)? {
                *field = given;
            }
        }
        Ok(fields)
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, Failure> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let wrong = || self.wrong(key, value.span().start, "a list of texts", value.get_ref());
        let DeValue::Array(items) = value.get_ref() else { return Err(wrong()) };
        let text = |item: &toml::Spanned<DeValue<'_>>| match item.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => None,
        };
        items.iter().map(text).collect::<Option<_>>().ok_or_else(wrong)
    }

    pub(super) fn read_indices(
        &self,
        backends: &BTreeMap<String, BackendConfig>,
    ) -> Result<BTreeMap<String, IndexConfig>, Failure> {
        let mut indices = BTreeMap::new();
        for (name, section) in self.tables("indices")? {
            section.known(&["lexical", "dense", "depth", "metadata"])?;
            let mut metadata = BTreeMap::new();
            if let Some(value) = section.get("metadata") {
                let DeValue::Table(table) = value.get_ref() else {
                    return Err(section.wrong("metadata", value.span().start, "a table", value.get_ref()));
                };
                let inner = Section { file: self.file, name: format!("{}metadata.", section.name), table };
                const KINDS: [Kind; 5] = [Kind::Keyword, Kind::Text, Kind::Number, Kind::Date, Kind::Boolean];
                for key in table.keys() {
                    let field = key.get_ref().as_ref();
                    let word = inner.choice(field, &KINDS.map(Kind::name))?;
                    let kind = KINDS.into_iter().find(|kind| Some(kind.name()) == word.as_deref());
                    metadata.extend(kind.map(|kind| (field.to_owned(), kind)));
                }
            }
            let index = IndexConfig {
                lexical: section.half("lexical", Half::Lexical, backends)?,
                dense: section.half("dense", Half::Dense, backends)?,
                depth: section.number("depth", 10..=1_000)?.unwrap_or(1_000) as usize,
                metadata,
            };
            indices.insert(name, index);
        }
        Ok(indices)
    }

    /// The backend of a half, which has to be able to be one.
    fn half(
        &self,
        key: &str,
        half: Half,
        backends: &BTreeMap<String, BackendConfig>,
    ) -> Result<Option<String>, Failure> {
        let Some((name, at)) = self.text(key)?.filter(|(name, _)| name != EMBEDDED) else { return Ok(None) };
        let Some(backend) = backends.get(&name) else {
            let known: Vec<&str> =
                std::iter::once(EMBEDDED).chain(backends.keys().map(String::as_str)).collect();
            let message = format!("`{}{key}`: expected one of {}, got `{name}`", self.name, known.join(", "));
            return Err(self.file.failure(at, &message));
        };
        if !backend.settings.kind.can_be(half) {
            let kind = backend.settings.kind.name();
            let message = format!("`{}{key}`: {kind} cannot be the {key} half of an index", self.name);
            return Err(self.file.failure(at, &message));
        }
        Ok(Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn halves_are_checked_when_they_are_read() {
        let check = |rest: &str, expected: &str| {
            let text = format!(
                "[backends.m]\nkind = \"milvus\"\nurl = \"http://127.0.0.1:1\"\ncollection = \"c\"\n{rest}"
            );
            let got =
                Config::parse(&text, "o.toml").map_or_else(|failure| failure.to_string(), |_| String::new());
            assert_eq!(got, expected, "{rest}");
        };
        check("[indices.notes]\ndense = \"m\"\nlexical = \"embedded\"\nmetadata.year = \"number\"", "");
        check(
            "[indices.notes]\nlexical = \"m\"",
            "configuration `o.toml` line 6: `indices.notes.lexical`: milvus cannot be the lexical half of an index",
        );
        check(
            "[indices.notes]\ndense = \"n\"",
            "configuration `o.toml` line 6: `indices.notes.dense`: expected one of embedded, m, got `n`",
        );
        check(
            "atempts = 3",
            "configuration `o.toml` line 5: unknown key `backends.m.atempts`; did you mean `backends.m.attempts`?",
        );
        check(
            "[backends.n]\nkind = \"solr\"",
            "configuration `o.toml` line 6: `backends.n.kind`: expected one of opensearch, elasticsearch, milvus, \
             sphinx, postgres, got `solr`",
        );
        check(
            "[indices.notes]\nmetadata.year = \"int\"",
            "configuration `o.toml` line 6: `indices.notes.metadata.year`: expected one of keyword, text, number, \
             date, boolean, got `int`",
        );
    }
}
