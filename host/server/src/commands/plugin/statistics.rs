//! `orion plugin list --stats`: what each plugin did in a running server, from the metrics that it serves.
//!
//! The same numbers that a monitoring system collects (`http/metrics.rs` writes them), as a table for whoever has none.

use std::{collections::BTreeMap, time::Duration};

use orion_endpoint::{Attempt, agent, base_address, fetch};
use serde_json::json;

use crate::{
    Verdict,
    args::PluginListArgs,
    commands::Session,
    failure::{Explain, Failure},
    terminal::{Ink, Terminal, grouped},
};

/// A server that serves at all answers its metrics at once.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How the metrics of plugins begin.
const PREFIX: &str = "orion_plugin_";
/// Digits of a version that people are shown.
const SHOWN_DIGITS: usize = 12;

/// The numbers of one version of a plugin, by metric; of a summary, with its quantile behind `/`.
type Numbers = BTreeMap<String, f64>;
/// All of them, by name and version.
type Statistics = BTreeMap<(String, String), Numbers>;

pub(super) fn run(args: &PluginListArgs, session: &Session) -> Result<Verdict, Failure> {
    let attempted = || format!("asking `{}` for its metrics", args.server);
    let Some(base) = base_address(&args.server) else {
        return Err(Failure::new(format!("{}: expected http:// or https://", attempted()))
            .hint("the address is the one that clients search at, such as http://127.0.0.1:9200"));
    };
    let key = match &args.server_key {
        Some(file) => Some(std::fs::read_to_string(file).attempt(format!("reading `{}`", file.display()))?),
        None => None,
    };
    let key = key.map(|key| format!("ApiKey {}", key.trim()));
    let text = match fetch(&agent(TIMEOUT, "orion"), &format!("{base}/_metrics"), key.as_deref()) {
        Attempt::Answered(text) => text,
        Attempt::Refused(reason) => {
            return Err(Failure::new(format!("{}: {reason}", attempted()))
                .hint("--server-key FILE names a key, where the server asks for one"));
        }
        Attempt::Failed { reason, .. } => {
            return Err(Failure::new(format!("{}: {reason}", attempted()))
                .hint("`orion serve` starts a server; --server URL says where it is"));
        }
    };
    let statistics = read(&text);
    if session.terminal.json {
        let list: Vec<serde_json::Value> = statistics
            .iter()
            .map(|((name, version), numbers)| json!({ "name": name, "version": version, "numbers": numbers }))
            .collect();
        session.terminal.print_json(&list)?;
    } else {
        session.terminal.print(&to_text(&statistics, &session.terminal))?;
    }
    Ok(if statistics.is_empty() { Verdict::NoAnswer } else { Verdict::Answered })
}

/// The lines of a Prometheus text that are about plugins.
fn read(text: &str) -> Statistics {
    let mut statistics = Statistics::new();
    for line in text.lines() {
        let Some((metric, rest)) = line.strip_prefix(PREFIX).and_then(|line| line.split_once('{')) else {
            continue;
        };
        let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
        // Names and versions are plain: no comma, no quotation mark.
        let label = |name: &str| {
            let found = labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""));
            found.and_then(|value| value.strip_suffix('"'))
        };
        let (Some(plugin), Some(version), Ok(value)) = (label("plugin"), label("version"), value.parse())
        else {
            continue;
        };
        let metric = match label("quantile") {
            Some(quantile) => format!("{metric}/{quantile}"),
            None => metric.to_owned(),
        };
        statistics.entry((plugin.to_owned(), version.to_owned())).or_default().insert(metric, value);
    }
    statistics
}

/// A heading and how a row's number is made.
type Column = (&'static str, fn(&Numbers) -> String);

fn to_text(statistics: &Statistics, terminal: &Terminal) -> String {
    const COLUMNS: [Column; 9] = [
        ("calls", |one| whole(one, "calls_total")),
        ("degraded", |one| whole(one, "degraded_total")),
        ("traps", |one| whole(one, "traps_total")),
        ("p50 ms", |one| milliseconds(one, "search_seconds/0.5")),
        ("p99 ms", |one| milliseconds(one, "search_seconds/0.99")),
        ("fuel/call", |one| each(one, "fuel_total")),
        ("fuel, most", |one| whole(one, "fuel_most")),
        ("KiB, most", |one| grouped((number(one, "peak_memory_bytes") / 1024.0) as u64)),
        ("retrievals", |one| whole(one, "retrievals_total")),
    ];
    let longest = statistics.keys().map(|(name, _)| name.len()).max().unwrap_or(0).max("plugin".len());
    let mut head = format!("{:<longest$}  {:<SHOWN_DIGITS$}", "plugin", "version");
    for (title, _) in COLUMNS {
        head += &format!("{title:>15}");
    }
    let mut text = format!("{}\n", terminal.ink(Ink::Strong, &head));
    for ((name, version), numbers) in statistics {
        let version = version.get(..SHOWN_DIGITS).unwrap_or(version);
        text += &format!("{name:<longest$}  {version:<SHOWN_DIGITS$}");
        for (_, cell) in COLUMNS {
            text += &format!("{:>15}", cell(numbers));
        }
        text.push('\n');
    }
    text
}

fn number(numbers: &Numbers, metric: &str) -> f64 {
    numbers.get(metric).copied().unwrap_or(0.0)
}

fn whole(numbers: &Numbers, metric: &str) -> String {
    grouped(number(numbers, metric) as u64)
}

fn each(numbers: &Numbers, metric: &str) -> String {
    grouped((number(numbers, metric) / number(numbers, "calls_total").max(1.0)) as u64)
}

fn milliseconds(numbers: &Numbers, metric: &str) -> String {
    format!("{:.1}", number(numbers, metric) * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_about_plugins_are_read() {
        let text = "# HELP orion_plugin_calls_total Searches.\n\
                    orion_plugin_calls_total{plugin=\"beam\",version=\"ab\"} 12\n\
                    orion_plugin_search_seconds{plugin=\"beam\",version=\"ab\",quantile=\"0.5\"} 0.25\n\
                    orion_plugin_search_seconds_count{plugin=\"beam\",version=\"ab\"} 12\n\
                    orion_requests_total{group=\"search\"} 5\n\
                    orion_plugin_calls_total{plugin=\"blind\"} 1\n\
                    orion_plugin_calls_total{plugin=\"blind\",version=\"cd\"} many\n";
        let statistics = read(text);
        let [((name, version), numbers)] = statistics.iter().collect::<Vec<_>>()[..] else {
            panic!("{statistics:?}");
        };
        assert_eq!((name.as_str(), version.as_str()), ("beam", "ab"));
        assert_eq!(numbers["calls_total"], 12.0);
        assert_eq!(milliseconds(numbers, "search_seconds/0.5"), "250.0");
        assert_eq!(whole(numbers, "traps_total"), "0");
    }
}
