//! What operators of plugins type: `orion plugin list`, `keygen`, `sign`, `verify`, `lock`, `watch`.

use std::path::PathBuf;

use clap::Args;

/// `orion plugin list`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  orion plugin list --plugins plugins\n  orion plugin list --plugins plugins --trusted-keys keys --locked --json\n  orion plugin list --stats --server http://127.0.0.1:9200"
)]
pub struct PluginListArgs {
    /// Instead: what each plugin did in a running server since it started
    #[arg(long)]
    pub stats: bool,
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9200", requires = "stats")]
    pub server: String,
    /// File with the client's key for the server, where it asks for one
    #[arg(long, value_name = "FILE", requires = "stats")]
    pub server_key: Option<PathBuf>,
}

/// `orion plugin watch`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  orion plugin watch --plugins plugins\n  orion plugin watch --plugins plugins --looks 1 --json"
)]
pub struct PluginWatchArgs {
    /// Milliseconds between two looks at the folder
    #[arg(long, default_value_t = 1_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..))]
    pub pause_ms: u64,
    /// End after this many looks [default: never]
    #[arg(long, value_name = "N")]
    pub looks: Option<u64>,
}

/// `orion plugin keygen`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  orion plugin keygen alice --out keys")]
pub struct PluginKeygenArgs {
    /// Name of both files: NAME.key stays secret, NAME.pub goes to those who trust it
    pub name: String,
    /// Folder of both files
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub out: PathBuf,
}

/// `orion plugin sign`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  orion plugin sign plugins/title-echo.toml --key keys/alice.key")]
pub struct PluginSignArgs {
    /// The manifest; the component that it names is signed with it
    pub manifest: PathBuf,
    /// The secret key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// `orion plugin verify`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  orion plugin verify plugins/title-echo.toml --trusted-keys keys")]
pub struct PluginVerifyArgs {
    /// The manifest; the signature lies beside the component that it names
    pub manifest: PathBuf,
}

/// `orion plugin lock`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  orion plugin lock --plugins plugins\n  orion search zinc --index notes --plugins plugins --locked"
)]
pub struct PluginLockArgs {}
