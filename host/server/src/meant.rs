//! What the user meant: typed arguments checked and resolved into values that commands act on.
//!
//! Neighbours: [`crate::args`] is what was typed; commands never look there for anything that needs checking.

use std::path::PathBuf;

use orion_endpoint::base_address;
use orion_eval::Measure;
use orion_host::{Limits, Strategy, index::Kind};

use crate::{
    args::{BudgetArgs, StrategyArgs},
    failure::Failure,
};

/// Which policy model a strategy asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyChoice {
    /// The one that rides in this program.
    Nano,
    /// None: strategies that ask for one fail, and are answered by the plain ranking.
    None,
    /// nano's shape with random weights: the row of a policy that learned nothing.
    Untrained,
    /// A checkpoint folder, or a `.gguf` file.
    Folder(PathBuf),
    /// An OpenAI-compatible server's base address, with the model's name after `#`.
    Endpoint(String),
}

impl PolicyChoice {
    /// `nano`, `none`, `untrained`, an address that begins with `http`, a `.gguf` file, or else a folder, which must
    /// have a `config.json`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "nano" => Ok(Self::Nano),
            "none" => Ok(Self::None),
            "untrained" => Ok(Self::Untrained),
            address if base_address(address).is_some() => Ok(Self::Endpoint(address.to_owned())),
            folder => {
                let path = PathBuf::from(folder);
                let is_gguf = path.is_file()
                    && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
                if is_gguf || path.join("config.json").is_file() {
                    return Ok(Self::Folder(path));
                }
                Err(Failure::new(format!(
                    "choosing policy `{folder}`: expected `nano`, `none`, `untrained`, an address, a checkpoint folder \
                     or a .gguf file, got a path without `config.json`"
                ))
                .hint(
                    "a checkpoint folder holds config.json, tokenizer.json and model.safetensors; a .gguf file will do \
                     too",
                ))
            }
        }
    }
}

/// A strategy as named on the command line: `beam`, `beam@untrained`, `beam@runs/policy-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrategyChoice {
    /// As it was typed: the row's name.
    pub label: String,
    /// The strategy's own name.
    pub name: String,
    /// The policy it asks.
    pub policy: PolicyChoice,
}

impl StrategyChoice {
    /// `default_policy` holds where the text names none.
    pub fn parse(text: &str, default_policy: &PolicyChoice) -> Result<Self, Failure> {
        let (name, policy) = match text.split_once('@') {
            Some((name, policy)) => (name, PolicyChoice::parse(policy)?),
            None => (text, default_policy.clone()),
        };
        if name.is_empty() {
            return Err(Failure::new(format!(
                "choosing strategy `{text}`: expected NAME or NAME@POLICY, got no name"
            )));
        }
        Ok(Self { label: text.to_owned(), name: name.to_owned(), policy })
    }
}

/// Strategy parameters from `--turns`, `--beam`, `--width` and `--param`, in that order; the last one wins.
pub fn strategy_options(args: &StrategyArgs) -> Result<Vec<(String, String)>, Failure> {
    let mut options: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| {
        options.retain(|(earlier, _)| earlier != name);
        options.push((name.to_owned(), value));
    };
    for (name, value) in [("turns", args.turns), ("beam", args.beam), ("width", args.width)] {
        if let Some(value) = value {
            set(name, value.to_string());
        }
    }
    for text in &args.params {
        let (name, value) = pair("--param", text)?;
        set(name, value.to_owned());
    }
    Ok(options)
}

/// `options` for one strategy alone: every one must be a parameter of its.
pub fn check_options(strategy: &Strategy, options: &[(String, String)]) -> Result<(), Failure> {
    strategy.check_options(options).map_err(|error| {
        Failure::new(error.to_string())
            .hint(format!("`orion strategies {}` lists its parameters", strategy.name()))
    })
}

/// `options` for several strategies at once: each takes those that it has, and every one must be some strategy's.
pub fn share_options(
    strategies: &[&Strategy],
    options: &[(String, String)],
) -> Result<Vec<Vec<(String, String)>>, Failure> {
    let has = |strategy: &Strategy, name: &str| {
        strategy.description().parameters.iter().any(|parameter| parameter.name == name)
    };
    for (name, _) in options {
        if !strategies.iter().any(|strategy| has(strategy, name)) {
            return Err(Failure::new(format!("giving strategies parameter `{name}`: none of them has it"))
                .hint("`orion strategies` lists strategies with their parameters"));
        }
    }
    strategies
        .iter()
        .map(|strategy| {
            let own: Vec<(String, String)> =
                options.iter().filter(|(name, _)| has(strategy, name)).cloned().collect();
            check_options(strategy, &own)?;
            Ok(own)
        })
        .collect()
}

/// `base` with the budgets that were given.
pub fn limits(base: Limits, args: &BudgetArgs) -> Limits {
    Limits {
        deadline_ms: args.deadline_ms.unwrap_or(base.deadline_ms),
        retrievals: args.max_retrievals.unwrap_or(base.retrievals),
        tokens: args.max_tokens.unwrap_or(base.tokens),
        memory_bytes: args.max_memory_mib.map_or(base.memory_bytes, |mib| mib.saturating_mul(1 << 20)),
        ..base
    }
}

/// `ndcg_cut_10=0.7` as a measure and the least mean that will do.
pub fn floors(texts: &[String]) -> Result<Vec<(Measure, f64)>, Failure> {
    texts
        .iter()
        .map(|text| {
            let (name, value) = pair("--floor", text)?;
            let measure: Measure = name.parse()?;
            match value.parse::<f64>() {
                Ok(floor) if (0.0..=1.0).contains(&floor) => Ok((measure, floor)),
                _ => Err(Failure::new(format!(
                    "reading `--floor {text}`: expected a number from 0 to 1, got `{value}`"
                ))),
            }
        })
        .collect()
}

/// `year=number` as a metadata field and its type.
pub fn metadata_field(text: &str) -> Result<(String, Kind), Failure> {
    const KINDS: [Kind; 5] = [Kind::Keyword, Kind::Text, Kind::Number, Kind::Date, Kind::Boolean];
    let (name, kind) = pair("--metadata", text)?;
    match KINDS.into_iter().find(|known| known.name() == kind) {
        Some(known) => Ok((name.to_owned(), known)),
        None => Err(Failure::new(format!(
            "reading `--metadata {text}`: expected keyword, text, number, date or boolean, got `{kind}`"
        ))),
    }
}

fn pair<'t>(flag: &str, text: &'t str) -> Result<(&'t str, &'t str), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        _ => {
            Err(Failure::new(format!("reading `{flag} {text}`: expected NAME=VALUE, got no name or no `=`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_option_wins_over_an_earlier_one() {
        let args = StrategyArgs {
            turns: Some(3),
            params: vec!["turns=4".to_owned(), "fusion=convex".to_owned()],
            ..StrategyArgs::default()
        };
        let got = strategy_options(&args).unwrap();
        assert_eq!(got, [("turns", "4"), ("fusion", "convex")].map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_strategy_may_name_its_policy() {
        let nano = PolicyChoice::Nano;
        assert_eq!(StrategyChoice::parse("beam", &nano).unwrap().policy, PolicyChoice::Nano);
        assert_eq!(StrategyChoice::parse("beam@untrained", &nano).unwrap().policy, PolicyChoice::Untrained);
        assert!(StrategyChoice::parse("@none", &nano).is_err());
        let failure = StrategyChoice::parse("beam@nowhere", &nano).unwrap_err();
        assert!(failure.hint_text().is_some());
    }

    #[test]
    fn floors_are_measures_with_numbers() {
        assert_eq!(floors(&["P_10=0.25".to_owned()]).unwrap(), [(Measure::Precision(10), 0.25)]);
        for bad in ["ndcg", "ndcg=2", "ndcg=x", "=1", "speed=1"] {
            assert!(floors(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
