//! Services that other programs provide: models behind an address.

pub mod endpoint;
