//! What the author of a failed guest gets to see: its message with line breaks, and the functions it stood in.
use std::sync::Arc;

use crate::common::{FakeRetrieve, component_from_text, hostile_component, options, text_guest};
use orion_host::{CancelToken, GuestFailure, Host, Limits, Outcome, Request, Services};

fn search(component: &[u8], behaviour: Option<&str>) -> Outcome {
    let host = Host::new(options()).expect("a host");
    let strategy = host.load_bytes("failing", component).expect("a strategy");
    let services = Services::retrieval_only(Arc::new(FakeRetrieve::default()));
    let options = behaviour.map(|name| ("behaviour".to_owned(), name.to_owned()));
    let request = Request { options: options.into_iter().collect(), ..Request::new("a query", 5) };
    host.search_blocking(&strategy, request, &services, &Limits::unhurried(), CancelToken::new())
}

#[test]
fn a_panic_arrives_with_message_and_place() {
    let outcome = search(hostile_component(), Some("panic"));
    let failure = outcome.failure.expect("a failure");
    let shown = failure.to_string();
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some("panic: this guest panics"), "{shown}");
    let place = lines.next().unwrap_or_default();
    assert!(place.starts_with("  at tests/guests/hostile/src/guest.rs:"), "{shown}");
}

#[test]
fn a_trap_names_the_functions_it_happened_in() {
    let extra = "(func $choose_the_title unreachable) (func $read_titles (call $choose_the_title))";
    let component =
        component_from_text(&text_guest(extra, "i32.const 64", "(call $read_titles) (i32.const 0)"));
    let failure = search(&component, None).failure.expect("a failure");
    assert_eq!(failure.message, None);
    assert_eq!(failure.frames[..2], ["choose_the_title", "read_titles"], "{:?}", failure.frames);
    assert!(failure.to_string().starts_with("  in choose_the_title\n  in read_titles"), "{failure}");
}

#[test]
fn rust_names_are_demangled() {
    let mangled = "_ZN4echo6search17h0123456789abcdefE";
    let extra = format!("(func ${mangled} unreachable)");
    let body = format!("(call ${mangled}) (i32.const 0)");
    let failure = search(&component_from_text(&text_guest(&extra, "i32.const 64", &body)), None).failure;
    assert_eq!(failure.map(|failure| failure.frames[0].clone()), Some("echo::search".to_owned()));
}

#[test]
fn searches_that_do_not_fail_have_nothing_to_say() {
    assert_eq!(search(hostile_component(), Some("polite")).failure, None::<GuestFailure>);
}
