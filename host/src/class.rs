//! Two classes of guests: what a compiler made, and what carries an interpreter.
//!
//! A strategy in Rust is a handful of core instances over a megabyte or two; one in Python is forty over fourteen. Were
//! the pool sized for the latter, every place in it would be; so each class has its own number of places, and a flood
//! of large guests cannot take those of small ones. Limits are the same for both: a search by the JavaScript example takes
//! 2.3 million fuel and 9.1 MiB, a ten-thousandth and a seventh of the defaults, as both languages start from a snapshot
//! of a running interpreter. Neighbours: `inspect.rs` reads what a component is made of,
//! `engine.rs` sizes the pool, `load.rs` assigns the class.
use crate::inspect::Inspection;
use crate::limiter::CORE_INSTANCES;

/// Which places of the pool a component's guests take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestClass {
    /// Compiled code alone: Rust, C and the like.
    Small,
    /// An interpreter and its libraries: Python, JavaScript.
    Large,
}

/// Core instances that a place for a small guest has; components of a compiler have three to five.
pub(crate) const SMALL_CORE_INSTANCES: usize = 8;
/// Initial memory of a small guest, in bytes; a Rust strategy starts with 1 to 2 MiB, Python with 14, JavaScript with 10.
const SMALL_MEMORY_BYTES: u64 = 4 << 20;

impl GuestClass {
    /// The class of a component.
    pub fn of(found: &Inspection) -> Self {
        let is_small =
            found.core_instances <= SMALL_CORE_INSTANCES && found.memory_bytes <= SMALL_MEMORY_BYTES;
        if is_small { Self::Small } else { Self::Large }
    }

    /// As data and messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    /// Core instances that one place of this class has.
    pub(crate) fn core_instances(self) -> usize {
        match self {
            Self::Small => SMALL_CORE_INSTANCES,
            Self::Large => CORE_INSTANCES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_told_by_its_instances_or_its_memory() {
        let class = |core_instances, memory_bytes| {
            GuestClass::of(&Inspection { core_instances, memory_bytes, ..Inspection::default() })
        };
        assert_eq!(class(3, 17 << 16), GuestClass::Small);
        assert_eq!(class(40, 210 << 16), GuestClass::Large);
        assert_eq!(class(3, 145 << 16), GuestClass::Large);
        assert_eq!(class(9, 0), GuestClass::Large);
    }
}
