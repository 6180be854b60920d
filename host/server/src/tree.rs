//! Draws a search as people read it: the tree of branches, and the ranking it led to.
//!
//! Every mark has its word beside it, so that nothing is lost without colour. Neighbours: the host's
//! [`SearchTrace`] comes in, [`crate::terminal`] decides about colour and width.

use std::collections::BTreeMap;

use orion_host::{Branch, Hit, SearchTrace};

use crate::terminal::{Ink, Terminal, columns, fitted, grouped, wrapped};

/// Title and text of a document, for display.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// May be empty.
    pub title: String,
    /// The beginning of the text.
    pub text: String,
}

impl Shown {
    fn heading(&self) -> &str {
        if self.title.trim().is_empty() { &self.text } else { &self.title }
    }
}

/// Documents by id, as far as they are known.
pub type Documents = BTreeMap<String, Shown>;

/// Hits of a branch that are drawn.
const HITS_SHOWN: usize = 3;
/// Narrowest column for prose: deep trees run over the right edge rather than into a column of letters.
const NARROWEST: usize = 32;
/// Most branches drawn; beyond that a tree on a terminal is no picture any more, and `--trace FILE` has it all.
const BRANCHES_SHOWN: usize = 400;

/// The ids whose titles [`draw_tree`] shows.
pub fn shown_ids(trace: &SearchTrace) -> Vec<String> {
    trace
        .branches
        .iter()
        .flat_map(|branch| branch.hits.iter().take(HITS_SHOWN))
        .map(|hit| hit.id.clone())
        .collect()
}

/// The tree, one block a branch, roots first; a line that says so where there is no branch.
pub fn draw_tree(trace: &SearchTrace, documents: &Documents, terminal: &Terminal) -> String {
    let mut text = format!(
        "{} {}\n",
        terminal.ink(Ink::Strong, &fitted(&trace.query, terminal.width())),
        terminal.ink(
            Ink::Faint,
            &format!("· {} · {}", trace.strategy, counted(trace.branches.len(), "branch", "branches"))
        )
    );
    let mut children: BTreeMap<Option<u32>, Vec<&Branch>> = BTreeMap::new();
    for branch in &trace.branches {
        children.entry(branch.parent).or_default().push(branch);
    }
    // An explicit stack: a strategy decides how deep its tree is.
    let mut open: Vec<(&Branch, String, bool)> = Vec::new();
    push_children(&mut open, &children, None, "");
    let mut drawn = 0;
    while let Some((branch, prefix, is_last)) = open.pop() {
        if drawn == BRANCHES_SHOWN {
            text.push_str(&format!("{prefix}… {} more\n", trace.branches.len() - drawn));
            break;
        }
        drawn += 1;
        let below = format!("{prefix}{}", if is_last { "   " } else { "│  " });
        let has_children = children.contains_key(&Some(branch.branch));
        let knot = if is_last { "└─ " } else { "├─ " };
        text.push_str(&format!(
            "{}{}\n",
            terminal.ink(Ink::Faint, &format!("{prefix}{knot}")),
            heading(branch, terminal)
        ));
        let margin = format!("{below}{}", if has_children { "│ " } else { "  " });
        for line in details(branch, documents, terminal, columns(&margin)) {
            text.push_str(&format!("{}{line}\n", terminal.ink(Ink::Faint, &margin)));
        }
        push_children(&mut open, &children, Some(branch.branch), &below);
    }
    if trace.branches.is_empty() {
        text.push_str(&terminal.ink(Ink::Faint, "   (this strategy keeps no tree)\n"));
    }
    text
}

/// Pushes the children of `parent` so that the first comes off the stack first.
fn push_children<'t>(
    open: &mut Vec<(&'t Branch, String, bool)>,
    children: &BTreeMap<Option<u32>, Vec<&'t Branch>>,
    parent: Option<u32>,
    prefix: &str,
) {
    let Some(siblings) = children.get(&parent) else { return };
    for (position, branch) in siblings.iter().enumerate().rev() {
        open.push((branch, prefix.to_owned(), position + 1 == siblings.len()));
    }
}

/// `● turn 2 · hybrid · confidence 3.120 · in the answer`
fn heading(branch: &Branch, terminal: &Terminal) -> String {
    let (sign, fate, ink) = match (branch.chosen, branch.pruned) {
        (true, _) => ("●", "in the answer", Ink::Good),
        (false, true) => ("✗", "pruned", Ink::Bad),
        (false, false) => ("○", "kept", Ink::Strong),
    };
    let mut parts = vec![format!("turn {}", branch.turn), retriever_name(branch).to_owned()];
    if let Some(confidence) = branch.confidence {
        parts.push(format!("confidence {confidence:.3}"));
    }
    // The first further number of a judgement says most; the trace has them all.
    if let Some(setting) = branch.judged.first() {
        let value = match setting.value.parse::<f64>() {
            Ok(number) => format!("{number:.2}"),
            Err(_) => fitted(&setting.value, 24),
        };
        parts.push(format!("{} {value}", fitted(&setting.name, 24)));
    }
    format!(
        "{} {} · {}",
        terminal.ink(ink, sign),
        terminal.ink(Ink::Faint, &parts.join(" · ")),
        terminal.ink(ink, fate)
    )
}

fn retriever_name(branch: &Branch) -> &'static str {
    use orion_host::contract::Retriever;
    match branch.retriever {
        Retriever::Lexical => "lexical",
        Retriever::Dense => "dense",
        Retriever::Hybrid => "hybrid",
    }
}

fn details(branch: &Branch, documents: &Documents, terminal: &Terminal, margin: usize) -> Vec<String> {
    const LABEL: usize = 7;
    let room = terminal.width().saturating_sub(margin + LABEL).max(NARROWEST);
    let mut lines = Vec::new();
    let mut push = |label: &str, prose: Vec<String>, ink: Option<Ink>| {
        for (position, line) in prose.iter().enumerate() {
            let shown_label = if position == 0 { label } else { "" };
            let painted = ink.map_or_else(|| line.clone(), |ink| terminal.ink(ink, line));
            lines.push(format!("{}{painted}", terminal.ink(Ink::Faint, &format!("{shown_label:<LABEL$}"))));
        }
    };
    if !branch.think.trim().is_empty() {
        push("thinks", wrapped(&branch.think, room), None);
    }
    push("asks", wrapped(&branch.query, room), Some(Ink::Quoted));
    let found: Vec<String> = branch
        .hits
        .iter()
        .take(HITS_SHOWN)
        .enumerate()
        .map(|(position, hit)| {
            let title = documents.get(&hit.id).map_or("", Shown::heading);
            fitted(&format!("{}. {} {}", position + 1, hit.id, title), room)
        })
        .collect();
    if found.is_empty() {
        push("finds", vec!["nothing".to_owned()], None);
    } else {
        push("finds", found, None);
    }
    lines
}

/// The ranking: rank, score, id, title, and a line of text below.
pub fn draw_ranking(ranking: &[Hit], documents: &Documents, terminal: &Terminal) -> String {
    if ranking.is_empty() {
        return "no document answers this query\n".to_owned();
    }
    let unknown = Shown::default();
    let mut text = String::new();
    for (position, hit) in ranking.iter().enumerate() {
        let document = documents.get(&hit.id).unwrap_or(&unknown);
        let place = format!("{:>3}  {:>8.4}  ", position + 1, hit.score);
        let room = terminal.width().saturating_sub(columns(&place)).max(NARROWEST);
        let id = fitted(&hit.id, room / 2);
        let title = fitted(document.heading(), room.saturating_sub(columns(&id) + 2).max(8));
        text.push_str(&format!(
            "{place}{}  {}\n",
            terminal.ink(Ink::Faint, &id),
            terminal.ink(Ink::Strong, &title)
        ));
        if !document.title.trim().is_empty() && !document.text.trim().is_empty() {
            let indent = " ".repeat(columns(&place));
            text.push_str(&format!("{indent}{}\n", terminal.ink(Ink::Faint, &fitted(&document.text, room))));
        }
    }
    text
}

/// `1 branch`, `13 branches`.
pub(crate) fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number as u64), if number == 1 { one } else { many })
}
