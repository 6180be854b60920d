//! The server as operators and clients meet it: the real program, loopback, a port of its own.

mod adaptive;
mod clients;
mod errors;
mod operations;
mod server;
mod statistics;
mod wire;
