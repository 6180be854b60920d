//! Errors as OpenSearch's clients expect them: a status, a type, a reason, the index it is about.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use orion_host::index::IndexError;
use serde_json::{Map, Value, json};

/// Why a request was not answered.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// The status.
    pub status: StatusCode,
    /// The stable name of the kind of error.
    pub kind: &'static str,
    /// What was wrong, for people.
    pub reason: String,
    /// Further members of the error: `index`, `resource.id` and such.
    pub more: Map<String, Value>,
    /// What caused it, where that has a name of its own.
    pub cause: Option<Box<(&'static str, String)>>,
    /// Seconds after which it may be worth trying again.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// Any error.
    pub fn new(status: StatusCode, kind: &'static str, reason: impl Into<String>) -> Self {
        Self { status, kind, reason: reason.into(), more: Map::new(), cause: None, retry_after: None }
    }

    /// 400: a value that is not acceptable.
    pub fn illegal(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "illegal_argument_exception", reason)
    }

    /// 400: a body that does not parse.
    pub fn parsing(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "parsing_exception", reason)
    }

    /// 400: a document, or a mapping, that does not fit.
    pub fn mapping(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "mapper_parsing_exception", reason)
    }

    /// 404: no such index.
    pub fn no_index(name: &str) -> Self {
        let mut error =
            Self::new(StatusCode::NOT_FOUND, "index_not_found_exception", format!("no such index [{name}]"));
        error.more.insert("index".to_owned(), json!(name));
        error.more.insert("resource.id".to_owned(), json!(name));
        error.more.insert("resource.type".to_owned(), json!("index_or_alias"));
        error
    }

    /// 429: no room at the moment.
    pub fn overloaded(reason: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rejected_execution_exception", reason);
        error.retry_after = Some(1);
        error
    }

    /// 500: a fault of the server's own.
    pub fn fault(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "exception", reason)
    }

    /// Says what caused it.
    #[must_use]
    pub fn because(mut self, kind: &'static str, reason: impl Into<String>) -> Self {
        self.cause = Some(Box::new((kind, reason.into())));
        self
    }

    /// The inner object: what bulk items and multi-searches carry.
    pub fn inner(&self) -> Value {
        let mut object = self.more.clone();
        object.insert("type".to_owned(), json!(self.kind));
        object.insert("reason".to_owned(), json!(self.reason));
        if let Some(cause) = &self.cause {
            let (kind, reason) = cause.as_ref();
            object.insert("caused_by".to_owned(), json!({ "type": kind, "reason": reason }));
        }
        Value::Object(object)
    }

    /// The whole body.
    pub fn body(&self) -> Value {
        let mut error = self.inner();
        let mut root = self.more.clone();
        root.insert("type".to_owned(), json!(self.kind));
        root.insert("reason".to_owned(), json!(self.reason));
        error["root_cause"] = json!([root]);
        json!({ "error": error, "status": self.status.as_u16() })
    }

    /// The response.
    pub fn response(&self) -> Response<Body> {
        let mut response = super::reply::json_response(self.status, &self.body(), false);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let ways = HeaderValue::from_static("Basic realm=\"orion\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, ways);
        }
        response
    }
}

impl From<IndexError> for ApiError {
    fn from(error: IndexError) -> Self {
        match &error {
            IndexError::Document { .. } => Self::mapping(error.to_string()),
            IndexError::Filter { .. } | IndexError::Invalid { .. } | IndexError::NoEncoder { .. } => {
                Self::illegal(error.to_string())
            }
            IndexError::Name { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_index_name_exception", error.to_string())
            }
            IndexError::Locked { .. } => {
                let mut overloaded = Self::overloaded(error.to_string());
                overloaded.retry_after = Some(5);
                overloaded
            }
            _ => Self::fault(error.to_string()),
        }
    }
}
