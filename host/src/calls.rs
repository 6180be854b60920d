//! The host's side of the contract: one file for each imported interface (observe.rs holds the three small ones).
//!
//! Each function counts itself, checks its arguments, spends from the budgets and only then asks a service. Errors that
//! a guest may react to are the contract's `error`; floods and wrong handles are [`crate::fault::Fault`]s, that is,
//! traps.
mod feedback;
mod observe;
mod policy;
mod retrieval;

use crate::bindings::orion::search::{about, types};
use crate::contract::{Error, Setting};
use crate::limits::Limits;
use crate::services::{Metered, ServiceError, Usage};
use crate::state::SearchState;

impl types::Host for SearchState {}
impl about::Host for SearchState {}

/// What a host function returns: outside a trap, inside the contract's result.
pub(crate) type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// Refuses a string that is too long.
fn check_text(what: &str, text: &str, limits: &Limits) -> Result<(), Error> {
    if text.len() as u64 > u64::from(limits.string_bytes) {
        let (limit, got) = (limits.string_bytes, text.len());
        return Err(Error::InvalidInput(format!("{what}: expected at most {limit} bytes, got {got}")));
    }
    Ok(())
}

/// Refuses a list that is too long.
fn check_length(what: &str, length: usize, limit: u32) -> Result<(), Error> {
    if length as u64 > u64::from(limit) {
        return Err(Error::InvalidInput(format!("{what}: expected at most {limit} items, got {length}")));
    }
    Ok(())
}

/// Refuses a number outside `low..=high`.
fn check_range(what: &str, number: u32, low: u32, high: u32) -> Result<(), Error> {
    if number < low || number > high {
        return Err(Error::InvalidInput(format!("{what}: expected {low} to {high}, got {number}")));
    }
    Ok(())
}

/// Refuses options whose list or strings are too long.
fn check_options(options: &[Setting], limits: &Limits) -> Result<(), Error> {
    check_length("options", options.len(), limits.list_items)?;
    options.iter().try_for_each(|option| {
        check_text("option name", &option.name, limits)?;
        check_text("option value", &option.value, limits)
    })
}

/// A service that answers a batch with another number of answers, or with numbers that are none, is at fault.
fn check_answer<T>(
    service: &str,
    answer: Metered<Vec<T>>,
    expected: usize,
    is_sound: impl Fn(&T) -> bool,
) -> Result<Metered<Vec<T>>, ServiceError> {
    let got = answer.value.len();
    let message = if got != expected {
        format!("expected {expected} answers, got {got}")
    } else if !answer.value.iter().all(is_sound) {
        "expected finite numbers in range and lists of the asked length, got others".to_owned()
    } else {
        return Ok(answer);
    };
    Err(ServiceError::Fault { code: format!("{service}-fault"), message })
}

/// A value that no model was asked for.
fn unmetered<T>(value: T) -> Metered<T> {
    Metered { value, usage: Usage::default() }
}
