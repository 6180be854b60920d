//! Services that other programs provide: models behind an address, indexes in other engines.

pub mod backends;
pub mod endpoint;
