//! `orion policy check`: a checkpoint against recorded numbers.

use orion_host::policy::{CheckReport, Device, check_cases_on};

use super::{Session, doctor::warn_of_slow_processor};
use crate::{
    Verdict,
    args::PolicyCommand,
    failure::{Explain, Failure},
    terminal::{Ink, Terminal},
};

pub(super) fn run(command: &PolicyCommand, session: &Session) -> Result<Verdict, Failure> {
    let PolicyCommand::Check { model, cases } = command;
    warn_of_slow_processor(&session.terminal);
    // What is checked is the checkpoint; a device only where it is named.
    let device = if session.device == Device::Auto { Device::Cpu } else { session.device };
    let report = check_cases_on(device, model, cases, None)
        .attempt(format!("checking `{}`", model.display()))
        .map_err(|failure| {
            failure.hint(
                "--model takes a folder with config.json and safetensors, --cases a file of recorded numbers",
            )
        })?;
    if session.terminal.json {
        session.terminal.print_json(&report)?;
    } else {
        session.terminal.print(&to_text(&report, &session.terminal))?;
    }
    Ok(if report.passed { Verdict::Answered } else { Verdict::NoAnswer })
}

fn to_text(report: &CheckReport, terminal: &Terminal) -> String {
    let mut text = String::from(
        "case  prompt  greedy  prefill    chunked    log-prob   guesses off  greedy off  verdict\n",
    );
    for (number, case) in report.cases.iter().enumerate() {
        let verdict = verdict(case.passed, terminal);
        text.push_str(&format!(
            "{number:>4}  {:>6}  {:>6}  {:<9.2e}  {:<9.2e}  {:<9.2e}  {:>11}  {:>10}  {verdict}\n",
            case.prompt_tokens,
            case.greedy_tokens,
            case.prefill_deviation,
            case.chunked_deviation,
            case.log_probability_deviation,
            case.argmax_mismatches,
            case.greedy_mismatches,
        ));
    }
    let passed = report.cases.iter().filter(|case| case.passed).count();
    text.push_str(&format!(
        "{} of {} cases within {:.0e}: {}\n",
        passed,
        report.cases.len(),
        report.tolerance,
        verdict(report.passed, terminal)
    ));
    text
}

fn verdict(passed: bool, terminal: &Terminal) -> String {
    if passed { terminal.ink(Ink::Good, "passed") } else { terminal.ink(Ink::Bad, "failed") }
}
