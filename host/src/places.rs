//! File and line of a failed guest's frames, from the line tables (DWARF) in its component, for its author alone.
//!
//! Tables are read only where [`crate::HostOptions::source_root`] asks for it and a guest has failed. They are a
//! stranger's bytes like the rest of the component; what cannot be read gives no place. In WebAssembly an address of a
//! line table counts from the beginning of its module's code section. Neighbour: `failure.rs` shows what is found.
use std::path::{Path, PathBuf};

use addr2line::Context;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use wasmparser::{Parser, Payload};

use crate::failure::function_name;

/// The section without which nothing can be located.
const LINES: &str = ".debug_line";

/// A component that carries line tables, and where its sources are.
pub(crate) struct SourcePlaces {
    component: Vec<u8>,
    root: PathBuf,
}

/// Names and contents of a module's debug sections.
type Sections<'c> = Vec<(&'c str, &'c [u8])>;

/// One core module: where its code is in the component, and its line tables.
struct Module<'c> {
    code: std::ops::Range<u64>,
    lines: Context<EndianSlice<'c, LittleEndian>>,
}

impl SourcePlaces {
    /// Keeps `component`, if any of its modules has line tables.
    pub(crate) fn of(component: &[u8], root: &Path) -> Option<Self> {
        let has_lines = Parser::new(0)
            .parse_all(component)
            .any(|payload| matches!(payload, Ok(Payload::CustomSection(section)) if section.name() == LINES));
        has_lines.then(|| Self { component: component.to_vec(), root: root.to_owned() })
    }

    /// For each offset in the component the functions that stand there, innermost first: the last is the frame's own,
    /// those before are inlined in it. None where nothing is known.
    pub(crate) fn locate(&self, offsets: &[Option<usize>]) -> Vec<Vec<String>> {
        let modules = self.modules();
        let functions = |offset: &Option<usize>| {
            let offset = (*offset)? as u64;
            let module = modules.iter().find(|module| module.code.contains(&offset))?;
            self.functions(module, offset)
        };
        offsets.iter().map(|offset| functions(offset).unwrap_or_default()).collect()
    }

    fn functions(&self, module: &Module<'_>, offset: u64) -> Option<Vec<String>> {
        let address = offset - module.code.start;
        let mut frames = module.lines.find_frames(address).skip_all_loads().ok()?;
        let mut found = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let Some(Ok(name)) = frame.function.as_ref().map(|function| function.raw_name()) else {
                continue;
            };
            let name = function_name(&name);
            let place = frame.location.and_then(|location| {
                let file = Path::new(location.file?).strip_prefix(&self.root).ok()?.display().to_string();
                let column = location.column.filter(|column| *column > 0);
                let column = column.map_or_else(String::new, |column| format!(":{column}"));
                Some(format!("{file}:{}{column}", location.line?))
            });
            found.push(place.map_or_else(|| name.clone(), |place| format!("{name} at {place}")));
        }
        Some(found)
    }

    /// The core modules that have line tables.
    fn modules(&self) -> Vec<Module<'_>> {
        let mut modules = Vec::new();
        let mut code = 0..0;
        let mut sections: Sections<'_> = Vec::new();
        for payload in Parser::new(0).parse_all(&self.component) {
            match payload {
                Ok(Payload::CodeSectionStart { unchecked_range, .. }) => code = unchecked_range,
                Ok(Payload::CustomSection(section)) if section.name().starts_with(".debug_") => {
                    sections.push((section.name(), section.data()));
                }
                // Of a module or of a component; the latter has neither code nor tables.
                Ok(Payload::End(_)) => {
                    let module = context(&sections).map(|lines| Module { code: code.clone(), lines });
                    modules.extend(module);
                    (code, sections) = (0..0, Vec::new());
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        modules
    }
}

fn context<'c>(sections: &Sections<'c>) -> Option<Context<EndianSlice<'c, LittleEndian>>> {
    if !sections.iter().any(|(name, _)| *name == LINES) {
        return None;
    }
    let load = |id: SectionId| -> Result<EndianSlice<'c, LittleEndian>, addr2line::gimli::Error> {
        let found = sections.iter().find(|(name, _)| *name == id.name());
        Ok(EndianSlice::new(found.map_or(&[], |(_, bytes)| *bytes), LittleEndian))
    };
    Context::from_dwarf(Dwarf::load(load).ok()?).ok()
}
