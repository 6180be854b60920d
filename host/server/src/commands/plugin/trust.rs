//! `orion plugin keygen`, `sign`, `verify` and `lock`: who vouches for a plugin, and what it was when it was tried.

use orion_host::{Manifest, PluginDirectory, TrustStore, generate_key, signature_path};

use super::list::no_directory;
use crate::{
    Verdict,
    args::{PluginKeygenArgs, PluginSignArgs, PluginVerifyArgs},
    commands::Session,
    failure::{Explain, Failure},
    tree::counted,
};

pub(super) fn keygen(args: &PluginKeygenArgs, session: &Session) -> Result<Verdict, Failure> {
    std::fs::create_dir_all(&args.out).attempt(format!("creating `{}`", args.out.display()))?;
    let (secret, public) =
        generate_key(&args.out, &args.name).attempt(format!("making key `{}`", args.name))?;
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({ "secret": secret, "public": public }))?;
    } else {
        session.terminal.print(&format!("{}\n{}\n", secret.display(), public.display()))?;
        session.terminal.say("the first file stays secret; the second goes into folders of trusted keys");
    }
    Ok(Verdict::Answered)
}

pub(super) fn sign(args: &PluginSignArgs, session: &Session) -> Result<Verdict, Failure> {
    let manifest = Manifest::read(&args.manifest).attempt("signing a plugin")?;
    let component = manifest.component();
    let bytes = std::fs::read(component).attempt(format!("reading `{}`", component.display()))?;
    let text = orion_host::sign(&args.key, &bytes, &manifest)
        .attempt(format!("signing plugin `{}`", manifest.name()))?;
    let path = signature_path(component);
    std::fs::write(&path, text).attempt(format!("writing `{}`", path.display()))?;
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({ "signature": path }))?;
    } else {
        session.terminal.print(&format!("{}\n", path.display()))?;
    }
    Ok(Verdict::Answered)
}

/// Exit status 1 where the signature is missing, wrong or of an untrusted key: a failed check, not an error.
pub(super) fn verify(args: &PluginVerifyArgs, session: &Session) -> Result<Verdict, Failure> {
    let Some(folder) = &session.trusted_keys else {
        return Err(Failure::new("verifying a plugin: nobody is trusted")
            .hint("--trusted-keys FOLDER or ORION_TRUSTED_KEYS names a folder of `*.pub` files"));
    };
    let trust = TrustStore::open(folder).attempt("reading trusted keys")?;
    let manifest = Manifest::read(&args.manifest).attempt("verifying a plugin")?;
    let verified = trust.verify_files(&manifest);
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({
            "name": manifest.name(),
            "trusted": verified.is_ok(),
            "signer": verified.as_ref().ok().map(|(_, signer)| &signer.name),
            "reason": verified.as_ref().err().map(ToString::to_string),
        }))?;
    } else {
        let said = match &verified {
            Ok((_, signer)) => format!("{}: signed by {} ({})\n", manifest.name(), signer.name, signer.key),
            Err(reason) => format!("{}: {reason}\n", manifest.name()),
        };
        session.terminal.print(&said)?;
    }
    Ok(if verified.is_ok() { Verdict::Answered } else { Verdict::NoAnswer })
}

pub(super) fn lock(session: &Session) -> Result<Verdict, Failure> {
    let options = session.plugins.clone().ok_or_else(no_directory)?;
    let attempted = format!("locking the plugins in `{}`", options.folder.display());
    let path = options.folder.join(orion_host::LOCK_FILE);
    let locked = PluginDirectory::new(options).lock().attempt(attempted)?;
    if session.terminal.json {
        session.terminal.print_json(locked.plugins())?;
    } else {
        session.terminal.print(&format!("{}\n", path.display()))?;
        session.terminal.say(&counted(locked.plugins().len(), "plugin locked", "plugins locked"));
    }
    Ok(Verdict::Answered)
}
