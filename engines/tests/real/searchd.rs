//! Sphinx's server, from Debian's packages.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::servers::{Server, done, fetched, free_port};

/// The Debian packages of Sphinx and of the libraries that not every machine has.
const SPHINX: [&str; 6] = ["sphinxsearch", "libmariadb3", "libodbc2", "libre2-9", "libltdl7", "libstemmer0d"];

/// The folder of Sphinx's packages, unpacked; `None` where they cannot be fetched.
fn sphinx_package() -> Option<PathBuf> {
    fetched("sphinxsearch", |folder| {
        let download = |packages: &[&str]| {
            done(Command::new("apt-get").args(["download", "--quiet"]).args(packages).current_dir(folder))
        };
        if download(&SPHINX).is_err() {
            // A machine whose lists were never fetched knows no packages.
            done(Command::new("apt-get").args(["update", "--quiet"]))?;
            download(&SPHINX)?;
        }
        for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())? {
            let path = entry.map_err(|error| error.to_string())?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                done(Command::new("dpkg-deb").arg("-x").arg(&path).arg(folder))?;
            }
        }
        Ok(())
    })
}

/// Sphinx with a configuration, in which `PORT` stands for the port of SphinxQL and `FOLDER` for one of its own.
pub(crate) fn sphinx(configuration: &str) -> Option<Server> {
    let package = sphinx_package()?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_port();
    let own = folder.path().display().to_string();
    let text = configuration.replace("PORT", &port.to_string()).replace("FOLDER", &own);
    let file = folder.path().join("sphinx.conf");
    std::fs::write(&file, text).expect("a configuration");
    let libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"]
        .map(|place| package.join(place).display().to_string())
        .join(":");
    let log = folder.path().join("out");
    let out = std::fs::File::create(&log).expect("a log");
    let mut server = Command::new(package.join("usr/bin/searchd"));
    server.args(["--nodetach", "--config"]).arg(&file).env("LD_LIBRARY_PATH", libraries);
    server.stdout(out).stderr(Stdio::null());
    Some(Server::start(server, port, &log, folder))
}
