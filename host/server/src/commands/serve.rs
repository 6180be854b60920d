//! `orion serve`: the configuration, then [`crate::http`] until a signal ends it.

use orion_host::policy::Device;

use super::Session;
use crate::{
    Verdict,
    adapters::backends::Backends,
    args::ServeArgs,
    engine::Engine,
    failure::{Explain, Failure},
    http::{
        self,
        config::{Config, EXAMPLE},
    },
};

pub(super) fn run(args: &ServeArgs, session: &Session) -> Result<Verdict, Failure> {
    if args.example {
        session.terminal.print(EXAMPLE)?;
        return Ok(Verdict::Answered);
    }
    if args.openapi {
        session.terminal.print(&format!("{:#}\n", http::openapi::document()))?;
        return Ok(Verdict::Answered);
    }
    let config = match &args.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    if args.check {
        Backends::open(&config)?;
        http::check_tls(&config)?;
        let strategy = &config.adaptive.strategy;
        if orion_bundle::component(strategy).is_none() {
            Engine::new(session, &[])?.strategy(strategy).attempt("checking `adaptive.strategy`")?;
        }
        let keys = config.keys.len();
        if session.terminal.json {
            session.terminal.print_json(&serde_json::json!({ "listen": config.listen, "keys": keys }))?;
        } else {
            session.terminal.print(&format!("sound: listens on {}, {keys} keys\n", config.listen))?;
        }
        return Ok(Verdict::Answered);
    }
    let mut serving = session.clone();
    // The command line goes before the configuration.
    if serving.device == Device::Auto {
        serving.device = config.adaptive.device;
    }
    http::serve(config, args.config.clone(), serving, false)
}
