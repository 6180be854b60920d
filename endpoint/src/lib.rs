//! One request to an OpenAI-compatible model server, and whether another attempt is worth while.
//!
//! A leaf that the trainer (many patient questions) and the server (a policy that answers within a search's deadline)
//! share. It knows HTTP; what is asked and how answers are read is theirs.

use std::time::Duration;

/// Answers are a few hundred tokens; whatever is longer than this is not read.
const LONGEST_ANSWER_BYTES: u64 = 4 << 20;

/// Characters of a foreign text that messages show.
const SHOWN_CHARACTERS: usize = 120;

pub use ureq::Agent;

/// What became of an attempt.
#[derive(Debug)]
pub enum Attempt {
    /// Status 200 with this body.
    Answered(String),
    /// A status that will be the same next time.
    Refused(String),
    /// Nothing that lasts.
    Failed {
        /// What happened.
        reason: String,
        /// How long the server asks to be left alone.
        after: Option<Duration>,
    },
}

/// A client whose every request ends within `timeout`. No proxy is taken from the environment.
pub fn agent(timeout: Duration, user_agent: &str) -> Agent {
    Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .proxy(None)
        .user_agent(user_agent)
        .build()
        .new_agent()
}

/// The base address without a slash at its end; `None` where it is not HTTP.
pub fn base_address(url: &str) -> Option<&str> {
    let base = url.trim_end_matches('/');
    (base.starts_with("http://") || base.starts_with("https://")).then_some(base)
}

/// Sends a JSON body once; `key` goes along as bearer token.
pub fn attempt(agent: &Agent, url: &str, key: Option<&str>, body: &str) -> Attempt {
    let mut request = agent.post(url).header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    outcome(request.send(body))
}

/// Asks once for what lies at an address; `authorization` goes along as that header.
pub fn fetch(agent: &Agent, url: &str, authorization: Option<&str>) -> Attempt {
    let mut request = agent.get(url);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    outcome(request.call())
}

fn outcome(answered: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Attempt {
    let failed = |reason: String| Attempt::Failed { reason, after: None };
    let mut response = match answered {
        Ok(response) => response,
        // An address or a header that cannot be sent will not get better.
        Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => {
            return Attempt::Refused(error.to_string());
        }
        Err(error) => return failed(error.to_string()),
    };
    let status = response.status().as_u16();
    let after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok())
        .map(Duration::from_secs);
    let text = match response.body_mut().with_config().limit(LONGEST_ANSWER_BYTES).read_to_string() {
        Ok(text) => text,
        Err(error) => return failed(format!("status {status} and then {error}")),
    };
    match status {
        200 => Attempt::Answered(text),
        408 | 429 | 500.. => {
            Attempt::Failed { reason: format!("status {status}: {}", shortened(&text)), after }
        }
        _ => Attempt::Refused(format!("status {status}: {}", shortened(&text))),
    }
}

/// The beginning of a foreign text as one line without control characters.
pub fn shortened(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_http_and_end_without_a_slash() {
        assert_eq!(base_address("http://127.0.0.1:8000/v1/"), Some("http://127.0.0.1:8000/v1"));
        assert_eq!(base_address("https://127.0.0.1/v1"), Some("https://127.0.0.1/v1"));
        assert_eq!(base_address("ftp://host"), None);
        assert_eq!(base_address("runs/final"), None);
    }

    #[test]
    fn foreign_texts_are_one_harmless_line() {
        assert_eq!(shortened("a\u{1b}[31m\n b"), "a [31m b");
        assert_eq!(shortened(&"x".repeat(200)).chars().count(), SHOWN_CHARACTERS + 1);
    }
}
