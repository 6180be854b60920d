//! Conditions as SQL over a `jsonb` column.
//!
//! Comparisons are JSON paths: they are false, never null, where a value is missing or of another type, and hold for one
//! of several values. Everything that comes from a user travels as a parameter.

use serde_json::json;

use crate::{
    condition::{Condition, Operator},
    document::Value,
};

/// SQL under construction: text, and the values of `$1`, `$2`, … in order, all of them text.
#[derive(Debug, Default)]
pub(crate) struct Sql {
    pub(crate) text: String,
    pub(crate) parameters: Vec<String>,
}

impl Sql {
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a parameter and its place; PostgreSQL keeps no NUL in text.
    pub(crate) fn parameter(&mut self, value: impl Into<String>) -> &mut Self {
        self.parameters.push(value.into().replace('\0', "\u{fffd}"));
        let place = format!("${}::text", self.parameters.len());
        self.push(&place)
    }

    /// Adds a condition over `column`; `language` is the text search configuration, both quoted.
    pub(crate) fn condition(&mut self, condition: &Condition, column: &str, language: &str) {
        let (joined, word) = match condition {
            Condition::Or(conditions) => (conditions, " OR "),
            Condition::And(conditions) => (conditions, " AND "),
            Condition::Not(inner) => {
                self.push("NOT (").condition(inner, column, language);
                self.push(")");
                return;
            }
            Condition::Exists { name } => return self.path(column, &format!("$.{}", json!(name)), "{}"),
            Condition::Compare { name, operator: Operator::NotEqual, value } => {
                self.push("(").condition(&Condition::Exists { name: name.clone() }, column, language);
                self.push(" AND NOT ").compare(name, Operator::Equal, value, column, language);
                self.push(")");
                return;
            }
            Condition::Compare { name, operator, value } => {
                return self.compare(name, *operator, value, column, language);
            }
        };
        self.push("(");
        for (place, one) in joined.iter().enumerate() {
            self.push(if place == 0 { "" } else { word }).condition(one, column, language);
        }
        self.push(")");
    }

    fn compare(&mut self, name: &str, operator: Operator, value: &Value, column: &str, language: &str) {
        if let Value::Text(text) = value {
            self.push(&format!("coalesce(to_tsvector({language}, {column} ->> ")).parameter(name);
            self.push(&format!(") @@ plainto_tsquery({language}, ")).parameter(text.as_str());
            self.push("), false)");
            return;
        }
        let path = format!("$.{} ? (@ {} $value)", json!(name), operator.sign("=="));
        self.path(column, &path, &json!({ "value": value.with_seconds() }).to_string());
    }

    fn path(&mut self, column: &str, path: &str, variables: &str) {
        self.push(&format!("jsonb_path_exists({column}, ")).parameter(path).push("::jsonpath, ");
        self.parameter(variables).push("::jsonb)");
    }
}

/// An identifier, with a schema before a dot if there is one.
pub(crate) fn quoted(name: &str) -> String {
    name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
}

/// A string constant, for the few places that take no parameter.
pub(crate) fn constant(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_become_sql_with_parameters() {
        let compare =
            |name: &str, operator, value| Condition::Compare { name: name.to_owned(), operator, value };
        let mut sql = Sql::default();
        let condition = Condition::And(vec![
            compare("ye\"ar", Operator::Less, Value::Number(340.0)),
            Condition::Not(Box::new(compare("kind", Operator::NotEqual, Value::Keyword("it's".to_owned())))),
            compare("note", Operator::Equal, Value::Text("two words".to_owned())),
        ]);
        sql.condition(&condition, "m", "'english'");
        assert_eq!(
            sql.text,
            "(jsonb_path_exists(m, $1::text::jsonpath, $2::text::jsonb) AND \
             NOT ((jsonb_path_exists(m, $3::text::jsonpath, $4::text::jsonb) AND NOT \
             jsonb_path_exists(m, $5::text::jsonpath, $6::text::jsonb))) AND \
             coalesce(to_tsvector('english', m ->> $7::text) @@ plainto_tsquery('english', $8::text), false))"
        );
        assert_eq!(
            sql.parameters,
            [
                "$.\"ye\\\"ar\" ? (@ < $value)",
                "{\"value\":340.0}",
                "$.\"kind\"",
                "{}",
                "$.\"kind\" ? (@ == $value)",
                "{\"value\":\"it's\"}",
                "note",
                "two words",
            ]
        );
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("public.no\"tes"), "\"public\".\"no\"\"tes\"");
        assert_eq!(constant("it's"), "'it''s'");
    }
}
