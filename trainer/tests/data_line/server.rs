//! A server on the loopback that answers as it is told: bounded in connections and in time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a request gets.
pub(crate) enum Reply {
    /// Status 200 and a chat answer with this text.
    Text(String),
    /// A status with extra header lines and a body.
    Status(u16, &'static str, String),
    /// Nothing, until the server ends.
    Stall,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Request line and headers.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: serde_json::Value,
}

/// Connections that are taken at most, and polls of ten milliseconds.
const MOST_CONNECTIONS: usize = 500;
const MOST_POLLS: usize = 6_000;

pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server; `reply` gets the request's number from 0 and the request.
    pub(crate) fn start(reply: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (log, over) = (asked.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            let number = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..MOST_POLLS {
                    if over.load(Ordering::Relaxed) || number.load(Ordering::Relaxed) >= MOST_CONNECTIONS {
                        break;
                    }
                    match listener.accept() {
                        Ok((stream, _)) => {
                            let (reply, log, over, number) = (&reply, &log, &over, &number);
                            scope.spawn(move || serve(stream, reply, log, over, number));
                        }
                        Err(_) => std::thread::sleep(Duration::from_millis(10)),
                    }
                }
                over.store(true, Ordering::Relaxed);
            });
        });
        Self { url, asked, is_over, thread: Some(thread) }
    }

    /// What was asked so far, in the order of arrival.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut stream: TcpStream,
    reply: &impl Fn(usize, &Asked) -> Reply,
    log: &Mutex<Vec<Asked>>,
    over: &AtomicBool,
    number: &AtomicUsize,
) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let Some(asked) = read(&mut stream) else { return };
    let own = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        number.fetch_add(1, Ordering::Relaxed)
    };
    let (status, headers, body) = match reply(own, &asked) {
        Reply::Text(text) => {
            let choice = serde_json::json!({"text": text, "message": {"role": "assistant", "content": text}});
            (200, "", serde_json::json!({"choices": [choice]}).to_string())
        }
        Reply::Status(status, headers, body) => (status, headers, body),
        Reply::Stall => {
            for _ in 0..MOST_POLLS {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            return;
        }
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    );
    let _ = stream.write_all(answer.as_bytes());
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let length: usize = length.unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                let body = serde_json::from_slice(&bytes[end + 4..end + 4 + length]).ok()?;
                return Some(Asked { head, body });
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}
