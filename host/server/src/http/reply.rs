//! What handlers give back, and how it becomes a response.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use serde_json::Value;

use super::error::ApiError;

/// What a request is answered with.
pub enum Reply {
    /// JSON.
    Json(StatusCode, Value),
    /// Plain text.
    Text(String),
    /// A status without a body: existence.
    Status(StatusCode),
    /// Anything that was made elsewhere: event streams.
    Whole(Response<Body>),
}

/// What handlers return.
pub type Answer = Result<Reply, ApiError>;

impl Reply {
    /// 200 with JSON.
    pub fn ok(value: Value) -> Answer {
        Ok(Self::Json(StatusCode::OK, value))
    }

    /// The response; `pretty` with line breaks.
    pub fn response(self, pretty: bool) -> Response<Body> {
        match self {
            Self::Json(status, value) => json_response(status, &value, pretty),
            Self::Text(text) => with_type(StatusCode::OK, "text/plain; charset=UTF-8", text),
            Self::Status(status) => with_type(status, "text/plain; charset=UTF-8", String::new()),
            Self::Whole(response) => response,
        }
    }
}

/// JSON as a response.
pub fn json_response(status: StatusCode, value: &Value, pretty: bool) -> Response<Body> {
    let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
    with_type(status, "application/json; charset=UTF-8", text)
}

/// A text as a response.
pub fn with_type(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
