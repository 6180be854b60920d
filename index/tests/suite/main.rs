//! The tests of this crate that need more than one of its files, as one program.

mod basics;
mod common;
mod damage;
mod dense;
mod own_vectors;
mod published;
mod services;
mod several;
mod snapshot;
mod structured;
mod twins;
