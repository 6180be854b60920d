//! `orion mcp`: the tools of [`crate::mcp`], on standard input and output or over HTTP.

use super::Session;
use crate::{
    Verdict,
    args::McpArgs,
    failure::Failure,
    http::{self, config::Config},
};

pub(super) fn run(args: &McpArgs, session: &Session) -> Result<Verdict, Failure> {
    let mut config = match &args.config {
        Some(file) => Config::read(file)?,
        // Beside a client, whose own log this goes to, only what is wrong is of interest.
        None => Config { log_level: "warn".to_owned(), ..Config::default() },
    };
    let Some(listen) = args.listen else { return http::serve_tools(config, session.clone()) };
    if args.config.is_none() {
        config.log_level = Config::default().log_level;
    }
    config.listen = listen;
    config.check_reach().map_err(|reason| Failure::new(format!("`--listen`: {reason}")))?;
    http::serve(config, None, session.clone(), true)
}
