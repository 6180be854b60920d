//! The server as operators and clients meet it: the real program, loopback, a port of its own.

mod adaptive;
mod backends;
mod clients;
mod errors;
mod limits;
mod mcp;
mod openapi;
mod operations;
#[path = "../../../../engines/tests/real/servers.rs"]
mod peers;
mod plugins;
mod server;
mod snapshots;
mod spans;
mod statistics;
mod vectors;
mod wire;
