//! Health, logs, keys, bounds, TLS, signals, and what a power cut leaves.

use std::{io::Read, path::Path, process::Command, sync::Arc, time::Duration};

use crate::{
    kills::survived,
    server::{Server, missing, program},
};

/// SHA-256 of `open sesame`.
const HASH: &str = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";
/// Base64 of `NAME:open sesame` for each of the names below.
const READER: &str = "cmVhZGVyOm9wZW4gc2VzYW1l";
const WRITER: &str = "d3JpdGVyOm9wZW4gc2VzYW1l";
const ADMIN: &str = "YWRtaW46b3BlbiBzZXNhbWU=";
/// How often the server is killed while documents come in; `load kill` does it more often.
const KILLS: usize = 4;

#[test]
fn keys_bounds_and_logs() {
    let key = |name: &str, scopes: &str, more: &str| {
        format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{HASH}\"\nscopes = [{scopes}]\n{more}\n")
    };
    let configuration = format!(
        "[bounds]\nbody_bytes = 2000\n{}{}{}",
        key("reader", "\"read\"", "requests_per_second = 3"),
        key("writer", "\"read\", \"write\"", ""),
        key("admin", "\"read\", \"write\", \"admin\"", ""),
    );
    let server = Server::with(&configuration);
    let ask = |method: &str, path: &str, body: &str, way: &str| {
        server.request(method, path, body, &[("authorization", way)])
    };
    let (reader, writer, admin) =
        (format!("ApiKey {READER}"), format!("Basic {WRITER}"), format!("ApiKey {ADMIN}"));
    assert_eq!((server.get("/_health/live").status, server.get("/_health/ready").status), (200, 200));
    let anonymous = server.get("/_cat/indices");
    assert_eq!(
        (anonymous.status, anonymous.header("www-authenticate")),
        (401, Some("Basic realm=\"orion\""))
    );
    assert_eq!(ask("GET", "/", "", "ApiKey bm9ib2R5Om9wZW4gc2VzYW1l").status, 401);
    assert_eq!(ask("GET", "/", "", "Bearer x").status, 401);
    assert_eq!(
        ask("PUT", "/notes", "", &writer).json()["error"]["reason"],
        "key [writer] lacks the scope [admin] that this request needs"
    );
    assert_eq!(ask("PUT", "/notes", "", &admin).status, 200);
    assert_eq!(ask("PUT", "/notes/_doc/1?refresh=true", r#"{"title":"x"}"#, &writer).status, 201);
    assert_eq!(ask("PUT", "/notes/_doc/1", r#"{"title":"x"}"#, &reader).status, 403);
    assert_eq!(ask("POST", "/notes/_search", "{}", &reader).status, 200);
    // The bucket of three is empty soon, however slow the machine is: it would have to sleep between requests.
    let refused = (0..200)
        .map(|_| ask("GET", "/", "", &reader))
        .find(|answer| answer.status == 429)
        .expect("a refusal");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json()["error"]["type"], "rejected_execution_exception");
    let large = ask("POST", "/notes/_bulk", &"x".repeat(2_001), &writer);
    assert_eq!(
        (large.status, &large.json()["error"]["type"]),
        (413, &serde_json::json!("content_too_long_exception"))
    );

    let named = server.request("GET", "/_health/live", "", &[("x-request-id", "tell-tale-7")]);
    assert_eq!(named.header("x-request-id"), Some("tell-tale-7"));
    assert!(server.get("/_health/live").header("x-request-id").is_some_and(|id| !id.is_empty()));
    let is_its = |line: &String| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        line["span"]["request_id"] == "tell-tale-7"
            && line["status"] == 200
            && line["path"] == "/_health/live"
    };
    // Lines come through a pipe and a thread; a test that hangs here fails by its own time-out.
    while !server.log().iter().any(is_its) {
        std::thread::sleep(Duration::from_millis(10));
    }

    // SIGHUP takes other keys, and keeps the old ones where the file is broken.
    let file = server.folder.path().join("orion.toml");
    std::fs::write(&file, "liste = 1").expect("a broken file");
    server.signal("HUP");
    wait_for(&server, "configuration stays as it was");
    assert_eq!(ask("GET", "/", "", &admin).status, 200);
    std::fs::write(&file, format!("listen = \"127.0.0.1:0\"\n{}", key("writer", "\"read\"", "")))
        .expect("a file");
    server.signal("HUP");
    wait_for(&server, "configuration read again");
    assert_eq!((ask("GET", "/", "", &admin).status, ask("GET", "/", "", &writer).status), (401, 200));
    assert_eq!(server.end().1, Some(0));
}

/// Waits until the log has a line with `words`; a test that hangs here fails by its own time-out.
fn wait_for(server: &Server, words: &str) {
    while !server.log().iter().any(|line| line.contains(words)) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn configurations_are_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let output = program(folder.path(), None).args(arguments).output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, example, _) = run(&["serve", "--example"]);
    assert_eq!(code, Some(0));
    std::fs::write(folder.path().join("orion.toml"), example).expect("a file");
    assert_eq!(
        run(&["serve", "--config", "orion.toml", "--check"]).1,
        "sound: listens on 127.0.0.1:9200, 0 keys\n"
    );
    std::fs::write(folder.path().join("orion.toml"), "\n[bounds]\nbody_byte = 3\n").expect("a file");
    let (code, _, said) = run(&["serve", "--config", "orion.toml", "--check"]);
    assert_eq!(code, Some(2));
    assert_eq!(
        said,
        "error: configuration `orion.toml` line 3: unknown key `bounds.body_byte`; did you mean `bounds.body_bytes`?\n"
    );
    // What can be read is read: a certificate, the default strategy.
    for (content, expected) in [
        ("[tls]\ncertificate = \"none.pem\"\nkey = \"none.key\"\n", "error: reading `none.pem`\n"),
        ("[adaptive]\nstrategy = \"beem\"\n", "error: checking `adaptive.strategy`\n"),
    ] {
        std::fs::write(folder.path().join("orion.toml"), content).expect("a file");
        let (code, _, said) = run(&["serve", "--config", "orion.toml", "--check"]);
        assert!(code == Some(2) && said.starts_with(expected), "{said}");
    }
    // The configurations that are deployed.
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let container = std::fs::read_to_string(deploy.join("orion.toml")).expect("a file");
    let map = std::fs::read_to_string(deploy.join("kubernetes/config.yaml")).expect("a file");
    let (_, block) = map.split_once("orion.toml: |\n").expect("a block");
    for content in [container, block.replace("\n    ", "\n")] {
        std::fs::write(folder.path().join("orion.toml"), content.trim_start()).expect("a file");
        let (_, out, said) = run(&["serve", "--config", "orion.toml", "--check"]);
        assert_eq!(out, "sound: listens on 0.0.0.0:9200, 2 keys\n", "{said}");
    }
}

#[test]
fn tls_by_certificate_and_key() {
    let made = |folder: &std::path::Path| {
        let arguments = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-keyout",
            "server.key",
            "-out",
            "server.pem",
        ];
        Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    if !made(folder.path()) {
        return missing("openssl");
    }
    let server = Server::over(folder, "[tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n", None);
    let url = format!("https://localhost:{}/_health/live", server.address.port());
    let certificate = server.folder.path().join("server.pem");
    let resolve = format!("localhost:{}:127.0.0.1", server.address.port());
    let asked = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            "--noproxy",
            "*",
            "--resolve",
            &resolve,
            "--cacert",
        ])
        .arg(&certificate)
        .arg(&url)
        .output();
    let Ok(asked) = asked else { return missing("curl") };
    assert_eq!(
        String::from_utf8_lossy(&asked.stdout),
        r#"{"status":"live"}"#,
        "{}",
        String::from_utf8_lossy(&asked.stderr)
    );
    // Plain HTTP gets no answer there.
    assert!(server.try_request("GET", "/_health/live", "", &[]).is_err());
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let start = || Ok(Server::over(Arc::clone(&folder), "[bounds]\nrefresh_ms = 20\n", None));
    let ask = |server: &Server, path: &str, body: &str| {
        let answer = server.try_request("POST", path, body, &[])?;
        Ok((answer.status, answer.text))
    };
    let kill = |server: &Server| {
        server.signal("KILL");
        Ok(())
    };
    let survived = survived(KILLS, start, ask, kill).expect("servers that live until they are killed");
    assert!(survived.is_sound(KILLS) && survived.acknowledged.len() <= survived.looked_for, "{survived:?}");
}

#[test]
fn a_signal_lets_requests_finish() {
    let server = Server::with("[bounds]\ndrain_ms = 600000\n");
    assert_eq!(server.put("/notes/_doc/1?refresh=true", r#"{"title":"slow lamp"}"#).status, 201);
    let body = r#"{"query":{"match":{"title":"lamp"}},"ext":{"adaptive":{"strategy":"beam","turns":2}}}"#;
    let mut connection = server.open("POST", "/notes/_search/stream", body);
    let mut text = vec![0; 16];
    connection.read_exact(&mut text).expect("a beginning");
    server.signal("TERM");
    connection.read_to_end(&mut text).expect("the rest");
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("event: result"), "{text}");
}
