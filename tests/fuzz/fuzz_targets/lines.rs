//! The line tables of a component, which an author's host reads after a failure: whatever they hold, they are read to an
//! end, without a panic and without end. Compiled from the host's own file.
#![no_main]

/// What `places.rs` takes from the rest of the host.
mod failure {
    pub(crate) fn function_name(mangled: &str) -> String {
        mangled.to_owned()
    }
}
#[path = "../../../host/src/places.rs"]
mod places;

use std::path::Path;

use libfuzzer_sys::fuzz_target;

/// Sections that a table of lines is spread over, in the order in which the input is cut into them.
const SECTIONS: [&str; 6] =
    [".debug_line", ".debug_abbrev", ".debug_info", ".debug_str", ".debug_ranges", ".debug_line_str"];

fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

/// A module with 64 bytes of code and these sections.
fn module(sections: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.push(10);
    push_length(&mut bytes, 64);
    bytes.extend([0; 64]);
    for (name, content) in SECTIONS.iter().zip(sections) {
        bytes.push(0);
        push_length(&mut bytes, 1 + name.len() + content.len());
        push_length(&mut bytes, name.len());
        bytes.extend(name.as_bytes());
        bytes.extend(*content);
    }
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    // Whole components as they come, and sections of a module whose frame is right.
    let (lengths, mut rest) = bytes.split_at(bytes.len().min(SECTIONS.len()));
    let mut sections = Vec::new();
    for length in lengths {
        let (section, after) = rest.split_at(rest.len().min(usize::from(*length) * 4));
        sections.push(section);
        rest = after;
    }
    for component in [bytes.to_vec(), module(&sections)] {
        if let Some(places) = places::SourcePlaces::of(&component, Path::new("/")) {
            let offsets: Vec<Option<usize>> = (0..96).map(Some).collect();
            assert_eq!(places.locate(&offsets).len(), offsets.len());
        }
    }
});
