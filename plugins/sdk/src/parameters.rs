//! Typed parameters: declared once as constants, described from there, read from a request with checked ranges.
//!
//! Four small types rather than one generic, because each says something else of itself: a range, a list of choices.
//!
//! ```
//! use orion_sdk::parameters::Integer;
//! const TURNS: Integer = Integer { name: "turns", default: 4, min: 1, max: 16, help: "search turns" };
//! assert_eq!(TURNS.read(&[]).unwrap(), 4);
//! ```

use crate::{Error, Kind, Parameter, Setting};

/// A whole number within a range.
#[derive(Clone, Copy, Debug)]
pub struct Integer {
    /// Lower case with hyphens.
    pub name: &'static str,
    /// Used where the request does not name the parameter.
    pub default: u32,
    /// Smallest accepted value.
    pub min: u32,
    /// Largest accepted value.
    pub max: u32,
    /// One line, no full stop.
    pub help: &'static str,
}

/// A finite number within a range; optionally `none`, which reads as NaN.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// Lower case with hyphens.
    pub name: &'static str,
    /// Used where the request does not name the parameter; NaN is written `none`.
    pub default: f32,
    /// Smallest accepted value.
    pub min: f32,
    /// Largest accepted value.
    pub max: f32,
    /// Whether `none` is accepted.
    pub optional: bool,
    /// One line, no full stop.
    pub help: &'static str,
}

/// On or off: `true`, `on`, `yes`, `1` and their opposites.
#[derive(Clone, Copy, Debug)]
pub struct Boolean {
    /// Lower case with hyphens.
    pub name: &'static str,
    /// Used where the request does not name the parameter.
    pub default: bool,
    /// One line, no full stop.
    pub help: &'static str,
}

/// One of a few words; reads as the value that stands beside the word.
#[derive(Clone, Copy, Debug)]
pub struct Choice<T: 'static> {
    /// Lower case with hyphens.
    pub name: &'static str,
    /// The words and what they mean; the first is the default.
    pub choices: &'static [(&'static str, T)],
    /// One line, no full stop; the words are added to it.
    pub help: &'static str,
}

/// Exactly `N` finite numbers, separated by commas: coefficients that a trainer fitted.
#[derive(Clone, Copy, Debug)]
pub struct Coefficients<const N: usize> {
    /// Lower case with hyphens.
    pub name: &'static str,
    /// Used where the request does not name the parameter; described as `standard`.
    pub default: [f32; N],
    /// One line, no full stop.
    pub help: &'static str,
}

impl<const N: usize> Coefficients<N> {
    /// As the plugin's description lists it.
    pub fn describe(&self) -> Parameter {
        let help = format!("{} ({N} numbers, separated by commas)", self.help);
        parameter(self.name, Kind::Text, "standard".to_owned(), help)
    }

    /// The request's numbers, or the default.
    ///
    /// # Errors
    /// `invalid-input` where these are not `N` finite numbers.
    pub fn read(&self, options: &[Setting]) -> Result<[f32; N], Error> {
        let Some(text) = last_value(options, self.name).filter(|text| text.trim() != "standard") else {
            return Ok(self.default);
        };
        let refused = || rejected(self.name, &format!("{N} numbers, separated by commas"), text);
        let mut numbers = [0.0; N];
        let mut parts = text.split(',');
        for number in &mut numbers {
            let read = parts.next().and_then(|part| part.trim().parse::<f32>().ok());
            *number = read.filter(|value| value.is_finite()).ok_or_else(refused)?;
        }
        if parts.next().is_some() { Err(refused()) } else { Ok(numbers) }
    }
}

impl Integer {
    /// As the plugin's description lists it.
    pub fn describe(&self) -> Parameter {
        let help = format!("{} ({} to {})", self.help, self.min, self.max);
        parameter(self.name, Kind::Integer, self.default.to_string(), help)
    }

    /// The request's value, or the default.
    ///
    /// # Errors
    /// `invalid-input` where the value is no whole number or outside the range.
    pub fn read(&self, options: &[Setting]) -> Result<u32, Error> {
        let Some(text) = last_value(options, self.name) else { return Ok(self.default) };
        match text.trim().parse::<u32>() {
            Ok(value) if (self.min..=self.max).contains(&value) => Ok(value),
            _ => {
                let expected = format!("a whole number from {} to {}", self.min, self.max);
                Err(rejected(self.name, &expected, text))
            }
        }
    }
}

impl Number {
    /// As the plugin's description lists it.
    pub fn describe(&self) -> Parameter {
        let or_none = if self.optional { ", or `none`" } else { "" };
        let help = format!("{} ({} to {}{or_none})", self.help, self.min, self.max);
        let default = if self.default.is_nan() { "none".to_owned() } else { self.default.to_string() };
        // The kind `number` promises a number to tools that check values; `none` needs `text`.
        let kind = if self.optional { Kind::Text } else { Kind::Number };
        parameter(self.name, kind, default, help)
    }

    /// The request's value, or the default; NaN for `none`.
    ///
    /// # Errors
    /// `invalid-input` where the value is no number or outside the range.
    pub fn read(&self, options: &[Setting]) -> Result<f32, Error> {
        let Some(text) = last_value(options, self.name) else { return Ok(self.default) };
        if self.optional && text.trim() == "none" {
            return Ok(f32::NAN);
        }
        match text.trim().parse::<f32>() {
            Ok(value) if (self.min..=self.max).contains(&value) => Ok(value),
            _ => {
                let or_none = if self.optional { " or `none`" } else { "" };
                let expected = format!("a number from {} to {}{or_none}", self.min, self.max);
                Err(rejected(self.name, &expected, text))
            }
        }
    }
}

impl Boolean {
    /// As the plugin's description lists it.
    pub fn describe(&self) -> Parameter {
        parameter(self.name, Kind::Boolean, self.default.to_string(), self.help.to_owned())
    }

    /// The request's value, or the default.
    ///
    /// # Errors
    /// `invalid-input` where the value is neither on nor off.
    pub fn read(&self, options: &[Setting]) -> Result<bool, Error> {
        let Some(text) = last_value(options, self.name) else { return Ok(self.default) };
        match text.trim() {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" => Ok(false),
            _ => Err(rejected(self.name, "`true` or `false`", text)),
        }
    }
}

impl<T: Copy> Choice<T> {
    /// As the plugin's description lists it.
    pub fn describe(&self) -> Parameter {
        let default = self.choices.first().map_or("", |(word, _)| word);
        parameter(self.name, Kind::Text, default.to_owned(), format!("{}: {}", self.help, self.words()))
    }

    /// What the request's word means, or the first choice.
    ///
    /// # Errors
    /// `invalid-input` where the word is none of the choices (or there are no choices).
    pub fn read(&self, options: &[Setting]) -> Result<T, Error> {
        let text = last_value(options, self.name);
        let mut matching =
            self.choices.iter().filter(|(word, _)| text.is_none_or(|text| text.trim() == *word));
        match matching.next() {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let expected = format!("one of {}", self.words());
                Err(rejected(self.name, &expected, text.unwrap_or_default()))
            }
        }
    }

    fn words(&self) -> String {
        let words: Vec<String> = self.choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        words.join(", ")
    }
}

/// The last value wins, so that a caller can append to defaults.
fn last_value<'a>(options: &'a [Setting], name: &str) -> Option<&'a str> {
    options.iter().rev().find(|option| option.name == name).map(|option| option.value.as_str())
}

fn parameter(name: &str, kind: Kind, default: String, help: String) -> Parameter {
    Parameter { name: name.to_owned(), kind, default, help }
}

fn rejected(name: &str, expected: &str, got: &str) -> Error {
    let shown: String = got.chars().take(40).collect();
    Error::InvalidInput(format!("parameter `{name}`: expected {expected}, got `{shown}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting;

    const TURNS: Integer = Integer { name: "turns", default: 4, min: 1, max: 16, help: "search turns" };
    const WEIGHT: Number =
        Number { name: "weight", default: f32::NAN, min: 0.0, max: 1.0, optional: true, help: "dense share" };
    const SHOUT: Boolean = Boolean { name: "shout", default: false, help: "be loud" };
    const MODE: Choice<u8> = Choice { name: "mode", choices: &[("slow", 1), ("fast", 2)], help: "pace" };

    fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        match result {
            Err(Error::InvalidInput(message)) => message,
            other => format!("unexpected: {other:?}"),
        }
    }

    #[test]
    fn defaults_hold_where_nothing_is_named() {
        let other = [setting("unrelated", 7)];
        assert_eq!(TURNS.read(&other), Ok(4));
        assert!(WEIGHT.read(&other).unwrap().is_nan());
        assert_eq!(SHOUT.read(&other), Ok(false));
        assert_eq!(MODE.read(&other), Ok(1));
    }

    #[test]
    fn the_last_value_wins() {
        assert_eq!(TURNS.read(&[setting("turns", 2), setting("turns", 3)]), Ok(3));
        assert_eq!(WEIGHT.read(&[setting("weight", 0.25)]), Ok(0.25));
        assert_eq!(SHOUT.read(&[setting("shout", "on")]), Ok(true));
        assert_eq!(MODE.read(&[setting("mode", "fast")]), Ok(2));
    }

    #[test]
    fn refusals_say_what_was_expected_and_what_came() {
        assert_eq!(
            message(TURNS.read(&[setting("turns", "17")])),
            "parameter `turns`: expected a whole number from 1 to 16, got `17`"
        );
        assert_eq!(
            message(WEIGHT.read(&[setting("weight", "NaN")])),
            "parameter `weight`: expected a number from 0 to 1 or `none`, got `NaN`"
        );
        assert_eq!(
            message(SHOUT.read(&[setting("shout", "loud")])),
            "parameter `shout`: expected `true` or `false`, got `loud`"
        );
        assert_eq!(
            message(MODE.read(&[setting("mode", "warp")])),
            "parameter `mode`: expected one of `slow`, `fast`, got `warp`"
        );
    }

    #[test]
    fn coefficients_are_as_many_as_expected_and_finite() {
        const PAIR: Coefficients<2> = Coefficients { name: "pair", default: [1.0, 2.0], help: "a pair" };
        assert_eq!(PAIR.read(&[]), Ok([1.0, 2.0]));
        assert_eq!(PAIR.read(&[setting("pair", "standard")]), Ok([1.0, 2.0]));
        assert_eq!(PAIR.read(&[setting("pair", "-0.5, 3")]), Ok([-0.5, 3.0]));
        for wrong in ["1", "1,2,3", "1,NaN", "1,inf", "", "a,b"] {
            assert!(
                message(PAIR.read(&[setting("pair", wrong)]))
                    .starts_with("parameter `pair`: expected 2 numbers, separated by commas, got `"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn descriptions_carry_default_and_range() {
        let described = TURNS.describe();
        assert_eq!((described.default.as_str(), described.help.as_str()), ("4", "search turns (1 to 16)"));
        assert_eq!(WEIGHT.describe().default, "none");
        assert_eq!(MODE.describe().default, "slow");
    }
}
