//! Filters over typed metadata, as every engine here has to evaluate them.

use crate::document::Value;

/// What has to hold. A document without the field satisfies no comparison, `NotEqual` included; `Not` turns exactly
/// that round, so nothing here has a third truth value.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// One of them.
    Or(Vec<Condition>),
    /// All of them.
    And(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// A field against a value of its type; of a field with several values, one has to fit.
    Compare {
        /// The metadata name.
        name: String,
        /// How; order is for numbers and dates.
        operator: Operator,
        /// Against what; [`Value::Text`] holds where every word occurs.
        value: Value,
    },
    /// The field has any value.
    Exists {
        /// The metadata name.
        name: String,
    },
}

/// How a comparison compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all")]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    /// `=`, `<`, `<=`, `>` or `>=`, with `equal` for the first; [`Operator::NotEqual`] is written as `Equal`, since
    /// engines write it as existence without equality.
    pub(crate) fn sign(self, equal: &'static str) -> &'static str {
        match self {
            Self::Equal | Self::NotEqual => equal,
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}
