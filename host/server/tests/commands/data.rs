//! `orion data`: a judged set fetched from a loopback copy, and what is refused.

use std::{
    fs,
    io::{BufRead, BufReader, Cursor, Write},
    net::TcpListener,
    thread::JoinHandle,
};

use expect_test::expect;
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::common::Sandbox;

/// A set of one document and one judged query, always the same bytes.
fn archive() -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in [
        ("toy/corpus.jsonl", "{\"_id\": \"d1\", \"title\": \"A lens\", \"text\": \"Made of ice.\"}\n"),
        ("toy/queries.jsonl", "{\"_id\": \"q1\", \"text\": \"what is the lens made of\"}\n"),
        ("toy/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n"),
    ] {
        let options = SimpleFileOptions::default().last_modified_time(zip::DateTime::default());
        zip.start_file(name, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// MD5 of [`archive`].
const MD5: &str = "cecdec914644c7a5fc737164e4eb8df0";

/// Serves so many requests on loopback, ranges too where `ranges` says so; gives what ranges were asked for.
fn serve(requests: usize, ranges: bool) -> (String, JoinHandle<Vec<Option<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/toy.zip", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let answer_one = |_| {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let from = head.iter().find_map(|line| {
                let range = line.to_ascii_lowercase().strip_prefix("range: bytes=")?.to_owned();
                range.trim_end_matches('-').parse::<usize>().ok()
            });
            let whole = archive();
            let (status, body) = match from.filter(|_| ranges) {
                Some(first) => ("206 Partial Content", &whole[first..]),
                None => ("200 OK", &whole[..]),
            };
            let first = whole.len() - body.len();
            let (last, length) = (whole.len() - 1, whole.len());
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{length}\r\n\
                 Connection: close\r\n\r\n",
                body.len()
            )
            .unwrap();
            stream.write_all(body).unwrap();
            from
        };
        (0..requests).map(answer_one).collect()
    });
    (url, thread)
}

#[test]
fn a_set_comes_checked_and_unpacked() {
    let sandbox = Sandbox::new();
    let (url, server) = serve(1, true);
    let said = sandbox.answered(&["data", "fetch", "toy", "--url", &url, "--md5", MD5, "--into", "sets"]);
    expect![[r#"
        sets/toy  1 queries, judged splits: test
    "#]]
    .assert_eq(&said);
    assert_eq!(server.join().unwrap(), [None]);
    let made: Vec<_> =
        fs::read_dir(sandbox.path().join("sets")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(made, ["toy"], "nothing but the set is left");
    let again = sandbox.run(&["data", "fetch", "toy", "--url", &url, "--md5", MD5, "--into", "sets"]);
    expect![[r#"
        error: fetching `toy`: `sets/toy` is there already

        hint: remove it, or name another folder with --into
    "#]]
    .assert_eq(&again.stderr);
}

#[test]
fn a_fetch_that_was_cut_off_goes_on() {
    let whole = archive();
    for (ranges, asked) in [(true, vec![Some(100)]), (false, vec![Some(100), None])] {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.path().join("sets")).unwrap();
        fs::write(sandbox.path().join("sets/toy.zip.part"), &whole[..100]).unwrap();
        let (url, server) = serve(asked.len(), ranges);
        sandbox.answered(&["data", "fetch", "toy", "--url", &url, "--md5", MD5, "--into", "sets"]);
        assert_eq!(server.join().unwrap(), asked);
        assert!(sandbox.path().join("sets/toy/corpus.jsonl").is_file());
    }
}

#[test]
fn what_is_not_the_set_is_refused() {
    let sandbox = Sandbox::new();
    let refused = |arguments: &[&str]| {
        let printed = sandbox.run(arguments);
        assert_eq!((printed.code, printed.stdout.as_str()), (2, ""), "{arguments:?}");
        printed.stderr
    };
    let (url, server) = serve(1, true);
    expect![[r#"
        fetching scifact
        checking
        error: checking the archive of `scifact`: expected MD5 5f7d1de60b170fc8027bb7898e2efca1, got cecdec914644c7a5fc737164e4eb8df0
    "#]].assert_eq(&refused(&["data", "fetch", "scifact", "--url", &url, "--into", "sets"]));
    server.join().unwrap();
    assert!(fs::read_dir(sandbox.path().join("sets")).unwrap().next().is_none(), "wrong bytes do not stay");
    expect![[r#"
        error: fetching `sciFact`: no such set is known

        hint: `orion data list` has the names; --url and --archive take sets from elsewhere
    "#]]
    .assert_eq(&refused(&["data", "fetch", "sciFact"]));
    expect![[r#"
        error: fetching a judged set: expected a name of letters, digits and `-_.`, got `../x`
    "#]]
    .assert_eq(&refused(&["data", "fetch", "../x", "--archive", "x.zip"]));
    sandbox.write("x.zip", "no archive");
    expect![[r#"
        checking
        error: checking the archive of `x`: expected MD5 00, got e7870f97196c5a5a5bc170081adb83fc
    "#]]
    .assert_eq(&refused(&["data", "fetch", "x", "--archive", "x.zip", "--md5", "00"]));
    expect![[r#"
        warning: no MD5 is known for this archive: it is taken as it came; --md5 would hold it to one
        unpacking x
        error: unpacking `x`
          caused by: unpacking `x.zip` entry ``: expected a zip archive, got `invalid Zip archive: Could not find EOCD`
    "#]].assert_eq(&refused(&["data", "fetch", "x", "--archive", "x.zip"]));
    assert!(sandbox.path().join("x.zip").is_file(), "the user's own file stays");
}
