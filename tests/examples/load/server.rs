//! The server under load: started, filled with the bundled corpus, asked over connections that are kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;

/// How long a client waits for an answer: longer than any budget here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program over a folder that goes away.
pub(crate) struct Server {
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts it with further lines of configuration and fills the index `isles`.
    pub(crate) fn start(program: &Path, models: Option<&Path>, configuration: &str) -> Result<Self> {
        let server = Self::over(Arc::new(tempfile::tempdir()?), program, models, configuration)?;
        server.fill()?;
        Ok(server)
    }

    /// Starts it over a folder, with what another one left in it.
    pub(crate) fn over(
        folder: Arc<tempfile::TempDir>,
        program: &Path,
        models: Option<&Path>,
        configuration: &str,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder.path().join("plugins"))?;
        let text = format!("listen = \"127.0.0.1:0\"\n{configuration}\n[log]\nlevel = \"info\"\n");
        std::fs::write(folder.path().join("orion.toml"), text)?;
        let none = folder.path().join("models");
        let mut child = Command::new(program)
            .current_dir(folder.path())
            .args(["--data-dir", "data", "--plugins", "plugins", "--models-dir"])
            .arg(models.unwrap_or(&none))
            .args(["serve", "--config", "orion.toml"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("no standard error")?).lines();
        let mut address = None;
        for line in lines.by_ref() {
            let line: Value = serde_json::from_str(&line?).unwrap_or_default();
            if let Some(text) = line["address"].as_str() {
                address = Some(text.parse()?);
            }
            if line["message"] == "ready" {
                break;
            }
        }
        // A log that nobody reads would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { folder, address: address.ok_or("the server did not start")?, child })
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&self) -> Result<()> {
        let sent = Command::new("kill").args(["-KILL", &self.child.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err("the server could not be killed".into()) }
    }

    fn fill(&self) -> Result<()> {
        let mut bulk = String::new();
        for line in corpus("corpus.jsonl")? {
            let id = line["_id"].as_str().ok_or("a document without an id")?;
            bulk.push_str(&format!("{}\n", json!({ "index": { "_id": id } })));
            let metadata = &line["metadata"];
            let source = json!({ "title": line["title"], "text": line["text"], "kind": metadata["kind"], "year": metadata["year"] });
            bulk.push_str(&format!("{source}\n"));
        }
        let (status, answer) = self.client()?.ask("POST", "/isles/_bulk?refresh=true", &bulk)?;
        if status != 200 {
            return Err(format!("filling the index: {status} {answer}").into());
        }
        Ok(())
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(self.address)
    }

    /// One number of the process's own account, in kibibytes or as it is.
    pub(crate) fn status(&self, name: &str) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.and_then(|rest| rest.split_whitespace().next()).ok_or("no such line")?.parse()?)
    }

    /// Files that it holds open.
    pub(crate) fn open_files(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Bytes of its folder.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        fn of(folder: &Path) -> Result<u64> {
            let mut bytes = 0;
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                // What vanishes meanwhile takes no room.
                let Ok(found) = path.symlink_metadata() else { continue };
                bytes += if found.is_dir() { of(&path).unwrap_or(0) } else { found.len() };
            }
            Ok(bytes)
        }
        of(self.folder.path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its folder goes as well, so there is nothing to finish.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of a file of the bundled corpus.
pub(crate) fn corpus(name: &str) -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The texts of the corpus's queries.
pub(crate) fn queries() -> Result<Vec<String>> {
    let lines = corpus("queries.jsonl")?;
    Ok(lines.iter().filter_map(|line| line["text"].as_str().map(str::to_owned)).collect())
}

/// One kept connection.
pub(crate) struct Client {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }

    /// Sends a request and reads nothing.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &str) -> Result<()> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        Ok(())
    }

    /// One request to its answer: status and body. A connection that the server closed is made anew for the next one.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let answered = self.send(method, path, body).and_then(|()| self.read());
        if answered.is_err() {
            *self = Self::connect(self.address)?;
        }
        answered.map_err(|error| format!("{method} {path}: no answer: {error}").into())
    }

    fn read(&mut self) -> Result<(u16, String)> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).ok_or("a broken answer")?.parse()?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse()?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, String::from_utf8(body)?))
    }
}
