//! A filter as typed conditions, for engines elsewhere that evaluate it in a language of their own.
//!
//! The index itself evaluates expressions over its columns (`selection.rs`); this gives the same tree away, checked against
//! the same types with the same messages.

use crate::document::{Kind, Value};
use crate::error::Result;
use crate::filter::{Filter, Node, Operator};
use std::collections::BTreeMap;

/// What has to hold. A document without the field satisfies no comparison, `!=` included; `Not` turns exactly that round.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// One of them.
    Or(Vec<Condition>),
    /// All of them.
    And(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// A field against a value of its type; text holds where every word of the value occurs.
    Compare {
        /// The metadata name.
        name: String,
        /// How.
        operator: Operator,
        /// Against what.
        value: Value,
    },
    /// The field has any value.
    Exists {
        /// The metadata name.
        name: String,
    },
}

impl Filter {
    /// The expression over fields of these types.
    ///
    /// # Errors
    /// A name that is not among them, or a value or an operator that its type does not take.
    pub fn condition(&self, kinds: &BTreeMap<String, Kind>) -> Result<Condition> {
        self.typed(&self.node, kinds)
    }

    fn typed(&self, node: &Node, kinds: &BTreeMap<String, Kind>) -> Result<Condition> {
        let all = |nodes: &[Node]| nodes.iter().map(|node| self.typed(node, kinds)).collect::<Result<_>>();
        Ok(match node {
            Node::Or(nodes) => Condition::Or(all(nodes)?),
            Node::And(nodes) => Condition::And(all(nodes)?),
            Node::Not(inner) => Condition::Not(Box::new(self.typed(inner, kinds)?)),
            Node::Compare { name, name_at, operator, operand, operand_at } => {
                let value = self.value(kinds, (name, *name_at), *operator, (operand, *operand_at))?;
                Condition::Compare { name: name.clone(), operator: *operator, value }
            }
            // Engines elsewhere look at each bound on its own.
            Node::Between { name, name_at, bounds } => {
                let one = |(operator, operand, at): &(Operator, String, usize)| {
                    let value = self.value(kinds, (name, *name_at), *operator, (operand, *at))?;
                    Ok(Condition::Compare { name: name.clone(), operator: *operator, value })
                };
                Condition::And(bounds.iter().map(one).collect::<Result<_>>()?)
            }
            Node::Exists { name, name_at } => {
                self.kind(kinds, name, *name_at)?;
                Condition::Exists { name: name.clone() }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_the_types_of_their_fields() {
        let kinds = BTreeMap::from([("year".to_owned(), Kind::Number), ("at".to_owned(), Kind::Date)]);
        let condition = |text: &str| Filter::parse(text).unwrap().condition(&kinds);
        let year = Condition::Compare {
            name: "year".to_owned(),
            operator: Operator::GreaterOrEqual,
            value: Value::Number(340.0),
        };
        let at = Condition::Not(Box::new(Condition::Compare {
            name: "at".to_owned(),
            operator: Operator::Less,
            value: Value::Date(86_400),
        }));
        assert_eq!(condition("year >= 340 AND NOT at < 1970-01-02").unwrap(), Condition::And(vec![year, at]));
        assert_eq!(condition("year:*").unwrap(), Condition::Exists { name: "year".to_owned() });
        assert_eq!(
            condition("kind:x").unwrap_err().to_string(),
            "filter `kind:x` at character 0: expected one of the metadata names [at, year], got `kind`"
        );
        assert!(condition("year:many").is_err() && condition("at < soon").is_err());
    }
}
