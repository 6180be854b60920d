//! What is sent for a question, and where its answer stands. `orion-endpoint` does the sending.

use super::{Ask, EndpointArguments, Protocol};
use orion_endpoint::shortened;
use serde_json::{Value, json};

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
