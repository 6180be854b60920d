//! Conditions as SphinxQL, over one JSON attribute.
//!
//! `WHERE` of Sphinx 2.2 knows no `OR`, so a condition is an expression in the list of columns that has to be 1. What is
//! missing compares as zero there, so every comparison asks for existence as well.

use crate::{
    condition::{Condition, Operator},
    document::Value,
    error::Fault,
};

/// The condition over the JSON attribute `column`.
pub(crate) fn expression(condition: &Condition, column: &str) -> Result<String, Fault> {
    let joined = |conditions: &[Condition], word: &str| -> Result<String, Fault> {
        let parts: Vec<String> =
            conditions.iter().map(|one| expression(one, column)).collect::<Result<_, _>>()?;
        Ok(format!("({})", parts.join(word)))
    };
    match condition {
        Condition::Or(conditions) => joined(conditions, " OR "),
        Condition::And(conditions) => joined(conditions, " AND "),
        Condition::Not(inner) => Ok(format!("(NOT {})", expression(inner, column)?)),
        Condition::Exists { name } => Ok(format!("({} IS NOT NULL)", path(name, column)?)),
        Condition::Compare { name, operator, value } => {
            let path = path(name, column)?;
            let compared = match value {
                Value::Keyword(word) => format!("IN({path},{})", constant(word)),
                Value::Number(number) => format!("({path}{}{number})", operator.sign("=")),
                Value::Date { seconds, .. } => format!("({path}{}{seconds})", operator.sign("=")),
                Value::Boolean(boolean) => format!("({path}={})", u8::from(*boolean)),
                Value::Text(_) | Value::Keywords(_) | Value::Several(_) => {
                    return Err(Fault::Refused(format!(
                        "filter: expected a keyword, number, date or boolean, got text `{name}`"
                    )));
                }
            };
            let negation = if *operator == Operator::NotEqual { "NOT " } else { "" };
            Ok(format!("(({path} IS NOT NULL) AND ({negation}{compared}))"))
        }
    }
}

fn path(name: &str, column: &str) -> Result<String, Fault> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !is_plain {
        return Err(Fault::Refused(format!(
            "filter: expected a metadata name of letters, digits and `_`, got `{name}`"
        )));
    }
    Ok(format!("{column}.{name}"))
}

/// A string constant.
pub(crate) fn constant(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for character in text.chars() {
        match character {
            '\'' | '\\' => quoted.extend(['\\', character]),
            // Sphinx keeps C strings.
            '\0' => quoted.push('\u{fffd}'),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_become_expressions() {
        let compare =
            |name: &str, operator, value| Condition::Compare { name: name.to_owned(), operator, value };
        let condition = Condition::Or(vec![
            Condition::Not(Box::new(compare("year", Operator::GreaterOrEqual, Value::Number(339.5)))),
            compare("kind", Operator::NotEqual, Value::Keyword("it's".to_owned())),
            Condition::Exists { name: "at".to_owned() },
        ]);
        assert_eq!(
            expression(&condition, "metadata").unwrap(),
            "((NOT ((metadata.year IS NOT NULL) AND ((metadata.year>=339.5)))) OR \
             ((metadata.kind IS NOT NULL) AND (NOT IN(metadata.kind,'it\\'s'))) OR (metadata.at IS NOT NULL))"
        );
        assert!(expression(&Condition::Exists { name: "a b".to_owned() }, "metadata").is_err());
        assert_eq!(constant("a\\b\0"), "'a\\\\b\u{fffd}'");
    }
}
