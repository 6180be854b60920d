//! The peer: PostgreSQL with pgvector over the same documents, asked without us by its own load generator, pgbench.
//!
//! Its hybrid search gets the vector of a document in place of the question's, so it encodes nothing; ours reads the
//! question with MiniLM. Both fuse ranks. Phases of ours and of the peer alternate.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::latency::{PATH, percentiles, phase};
use crate::server::{Server, corpus, queries};

const CLIENTS: [usize; 3] = [1, 4, 16];
/// PostgreSQL does not start as root; this user may be anybody.
const NOBODY: u32 = 65_534;
const START: Duration = Duration::from_secs(60);
/// Any of a question's words, best first, over words that are stored ready, as its manual advises; a push stores them.
const LEXICAL: &str = "SELECT notes.id, ts_rank(notes.orion_words, asked.words, 1) AS score FROM notes, asked \
    WHERE asked.number = :number AND notes.orion_words @@ asked.words ORDER BY score DESC LIMIT";
const DENSE: &str = "SELECT notes.id, notes.vector <=> asked.vector AS distance FROM notes, asked \
    WHERE asked.number = :number ORDER BY notes.vector <=> asked.vector LIMIT";

/// The index that `orion serve` searches in it, and its table.
pub(crate) const INDEX: &str = "notes";

/// A PostgreSQL over a folder that goes away.
pub(crate) struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// `programs` is its `bin` folder, which this user can read, and where this user is root anybody.
    pub(crate) fn start(programs: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let mut server = Self { folder, programs: programs.to_path_buf(), port, child: None };
        if server.is_root()? {
            chown(&data, Some(NOBODY), Some(NOBODY))?;
        }
        server.done(
            "initdb",
            ["--username", "orion", "--auth", "trust", "--encoding", "UTF8", "--no-sync", "--pgdata", "db"],
        )?;
        let mut command = server.program("postgres")?;
        command.args(["-D", "db", "-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories="]);
        server.child = Some(command.spawn()?);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if START < began.elapsed() {
                return Err(format!("PostgreSQL does not answer on port {port}").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn is_root(&self) -> Result<bool> {
        use std::os::unix::fs::MetadataExt;
        Ok(std::fs::metadata(self.folder.path())?.uid() == 0)
    }

    fn program(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path().join("data")).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if self.is_root()? {
            command.uid(NOBODY).gid(NOBODY);
        }
        Ok(command)
    }

    fn done<Argument: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Result<()> {
        let output = self.program(name)?.args(arguments).stderr(Stdio::piped()).output()?;
        if !output.status.success() {
            return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(())
    }

    fn url(&self) -> String {
        format!("postgres://orion@127.0.0.1:{}/postgres", self.port)
    }

    /// A file that its user may read.
    fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// What makes it both halves of an index.
    pub(crate) fn configuration(&self) -> String {
        format!(
            "[backends.pg]\nkind = \"postgres\"\nurl = \"{}\"\ncollection = \"{INDEX}\"\ntimeout_ms = 20000\n\
             [indices.{INDEX}]\nlexical = \"pg\"\ndense = \"pg\"\n",
            self.url()
        )
    }

    /// The documents, by `orion index push`.
    pub(crate) fn load(&self, program: &Path, models: &Path) -> Result<()> {
        let home = self.folder.path().join("home");
        let config = self.script("orion.toml", &self.configuration())?;
        let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/corpus.jsonl");
        let adding = ["index".as_ref(), "add".as_ref(), "notes".as_ref(), documents.as_os_str()];
        let pushing = ["index", "push", "notes", "--to", "pg", "--config"].map(OsStr::new);
        for arguments in [adding.to_vec(), [pushing.as_slice(), &[config.as_os_str()]].concat()] {
            let mut orion = Command::new(program);
            orion.args(["--quiet".as_ref(), "--models-dir".as_ref(), models.as_os_str()]);
            let output = orion.arg("--data-dir").arg(&home).args(arguments).output()?;
            if !output.status.success() {
                return Err(format!("loading: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
        }
        Ok(())
    }

    /// The documents and the questions.
    fn fill(&self, program: &Path, models: &Path, questions: &[String]) -> Result<()> {
        self.load(program, models)?;
        let ids: Vec<Value> = corpus("corpus.jsonl")?;
        let mut sql =
            "CREATE TABLE asked (number int PRIMARY KEY, words tsquery, vector vector(384));\n".to_owned();
        for (number, question) in questions.iter().enumerate() {
            let id = ids[number * 7 % ids.len()]["_id"].as_str().ok_or("a document without an id")?;
            let (text, id) = (question.replace('\'', "''"), id.replace('\'', "''"));
            writeln!(
                sql,
                "INSERT INTO asked SELECT {}, replace(plainto_tsquery('english', '{text}')::text, ' & ', ' | ')::tsquery, \
                 vector FROM notes WHERE id = '{id}';",
                number + 1
            )?;
        }
        let script = self.script("asked.sql", &format!("{sql}ANALYZE;\n"))?;
        self.done(
            "psql",
            [
                self.url().as_ref(),
                "-v".as_ref(),
                "ON_ERROR_STOP=1".as_ref(),
                "-f".as_ref(),
                script.as_os_str(),
            ],
        )
    }

    fn phase(&self, kind: &str, clients: usize, duration: Duration, questions: usize) -> Result<Value> {
        let search = match kind {
            "lexical" => format!("{LEXICAL} 10"),
            _ => format!(
                "WITH words AS (SELECT id, row_number() OVER (ORDER BY score DESC) AS place FROM ({LEXICAL} 100) AS found), \
                 meaning AS (SELECT id, row_number() OVER (ORDER BY distance) AS place FROM ({DENSE} 100) AS found) \
                 SELECT id, coalesce(1.0 / (60 + words.place), 0) + coalesce(1.0 / (60 + meaning.place), 0) AS score \
                 FROM words FULL JOIN meaning USING (id) ORDER BY score DESC LIMIT 10"
            ),
        };
        let script =
            self.script("search.sql", &format!("\\set number random(1, {questions})\n{search};\n"))?;
        let data = self.folder.path().join("data");
        let (clients_text, seconds) = (clients.to_string(), duration.as_secs().max(1).to_string());
        let mut arguments: Vec<&OsStr> =
            ["-n", "-l", "-M", "prepared", "-j", "2", "-c", &clients_text, "-T", &seconds, "-f"]
                .map(OsStr::new)
                .to_vec();
        let url = self.url();
        arguments.extend([script.as_os_str(), OsStr::new(&url)]);
        let began = Instant::now();
        self.done("pgbench", arguments)?;
        let elapsed = began.elapsed().as_secs_f64();
        let mut milliseconds = Vec::new();
        for entry in std::fs::read_dir(&data)? {
            let path = entry?.path();
            if !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"pgbench_log.")) {
                continue;
            }
            // The third column is the time of one transaction, in microseconds.
            for line in std::fs::read_to_string(&path)?.lines() {
                let microseconds: f64 = line.split(' ').nth(2).ok_or("a broken log of pgbench")?.parse()?;
                milliseconds.push(microseconds / 1e3);
            }
            std::fs::remove_file(path)?;
        }
        let mut shown = percentiles(&mut milliseconds, elapsed);
        shown["kind"] = json!(kind);
        shown["clients"] = json!(clients);
        Ok(shown)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn run(
    program: &Path,
    models: Option<&Path>,
    programs: &Path,
    duration: Duration,
) -> Result<(Value, bool)> {
    let models = models.ok_or("the peer needs the encoder's vectors: `--models-dir FOLDER`")?;
    let texts = queries()?;
    let peer = Postgres::start(programs)?;
    peer.fill(program, models, &texts)?;
    let server = Server::start(program, Some(models), "")?;
    let mut phases = Vec::new();
    for kind in ["lexical", "hybrid"] {
        for clients in CLIENTS {
            // The first of each warms up.
            for _ in 0..2 {
                let ours = phase(std::slice::from_ref(&server), PATH, kind, clients, duration, &texts)?;
                let theirs = peer.phase(kind, clients, duration, texts.len())?;
                phases.push(json!({ "orion": ours, "postgresql": theirs }));
            }
            let last = &phases[phases.len() - 1];
            eprintln!("{last}");
            phases.remove(phases.len() - 2);
        }
    }
    let is_sound = phases.iter().all(|both| both["orion"]["wrong"] == 0 && both["orion"]["answered"] != 0);
    Ok((json!({ "seconds_a_phase": duration.as_secs(), "phases": phases }), is_sound))
}
