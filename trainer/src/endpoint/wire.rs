//! One attempt at one request: what is sent, what came back, and whether another attempt is worth while.

use super::{Ask, EndpointArguments, Protocol};
use serde_json::{Value, json};
use std::time::Duration;

/// Answers are a few hundred tokens; whatever is longer than this is not read.
const LONGEST_ANSWER_BYTES: u64 = 4 << 20;

/// What became of an attempt.
pub(super) enum Attempt {
    /// Status 200 with this body.
    Answered(String),
    /// A status that will be the same next time.
    Refused(String),
    /// Nothing that lasts; `after` is how long the server asks to be left alone.
    Failed { reason: String, after: Option<Duration> },
}

/// A client whose every request ends within `timeout`. No proxy is taken from the environment.
pub(super) fn agent(timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .proxy(None)
        .user_agent("orion-train")
        .build()
        .new_agent()
}

/// The request's body; the same question gives the same bytes.
pub(super) fn body(arguments: &EndpointArguments, ask: &Ask) -> String {
    // Servers read the seed as a signed 32-bit or 64-bit number.
    let seed = ask.seed & 0x7fff_ffff;
    let mut value = json!({
        "model": arguments.model,
        "temperature": arguments.temperature,
        "max_tokens": arguments.max_tokens,
        "seed": seed,
        "stream": false,
    });
    match arguments.protocol {
        Protocol::Chat => {
            value["messages"] = json!([
                {"role": "system", "content": ask.system},
                {"role": "user", "content": ask.user},
            ]);
        }
        Protocol::Completions => {
            value["prompt"] = json!(format!("{}\n\n{}\n{}", ask.system, ask.user, ask.lead));
            value["stop"] = json!(ask.stop);
        }
    }
    value.to_string()
}

/// Sends once.
pub(super) fn attempt(agent: &ureq::Agent, url: &str, key: Option<&str>, body: &str) -> Attempt {
    let mut request = agent.post(url).header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let failed = |reason: String| Attempt::Failed { reason, after: None };
    let mut response = match request.send(body) {
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

/// The first choice's text; an error is what came instead, shortened.
pub(super) fn answer(body: &str, protocol: Protocol) -> Result<String, String> {
    let value: Value = serde_json::from_str(body).map_err(|_| shortened(body))?;
    let first = &value["choices"][0];
    let text = match protocol {
        Protocol::Chat => &first["message"]["content"],
        Protocol::Completions => &first["text"],
    };
    text.as_str().map(str::to_owned).ok_or_else(|| shortened(body))
}

fn shortened(text: &str) -> String {
    crate::terminal::one_line(text, 120)
}
