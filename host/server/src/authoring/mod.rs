//! Making plugins: a folder to begin with, a component built from it, and a look at what the component is.
//!
//! [`scaffold`] writes the folder of `orion plugin new`; [`build`] makes a component with the tools of its language,
//! which [`toolchain`] fetches where they are not an author's own; [`draft`] makes what is tested while it is edited;
//! [`check`] reads a component and explains every
//! reason for which a host would refuse it. The commands are thin: `commands/plugin/{new,build,check}.rs`.

pub mod build;
pub mod check;
pub mod draft;
pub mod scaffold;
pub mod toolchain;
