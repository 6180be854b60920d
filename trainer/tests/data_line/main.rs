//! The line that makes data: pool, synthesis, endpoint, over a set of a dozen documents and a server in the test itself.

mod commands;
mod endpoint;
mod pool;
mod server;
mod synth;
mod world;
