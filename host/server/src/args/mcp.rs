//! `orion mcp` as typed.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

/// `orion mcp`
#[derive(Debug, Args)]
#[command(
    long_about = "Offer search, adaptive search and documents to agents, as tools of the Model Context Protocol.\n\n\
                  Without --listen the tools are served on standard input and output, for a client that starts this \
                  program; with it as streamable HTTP at /mcp. `orion serve` has the same tools at /mcp beside \
                  everything else; this command also follows what other processes write to the data folder.",
    after_help = "Examples:\n  orion mcp\n  orion mcp --listen 127.0.0.1:9300\n  orion mcp --config orion.toml\n\n\
                  A client that starts it is configured like this, with whole paths:\n\
                  {\"mcpServers\": {\"orion\": {\"command\": \"orion\", \"args\": [\"--data-dir\", \"FOLDER\", \"mcp\"]}}}\n\n\
                  One that asks a server:\n\
                  {\"mcpServers\": {\"orion\": {\"url\": \"http://127.0.0.1:9200/mcp\", \"headers\": {\"Authorization\": \"ApiKey BASE64\"}}}}"
)]
pub struct McpArgs {
    /// Serve over HTTP on this address instead, at /mcp
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// The configuration, as `orion serve` takes it: budgets, policies, bounds; with --listen also keys and TLS
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
