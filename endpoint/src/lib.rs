//! One request to an HTTP server, and whether another attempt is worth while.
//!
//! A leaf that the trainer (many patient questions to a model), the server (a policy that answers within a search's
//! deadline) and `engines` (searches and changes in other engines) share. It knows HTTP; what is asked and how answers
//! are read is theirs.

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

/// One request of any kind; [`attempt`] is the common one.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// `GET`, `PUT`, `POST`, `HEAD` or `DELETE`.
    pub method: &'a str,
    /// The whole address.
    pub url: &'a str,
    /// Value of the header `authorization`.
    pub authorization: Option<&'a str>,
    /// Type of the body; without one, no body is sent.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: &'a str,
    /// A longer answer is a failure.
    pub longest_bytes: u64,
    /// The whole exchange ends within this.
    pub timeout: Option<Duration>,
}

/// What a server said.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub text: String,
    /// How long the server asks to be left alone.
    pub after: Option<Duration>,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum NoReply {
    /// An address or a header that cannot be sent.
    Unsendable(String),
    /// Nothing that lasts.
    Failed(String),
}

/// Sends one request; whatever status comes back is a reply.
pub fn exchange(agent: &Agent, call: &Call<'_>) -> Result<Reply, NoReply> {
    let mut request = ureq::http::Request::builder().method(call.method).uri(call.url);
    if let Some(authorization) = call.authorization {
        request = request.header("authorization", authorization);
    }
    let unsendable = |error: ureq::http::Error| NoReply::Unsendable(error.to_string());
    let sent = match call.content_type {
        Some(kind) => {
            let request = request.header("content-type", kind).body(call.body).map_err(unsendable)?;
            agent.run(agent.configure_request(request).timeout_global(call.timeout).build())
        }
        None => {
            let request = request.body(()).map_err(unsendable)?;
            agent.run(agent.configure_request(request).timeout_global(call.timeout).build())
        }
    };
    let mut response = match sent {
        Ok(response) => response,
        // An address or a header that cannot be sent will not get better.
        Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => {
            return Err(NoReply::Unsendable(error.to_string()));
        }
        Err(error) => return Err(NoReply::Failed(error.to_string())),
    };
    let status = response.status().as_u16();
    let after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok())
        .map(Duration::from_secs);
    match response.body_mut().with_config().limit(call.longest_bytes).read_to_string() {
        Ok(text) => Ok(Reply { status, text, after }),
        Err(error) => Err(NoReply::Failed(format!("status {status} and then {error}"))),
    }
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
    let authorization = key.map(|key| format!("Bearer {key}"));
    let call = Call {
        method: "POST",
        url,
        authorization: authorization.as_deref(),
        content_type: Some("application/json"),
        body,
        longest_bytes: LONGEST_ANSWER_BYTES,
        timeout: agent.config().timeouts().global,
    };
    attempted(agent, &call)
}

/// Asks once for what lies at an address; `authorization` goes along as that header.
pub fn fetch(agent: &Agent, url: &str, authorization: Option<&str>) -> Attempt {
    let call = Call {
        method: "GET",
        url,
        authorization,
        content_type: None,
        body: "",
        longest_bytes: LONGEST_ANSWER_BYTES,
        timeout: agent.config().timeouts().global,
    };
    attempted(agent, &call)
}

fn attempted(agent: &Agent, call: &Call<'_>) -> Attempt {
    let reply = match exchange(agent, call) {
        Ok(reply) => reply,
        Err(NoReply::Unsendable(reason)) => return Attempt::Refused(reason),
        Err(NoReply::Failed(reason)) => return Attempt::Failed { reason, after: None },
    };
    let said = || format!("status {}: {}", reply.status, shortened(&reply.text));
    match reply.status {
        200 => Attempt::Answered(reply.text),
        408 | 429 | 500.. => Attempt::Failed { reason: said(), after: reply.after },
        _ => Attempt::Refused(said()),
    }
}

/// A text in which runs of white space and control characters are one blank: nothing in it can begin a line.
pub fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// The beginning of a foreign text as [`one_line`].
pub fn shortened(text: &str) -> String {
    let line = one_line(text);
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
