//! `orion serve` as typed.

use std::path::PathBuf;

use clap::Args;

/// `orion serve`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  orion serve\n  orion serve --example\n  orion serve --config orion.toml --check\n  orion serve --config orion.toml\n  orion serve --openapi\n\nTried with the clients opensearch-py 3.2 and @opensearch-project/opensearch 3.5, with no other engine's."
)]
pub struct ServeArgs {
    /// The configuration [default: listen on 127.0.0.1:9200, the usual data folder, no keys]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the configuration and end
    #[arg(long)]
    pub check: bool,
    /// Print a whole configuration with comments and end
    #[arg(long, conflicts_with_all = ["config", "check"])]
    pub example: bool,
    /// Print the description of the interface, in OpenAPI 3.1, and end
    #[arg(long, conflicts_with_all = ["config", "check", "example"])]
    pub openapi: bool,
}
