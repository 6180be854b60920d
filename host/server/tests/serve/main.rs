//! The server as operators and clients meet it: the real program, loopback, a port of its own.

mod adaptive;
mod backends;
mod clients;
mod errors;
#[path = "../../../../tests/examples/load/kills.rs"]
mod kills;
mod limits;
mod mcp;
mod objects;
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
