//! Filters over typed metadata: a small expression language. Neighbour: `selection.rs` evaluates it.
//!
//! ```text
//! expression = term { "OR" term }         term = factor { "AND" factor }
//! factor     = "NOT" factor | "(" expression ")" | name operator value { order value }
//! operator   = ":" | "=" | "!=" | "<" | "<=" | ">" | ">="
//! value      = word | "quoted \" string"
//! ```
//!
//! `:` and `=` are equality, and `name:*` holds wherever there is any value (a star in quotes is a star); on text metadata
//! `:` holds where every word of the value occurs. Order is defined for numbers and dates (`2024-05-06` or RFC 3339). Of
//! several values one has to satisfy a comparison, and for `!=` none may be equal; `year >= 1990 < 2000` asks for one value
//! between both bounds, which `year >= 1990 AND year < 2000` does not. A document without the field satisfies no
//! comparison, `!=` included. A name that no document has is an error, because it is a typing mistake more often than not.

use crate::document::{Kind, Value, parse_date};
use crate::error::{IndexError, Result};
use std::collections::BTreeMap;

/// A parsed filter expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    expression: String,
    pub(crate) node: Node,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Compare {
        name: String,
        name_at: usize,
        operator: Operator,
        operand: String,
        operand_at: usize,
    },
    /// Several orders that one value has to satisfy: operators, operands and their places.
    Between {
        name: String,
        name_at: usize,
        bounds: Vec<(Operator, String, usize)>,
    },
    Exists {
        name: String,
        name_at: usize,
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
    fn is_order(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }

    pub(crate) fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Open,
    Close,
    Operator(Operator),
    Word(String),
    Quoted(String),
}

impl Token {
    fn describe(&self) -> String {
        match self {
            Self::Open => "`(`".to_owned(),
            Self::Close => "`)`".to_owned(),
            Self::Operator(_) => "an operator".to_owned(),
            Self::Word(word) | Self::Quoted(word) => format!("`{word}`"),
        }
    }
}

/// How deep expressions may nest; far beyond what people write, far below the stack.
const DEEPEST: usize = 64;

struct Parser<'a> {
    expression: &'a str,
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Filter {
    /// Parses an expression such as `year >= 2019 AND (lang:en OR NOT draft = true)`.
    pub fn parse(expression: &str) -> Result<Self> {
        let tokens = tokens(expression)?;
        let mut parser = Parser { expression, tokens, at: 0, depth: 0 };
        let node = parser.expression()?;
        if parser.at < parser.tokens.len() {
            return Err(parser.unexpected("`AND`, `OR` or the end"));
        }
        Ok(Self { expression: expression.to_owned(), node })
    }

    /// The expression as it was given.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    pub(crate) fn kind(&self, kinds: &BTreeMap<String, Kind>, name: &str, name_at: usize) -> Result<Kind> {
        kinds.get(name).copied().ok_or_else(|| {
            let known: Vec<&str> = kinds.keys().map(String::as_str).collect();
            let expected = format!("one of the metadata names [{}]", known.join(", "));
            failed(&self.expression, name_at, &expected, format!("`{name}`"))
        })
    }

    /// The operand in the type of the field that it is compared with; both names come with their places.
    pub(crate) fn value(
        &self,
        kinds: &BTreeMap<String, Kind>,
        (name, name_at): (&str, usize),
        operator: Operator,
        (operand, operand_at): (&str, usize),
    ) -> Result<Value> {
        let kind = self.kind(kinds, name, name_at)?;
        if operator.is_order() && !matches!(kind, Kind::Number | Kind::Date) {
            let got = format!("an order comparison of {} `{name}`", kind.name());
            return Err(failed(&self.expression, name_at, "equality", got));
        }
        let wrong = |expected: &str| failed(&self.expression, operand_at, expected, format!("`{operand}`"));
        match kind {
            Kind::Keyword => Ok(Value::Keyword(operand.to_owned())),
            Kind::Text => Ok(Value::Text(operand.to_owned())),
            Kind::Number => match operand.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Value::Number(number)),
                _ => Err(wrong("a finite number")),
            },
            Kind::Date => {
                parse_date(operand).map(Value::Date).ok_or_else(|| wrong("a date, `2024-05-06` or RFC 3339"))
            }
            Kind::Boolean => match operand {
                "true" => Ok(Value::Boolean(true)),
                "false" => Ok(Value::Boolean(false)),
                _ => Err(wrong("`true` or `false`")),
            },
        }
    }
}

impl std::str::FromStr for Filter {
    type Err = IndexError;
    fn from_str(expression: &str) -> Result<Self> {
        Self::parse(expression)
    }
}

fn failed(expression: &str, at: usize, expected: &str, got: String) -> IndexError {
    IndexError::Filter { expression: expression.to_owned(), at, expected: expected.to_owned(), got }
}

fn tokens(expression: &str) -> Result<Vec<(usize, Token)>> {
    let characters: Vec<char> = expression.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        let start = at;
        let following = characters.get(at + 1).copied();
        at += 1;
        let token = match (characters[start], following) {
            (space, _) if space.is_whitespace() => continue,
            ('(', _) => Token::Open,
            (')', _) => Token::Close,
            (':' | '=', _) => Token::Operator(Operator::Equal),
            ('!' | '<' | '>', Some('=')) => {
                at += 1;
                Token::Operator(match characters[start] {
                    '!' => Operator::NotEqual,
                    '<' => Operator::LessOrEqual,
                    _ => Operator::GreaterOrEqual,
                })
            }
            ('<', _) => Token::Operator(Operator::Less),
            ('>', _) => Token::Operator(Operator::Greater),
            ('"', _) => {
                let mut text = String::new();
                loop {
                    match characters.get(at).copied() {
                        None => {
                            return Err(failed(expression, start, "a closing `\"`", "the end".to_owned()));
                        }
                        Some('"') => break,
                        Some('\\') if matches!(characters.get(at + 1), Some('"' | '\\')) => {
                            text.push(characters[at + 1]);
                            at += 2;
                        }
                        Some(character) => {
                            text.push(character);
                            at += 1;
                        }
                    }
                }
                at += 1;
                Token::Quoted(text)
            }
            _ => {
                // A `:` inside a value belongs to it (times, URLs), right after a name it is the operator.
                let after_operator = matches!(tokens.last(), Some((_, Token::Operator(_))));
                let ends = |character: char| {
                    character.is_whitespace()
                        || matches!(character, '(' | ')' | '"' | '=' | '!' | '<' | '>')
                        || (character == ':' && !after_operator)
                };
                while at < characters.len() && !ends(characters[at]) {
                    at += 1;
                }
                Token::Word(characters[start..at].iter().collect())
            }
        };
        tokens.push((start, token));
    }
    Ok(tokens)
}

impl Parser<'_> {
    fn unexpected(&self, expected: &str) -> IndexError {
        let (at, got) = match self.tokens.get(self.at) {
            Some((at, token)) => (*at, token.describe()),
            None => (self.expression.chars().count(), "the end".to_owned()),
        };
        failed(self.expression, at, expected, got)
    }

    fn accept_word(&mut self, keyword: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some((_, Token::Word(word))) if word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn expression(&mut self) -> Result<Node> {
        let mut nodes = vec![self.term()?];
        while self.accept_word("OR") {
            nodes.push(self.term()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Or(nodes) })
    }

    fn term(&mut self) -> Result<Node> {
        let mut nodes = vec![self.factor()?];
        while self.accept_word("AND") {
            nodes.push(self.factor()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::And(nodes) })
    }

    fn factor(&mut self) -> Result<Node> {
        if self.depth == DEEPEST {
            return Err(self.unexpected("at most 64 nested levels"));
        }
        self.depth += 1;
        let node = self.factor_inside();
        self.depth -= 1;
        node
    }

    fn factor_inside(&mut self) -> Result<Node> {
        if self.accept_word("NOT") {
            return Ok(Node::Not(Box::new(self.factor()?)));
        }
        match self.tokens.get(self.at).cloned() {
            Some((_, Token::Open)) => {
                self.at += 1;
                let node = self.expression()?;
                match self.tokens.get(self.at) {
                    Some((_, Token::Close)) => self.at += 1,
                    _ => return Err(self.unexpected("`)`")),
                }
                Ok(node)
            }
            Some((name_at, Token::Word(name))) => {
                self.at += 1;
                let Some((_, Token::Operator(operator))) = self.tokens.get(self.at).cloned() else {
                    return Err(self.unexpected("one of `:`, `=`, `!=`, `<`, `<=`, `>`, `>=`"));
                };
                self.at += 1;
                let is_star = matches!(self.tokens.get(self.at), Some((_, Token::Word(word))) if word == "*");
                if operator == Operator::Equal && is_star {
                    self.at += 1;
                    return Ok(Node::Exists { name, name_at });
                }
                let (operand, operand_at) = self.operand()?;
                let mut bounds = vec![(operator, operand, operand_at)];
                while let Some((_, Token::Operator(further))) = self.tokens.get(self.at).cloned()
                    && operator.is_order()
                    && further.is_order()
                {
                    self.at += 1;
                    let (operand, operand_at) = self.operand()?;
                    bounds.push((further, operand, operand_at));
                }
                Ok(match <[_; 1]>::try_from(bounds) {
                    Ok([(operator, operand, operand_at)]) => {
                        Node::Compare { name, name_at, operator, operand, operand_at }
                    }
                    Err(bounds) => Node::Between { name, name_at, bounds },
                })
            }
            _ => Err(self.unexpected("a metadata name, `NOT` or `(`")),
        }
    }

    /// A value and its place.
    fn operand(&mut self) -> Result<(String, usize)> {
        let Some((at, Token::Word(operand) | Token::Quoted(operand))) = self.tokens.get(self.at).cloned()
        else {
            return Err(self.unexpected("a value"));
        };
        self.at += 1;
        Ok((operand, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_parse_or_say_where_they_do_not() {
        let check = |expression: &str, expected: &str| {
            let got = match Filter::parse(expression) {
                Ok(_) => "ok".to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, expected, "{expression}");
        };
        check("year >= 2019 AND lang:en", "ok");
        check("NOT (a=1 or b != \"x \\\" y\") and url:http://x.y/z", "ok");
        check("at > 2024-05-06T10:00:00Z", "ok");
        check("", "filter `` at character 0: expected a metadata name, `NOT` or `(`, got the end");
        check(
            "a",
            "filter `a` at character 1: expected one of `:`, `=`, `!=`, `<`, `<=`, `>`, `>=`, got the end",
        );
        check("a:", "filter `a:` at character 2: expected a value, got the end");
        check("(a:1", "filter `(a:1` at character 4: expected `)`, got the end");
        check("a:1 b:2", "filter `a:1 b:2` at character 4: expected `AND`, `OR` or the end, got `b`");
        check("year >= 1990 < 2000 AND NOT at > 2024-01-01 <= 2024-05-06", "ok");
        check(
            "year >= 1 =",
            "filter `year >= 1 =` at character 10: expected `AND`, `OR` or the end, got an operator",
        );
        check("year >= 1 <", "filter `year >= 1 <` at character 11: expected a value, got the end");
        check("a:\"x", "filter `a:\"x` at character 2: expected a closing `\"`, got the end");
        let deep = format!("{}a:1", "NOT ".repeat(100_000));
        assert!(Filter::parse(&deep).is_err());
    }
}
