//! `orion plugin test` and `orion plugin run` for rewards: turns from a scenario file in, one reward a turn out.

use std::path::Path;

use orion_host::scripted::{RewardChecked, RewardScenario};

use super::{
    folder, load_reward,
    test::{chosen, is_buildable, own_component, push_difference, push_summary, push_verdict},
    update,
};
use crate::{
    Verdict,
    args::PluginTestArgs,
    commands::Session,
    engine::Engine,
    failure::{Explain, Failure},
    terminal::{Ink, grouped},
};

/// One scenario and how it went.
struct Tested {
    scenario: RewardScenario,
    checked: RewardChecked,
    is_written: bool,
}

impl Tested {
    fn holds(&self) -> bool {
        self.checked.differences.is_empty() && (self.is_written || self.checked.marked.is_empty())
    }
}

/// Scores the scenarios of a reward's folder.
pub(super) fn test(args: &PluginTestArgs, session: &Session) -> Result<Verdict, Failure> {
    if args.traces.is_some() {
        return Err(Failure::new("recording the scenarios of a reward: there is no search to record")
            .hint("leave --traces out; a reward's scenario holds all that it saw"));
    }
    let scenarios = folder::scenarios(&args.folder, RewardScenario::read)?;
    let scenarios = chosen(scenarios, &args.only, |scenario| &scenario.name)?;
    let engine = Engine::for_author(session, &[], &args.folder)?;
    let subject = match &args.component {
        Some(file) => file.clone(),
        None if args.built || !is_buildable(&args.folder)? => own_component(&args.folder, session)?,
        None => args.folder.clone(),
    };
    let reward = load_reward(&engine, &subject, session)?;
    let mut tested = Vec::with_capacity(scenarios.len());
    for (path, scenario) in scenarios {
        let checked =
            scenario.run(engine.host(), &reward).attempt(format!("running `{}`", path.display()))?;
        let is_written = match &checked.scores {
            Ok(scores) if args.update => {
                update::write_rewards(&path, &scenario.scripts.expect, &scores.rewards)?
            }
            _ => false,
        };
        tested.push(Tested { scenario, checked, is_written });
    }
    let terminal = &session.terminal;
    if terminal.json {
        let list: Vec<serde_json::Value> = tested.iter().map(to_json).collect();
        terminal.print_json(&list)?;
    } else {
        let mut text = String::new();
        for one in &tested {
            let (name, about) = (&one.scenario.name, &one.scenario.scripts.about);
            push_verdict(&mut text, name, about, one.holds(), one.is_written, terminal);
            for difference in &one.checked.differences {
                push_difference(&mut text, difference, terminal);
            }
            for field in one.checked.marked.iter().filter(|_| !one.is_written) {
                text.push_str(&format!("     {field} is not written yet: --update writes it\n"));
            }
        }
        let failed = tested.iter().filter(|one| !one.holds()).count();
        push_summary(&mut text, tested.len(), failed, terminal);
        terminal.print(&text)?;
    }
    Ok(if tested.iter().all(Tested::holds) { Verdict::Answered } else { Verdict::NoAnswer })
}

/// Scores the turns of one scenario and shows them, whatever is expected.
pub(super) fn run(
    engine: &Engine<'_>,
    subject: &Path,
    scenario: &Path,
    session: &Session,
) -> Result<Verdict, Failure> {
    let attempted = format!("scoring `{}`", scenario.display());
    let scenario = RewardScenario::read(scenario).attempt(attempted.clone())?;
    let reward = load_reward(engine, subject, session)?;
    let checked = scenario.run(engine.host(), &reward).attempt(attempted.clone())?;
    let scores = checked.scores.attempt(attempted)?;
    let terminal = &session.terminal;
    if terminal.json {
        terminal.print_json(&serde_json::json!({
            "reward": reward.description().name,
            "component_sha256": reward.component_sha256(),
            "rewards": scores.rewards,
            "fuel": scores.fuel,
            "peak_memory_bytes": scores.peak_memory_bytes,
        }))?;
        return Ok(Verdict::Answered);
    }
    let head = format!("{:>4}{:>9}{:>10}{:>10}{:>12}", "turn", "cosine", "rank", "of", "reward");
    let mut text = format!("{}\n", terminal.ink(Ink::Strong, &head));
    for (place, (turn, reward)) in scenario.scripts.turn.iter().zip(&scores.rewards).enumerate() {
        let (rank, of) = (grouped(turn.rank), grouped(turn.corpus_size));
        text.push_str(&format!("{:>4}{:>9.4}{rank:>10}{of:>10}{reward:>12.6}\n", place + 1, turn.cosine));
    }
    terminal.print(&text)?;
    terminal.say(&format!(
        "{} · fuel {} · memory {} KiB",
        reward.description().name,
        grouped(scores.fuel),
        grouped(scores.peak_memory_bytes / 1024)
    ));
    Ok(Verdict::Answered)
}

fn to_json(tested: &Tested) -> serde_json::Value {
    let checked = &tested.checked;
    let scores = checked.scores.as_ref();
    serde_json::json!({
        "scenario": tested.scenario.name,
        "about": tested.scenario.scripts.about,
        "holds": tested.holds(),
        "differences": checked.differences,
        "not_written": if tested.is_written { &[][..] } else { &checked.marked[..] },
        "written": tested.is_written,
        "rewards": scores.ok().map(|scores| &scores.rewards),
        "failed": scores.err().map(ToString::to_string),
        "fuel": scores.ok().map(|scores| scores.fuel),
    })
}
