//! Starts the real program and talks HTTP/1.1 to it, one connection a request.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use serde_json::Value;

/// Long enough for a first compilation of a strategy in an unoptimised build.
const PATIENCE: Duration = Duration::from_secs(300);

/// A data folder that vanishes with the test, and the server over it.
pub(crate) struct Server {
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) address: SocketAddr,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Server {
    /// A server with an empty data folder and the default configuration.
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With further lines of configuration.
    pub(crate) fn with(configuration: &str) -> Self {
        Self::over(Arc::new(tempfile::tempdir().expect("a temporary folder")), configuration, None)
    }

    /// Over a data folder that is there; `models` holds MiniLM, or nothing does.
    pub(crate) fn over(folder: Arc<tempfile::TempDir>, configuration: &str, models: Option<&Path>) -> Self {
        let file = folder.path().join("orion.toml");
        std::fs::write(&file, format!("listen = \"127.0.0.1:0\"\n{configuration}")).expect("a configuration");
        Self::started(folder, models, &["serve", "--config", "orion.toml"])
    }

    /// By other arguments.
    pub(crate) fn started(folder: Arc<tempfile::TempDir>, models: Option<&Path>, arguments: &[&str]) -> Self {
        let mut child = program(folder.path(), models)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, receiver) = mpsc::channel();
        let (stderr, kept) = (child.stderr.take().expect("its standard error"), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
                // After the server is ready nobody listens.
                let _ = match (parsed["message"].as_str(), parsed["address"].as_str()) {
                    (_, Some(address)) => sender.send(Some(address.to_owned())),
                    (Some("ready"), _) => sender.send(None),
                    _ => Ok(()),
                };
                kept.lock().expect("the log").push(line);
            }
        });
        let mut address = None;
        loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(Some(text)) => address = text.parse().ok(),
                Ok(None) => break,
                Err(error) => panic!("{error}: {:?}", log.lock().expect("the log")),
            }
        }
        Self { folder, address: address.expect("an address"), child, log }
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("the log").clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a power cut would, and gives its folder back.
    pub(crate) fn kill(mut self) -> Arc<tempfile::TempDir> {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
        Arc::clone(&self.folder)
    }

    /// Asks it to end and waits; the exit code.
    pub(crate) fn end(mut self) -> (Arc<tempfile::TempDir>, Option<i32>) {
        self.signal("TERM");
        let status = self.child.wait().expect("ended");
        (Arc::clone(&self.folder), status.code())
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", &[])
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, body, &[])
    }

    pub(crate) fn put(&self, path: &str, body: &str) -> Answer {
        self.request("PUT", path, body, &[])
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, "", &[])
    }

    /// One request with further headers.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_request(method, path, body, headers).expect("an answer")
    }

    /// [`Server::request`] where the server may be gone.
    pub(crate) fn try_request(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> std::io::Result<Answer> {
        try_request(self.address, method, path, body, headers)
    }

    /// A connection with a request under way.
    pub(crate) fn open(&self, method: &str, path: &str, body: &str) -> TcpStream {
        open(self.address, method, path, body, &[]).expect("a connection")
    }
}

/// One request to any server.
pub(crate) fn try_request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> std::io::Result<Answer> {
    let mut stream = open(address, method, path, body, headers)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| std::io::Error::other(format!("a broken answer of {} bytes", bytes.len())))
}

fn open(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    Ok(stream)
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (headers, body) = text.split_once("\r\n\r\n")?;
    let status = headers.split(' ').nth(1)?.parse().ok()?;
    let chunked = headers.to_lowercase().contains("transfer-encoding: chunked");
    let text = if chunked { unchunked(body)? } else { body.to_owned() };
    Some(Answer { status, headers: headers.to_owned(), text })
}

fn unchunked(mut body: &str) -> Option<String> {
    let mut text = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n")?;
        let length = usize::from_str_radix(length.trim(), 16).ok()?;
        if length == 0 {
            return Some(text);
        }
        text.push_str(rest.get(..length)?);
        body = rest.get(length + 2..)?;
    }
}

/// The program in a folder, with nothing of the caller's environment.
pub(crate) fn program(folder: &Path, models: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orion"));
    let none = folder.join("models");
    command
        .current_dir(folder)
        .env_clear()
        .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
        .env("ORION_DATA_DIR", folder.join("data"))
        .env("ORION_MODELS_DIR", models.unwrap_or(&none));
    command
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already, or ended now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Models beside the repository's sources, where they were fetched; otherwise the test says so, and fails under CI.
pub(crate) fn models() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    if folder.join("all-MiniLM-L6-v2/model.safetensors").is_file() {
        return Some(folder);
    }
    missing("models/all-MiniLM-L6-v2");
    None
}

/// Says what is missing; under CI that is a failure.
pub(crate) fn missing(what: &str) {
    #[expect(clippy::disallowed_methods, reason = "CI is a property of the run, not of a result")]
    let in_ci = std::env::var_os("CI").is_some();
    assert!(!in_ci, "expected `{what}` in CI, found none");
    eprintln!("skipped: `{what}` is missing");
}
