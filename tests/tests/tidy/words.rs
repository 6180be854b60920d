//! Words that stay out of every text file: places on one machine, and addresses nobody agreed to name.

use crate::tree::{expect_none, files};

/// Hosts that may be named: documentation, standards, papers, model hubs, and the machine itself.
const ALLOWED_HOSTS: [&str; 17] = [
    "127.0.0.1",
    "localhost",
    "example.com",
    "example.org",
    "x.y",
    "arxiv.org",
    // Where BEIR keeps its sets.
    "public.ukp.informatik.tu-darmstadt.de",
    "doi.org",
    "docs.rs",
    "doc.rust-lang.org",
    "rustup.rs",
    "github.com",
    "huggingface.co",
    "pypi.org",
    "www.apache.org",
    "www.w3.org",
    "creativecommons.org",
];

/// Files that are written by a tool and name the public registry, or are legal texts.
const GENERATED: [&str; 1] = ["Cargo.lock"];

/// The host of each address in a line.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("://").filter_map(|(at, _)| {
        let is_web = line[..at].ends_with("http") || line[..at].ends_with("https");
        let rest = &line[at + "://".len()..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '.' || c == '-')).unwrap_or(rest.len());
        (is_web && end > 0).then_some(&rest[..end])
    })
}

#[test]
fn no_place_on_one_machine_is_named() {
    let places =
        [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Use", "rs/")];
    let mut findings = Vec::new();
    for file in files() {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(place) = places.iter().find(|place| line.contains(**place)) {
                findings.push(format!("{}:{}: {place}", file.path, number + 1));
            }
        }
    }
    expect_none("a path that exists on one machine:", &findings);
}

#[test]
fn only_known_hosts_are_named() {
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| !GENERATED.contains(&file.path.as_str())) {
        for (number, line) in file.text.lines().enumerate() {
            for host in hosts(line).filter(|host| !ALLOWED_HOSTS.contains(host)) {
                findings.push(format!("{}:{}: {host}", file.path, number + 1));
            }
        }
    }
    expect_none("a host outside ALLOWED_HOSTS:", &findings);
}

#[test]
fn addresses_are_found_where_they_stand() {
    let scheme = concat!("ht", "tp:");
    let line = format!("see {scheme}//docs.rs/tantivy, or {scheme}//localhost:8080");
    assert_eq!(hosts(&line).collect::<Vec<_>>(), ["docs.rs", "localhost"]);
    assert_eq!(hosts("file:///nowhere").count(), 0);
}
