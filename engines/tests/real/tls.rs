//! PostgreSQL over TLS: Debian's own server, since the packaged one that other tests start was built without TLS.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use orion_engines::{Engine, EngineError, EngineKind, Settings};

use crate::{
    cases,
    servers::{Server, done, missing, postgres, start_postgres},
};

/// The user's password.
const SECRET: &str = "tell nobody";

/// The newest PostgreSQL that is installed here.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|programs| programs.join("postgres").is_file())
        .collect();
    found.sort();
    found.pop()
}

/// Runs openssl in a folder; `names` is what a certificate is for.
fn openssl(folder: &Path, arguments: &str, names: Option<&str>) {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).current_dir(folder).stdin(Stdio::null());
    if let Some(names) = names {
        let mut file = std::fs::File::create(folder.join("names")).expect("a file");
        writeln!(file, "subjectAltName={names}").expect("written");
        command.args(["-extfile", "names"]);
    }
    done(&mut command).expect("a certificate");
}

/// Two authorities, `right.pem` and `wrong.pem`, and `server.pem` that the right one signed, for the address alone; or, as the
/// manual has it, for nothing, which is of X.509's first version where OpenSSL is older than 3.2.
fn certificates(folder: &Path, is_plain: bool) {
    for authority in ["right", "wrong"] {
        let made = format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
        );
        openssl(folder, &made, None);
    }
    openssl(
        folder,
        "req -newkey rsa:2048 -nodes -subj /CN=database -keyout server.key -out server.csr",
        None,
    );
    let signed =
        "x509 -req -in server.csr -CA right.pem -CAkey right.key -set_serial 7 -days 2 -out server.pem";
    openssl(folder, signed, (!is_plain).then_some("IP:127.0.0.1"));
}

/// A server that takes the password over TLS, and nothing without.
fn secure(folder: &Path, is_plain: bool) -> Option<Server> {
    let Some(programs) = programs() else {
        missing("a PostgreSQL with TLS in /usr/lib/postgresql (Debian's `postgresql`)");
        return None;
    };
    if Command::new("openssl").arg("version").output().is_err() {
        missing("openssl");
        return None;
    }
    certificates(folder, is_plain);
    let data = tempfile::tempdir().expect("a temporary folder");
    let keep = |name: &str, text: &str| std::fs::write(data.path().join(name), text).expect("a file");
    keep("password", SECRET);
    keep("hba", "hostssl all all 127.0.0.1/32 scram-sha-256\n");
    for name in ["server.pem", "server.key"] {
        std::fs::copy(folder.join(name), data.path().join(name)).expect("a copy");
    }
    let at = |setting: &str, name: &str| format!("{setting}={}", data.path().join(name).display());
    let configured = [
        "ssl=on".to_owned(),
        at("ssl_cert_file", "server.pem"),
        at("ssl_key_file", "server.key"),
        at("hba_file", "hba"),
    ];
    Some(start_postgres(&programs, data, &["--pwfile", "../password"], &configured))
}

fn engine(port: u16, host: &str, options: &str) -> Result<Engine, EngineError> {
    let url = format!("postgres://orion@{host}:{port}/postgres{options}");
    let settings = Settings::new(EngineKind::Postgres, url, "notes");
    let secret = Some(SECRET.to_owned());
    Engine::new("pg", &Settings { timeout: Duration::from_secs(60), secret, ..settings })
}

#[test]
fn a_server_is_spoken_to_in_secret() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(server) = secure(folder.path(), false) else { return };
    let with = |host: &str, options: &str| engine(server.port, host, options).expect("an engine");
    let roots = |name: &str| format!("&sslrootcert={}", folder.path().join(name).display());
    let verified = with("127.0.0.1", &format!("?sslmode=verify-full{}", roots("right.pem")));
    let mut documents = cases::documents();
    // That server has no pgvector.
    documents.iter_mut().for_each(|document| document.vector = None);
    verified.prepare(None, &cases::kinds()).expect("prepared");
    verified.push(&documents).expect("put");
    let answers = |engine: &Engine| engine.lexical("bread", 3, None).map(|ranking| ranking.hits.len());
    assert_eq!(answers(&verified), Ok(1));

    // By less than everything: any name, any certificate, and TLS only because the server has it.
    for (host, options) in [
        ("localhost", format!("?sslmode=verify-ca{}", roots("right.pem"))),
        ("localhost", format!("?sslmode=require{}", roots("right.pem"))),
        ("localhost", "?sslmode=require".to_owned()),
        ("127.0.0.1", "?sslmode=prefer".to_owned()),
        ("127.0.0.1", String::new()),
        // The password is bound to the channel, so nobody in between passed it on.
        ("127.0.0.1", "?sslmode=require&channel_binding=require".to_owned()),
    ] {
        assert_eq!(answers(&with(host, &options)), Ok(1), "{host}{options}");
    }

    let refused = |host: &str, options: &str, expected: &[&str]| {
        let engine = with(host, options);
        let refused = engine.lexical("bread", 3, None).unwrap_err();
        assert!(matches!(refused, EngineError::Refused { .. }), "{options}: {refused}");
        for words in expected {
            assert!(refused.to_string().contains(words), "{options}: {refused}");
        }
        assert_eq!(engine.state().retried, 0, "{options}");
    };
    let untrusted = "the server's certificate is not trusted";
    let todo =
        "`sslrootcert` in `url` has to name a file with the certificate of the authority that signed it";
    for mode in ["verify-full", "verify-ca", "require"] {
        let options = format!("?sslmode={mode}{}", roots("wrong.pem"));
        refused("127.0.0.1", &options, &[untrusted, "UnknownIssuer", todo]);
    }
    // No public authority signed it.
    refused("127.0.0.1", "?sslmode=verify-full", &[untrusted, todo]);
    let options = format!("?sslmode=verify-full{}", roots("right.pem"));
    refused("localhost", &options, &[untrusted, "not valid for name", "localhost", "127.0.0.1"]);
    refused("127.0.0.1", "?sslmode=disable", &["no pg_hba.conf entry", "28000"]);
    let settings = engine(server.port, "127.0.0.1", &format!("?sslmode=verify-full{}", roots("none.pem")));
    assert!(matches!(settings, Err(EngineError::Settings { .. })), "{settings:?}");
}

#[test]
fn any_certificate_does_where_none_is_looked_at() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(server) = secure(folder.path(), true) else { return };
    engine(server.port, "127.0.0.1", "")
        .expect("an engine")
        .prepare(None, &cases::kinds())
        .expect("prepared");
    for options in ["?sslmode=prefer", "?sslmode=require", "?sslmode=require&channel_binding=require"] {
        assert_eq!(engine(server.port, "127.0.0.1", options).expect("an engine").count(), Ok(0), "{options}");
    }
    let named = format!("?sslmode=verify-full&sslrootcert={}", folder.path().join("right.pem").display());
    let refused = engine(server.port, "127.0.0.1", &named).expect("an engine").count().unwrap_err();
    assert!(matches!(refused, EngineError::Refused { .. }), "{refused}");
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let Some(server) = postgres() else { return };
    let engine = |options: &str| engine(server.port, "127.0.0.1", options).expect("an engine");
    engine("").prepare(None, &cases::kinds()).expect("prepared");
    for options in ["", "?sslmode=prefer", "?sslmode=disable"] {
        assert_eq!(engine(options).count(), Ok(0), "{options}");
    }
    for options in ["?sslmode=require", "?sslmode=verify-full"] {
        let refused = engine(options).count().unwrap_err();
        assert!(matches!(refused, EngineError::Refused { .. }), "{refused}");
        let expected = "the server does not speak TLS, which `sslmode` in `url` demands: set `ssl = on`";
        assert!(refused.to_string().contains(expected), "{refused}");
    }
}
