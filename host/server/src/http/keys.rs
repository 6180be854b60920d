//! API keys: who asks, what they may do, and how much of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::http::{HeaderMap, StatusCode, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::{
    config::{KeyConfig, Scope},
    error::ApiError,
};

/// One key with what it has left.
#[derive(Debug)]
pub struct Key {
    /// As configured.
    pub config: KeyConfig,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

/// A store that fills at a steady rate up to what it holds, and may be overdrawn once.
#[derive(Debug)]
struct Bucket {
    a_second: f64,
    most: f64,
    state: Mutex<(f64, Instant)>,
}

impl Bucket {
    fn new(a_second: f64, most: f64) -> Self {
        Self { a_second, most, state: Mutex::new((most, Instant::now())) }
    }

    /// Takes `amount` if there is at least `least`; else the seconds until there is.
    fn take(&self, amount: f64, least: f64) -> Result<(), u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let filled = state.0 + now.duration_since(state.1).as_secs_f64() * self.a_second;
        *state = (filled.min(self.most), now);
        if state.0 < least {
            return Err(((least - state.0) / self.a_second).ceil().max(1.0) as u64);
        }
        state.0 -= amount;
        Ok(())
    }
}

impl Key {
    /// A key with everything left.
    pub fn new(config: KeyConfig) -> Self {
        let requests = config.requests_per_second.map(|rate| Bucket::new(rate as f64, rate as f64));
        let tokens = config.tokens_per_minute.map(|rate| Bucket::new(rate as f64 / 60.0, rate as f64));
        Self { config, requests, tokens }
    }

    fn refused(&self, what: &str, seconds: u64) -> ApiError {
        let mut error = ApiError::overloaded(format!("key [{}] has used up its {what}", self.config.name));
        error.retry_after = Some(seconds);
        error
    }

    /// Counts one request.
    pub fn count_request(&self) -> Result<(), ApiError> {
        let taken = self.requests.as_ref().map_or(Ok(()), |bucket| bucket.take(1.0, 1.0));
        taken.map_err(|seconds| self.refused("requests for now", seconds))
    }

    /// Whether there are tokens left at all.
    pub fn has_tokens(&self) -> Result<(), ApiError> {
        let left = self.tokens.as_ref().map_or(Ok(()), |bucket| bucket.take(0.0, 1.0));
        left.map_err(|seconds| self.refused("tokens for now", seconds))
    }

    /// Counts the tokens of a search that ended.
    pub fn count_tokens(&self, tokens: u64) {
        if let Some(bucket) = &self.tokens {
            // Nothing is refused here: what a search used is used.
            let _ = bucket.take(tokens as f64, f64::NEG_INFINITY);
        }
    }
}

/// Finds out who asks and whether they may.
pub fn admit(keys: &[Arc<Key>], headers: &HeaderMap, scope: Scope) -> Result<Option<Arc<Key>>, ApiError> {
    if keys.is_empty() {
        return Ok(None);
    }
    let refuse = |reason: &str| ApiError::new(StatusCode::UNAUTHORIZED, "security_exception", reason);
    let given =
        headers.get(header::AUTHORIZATION).ok_or_else(|| refuse("missing authentication credentials"))?;
    let text = given.to_str().unwrap_or_default();
    let (way, credentials) = text.split_once(' ').unwrap_or((text, ""));
    if !way.eq_ignore_ascii_case("basic") && !way.eq_ignore_ascii_case("apikey") {
        return Err(refuse("expected `Authorization: ApiKey` or `Basic` with BASE64 of NAME:SECRET"));
    }
    let decoded = STANDARD.decode(credentials.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (name, secret) = decoded
        .as_deref()
        .and_then(|pair| pair.split_once(':'))
        .ok_or_else(|| refuse("expected BASE64 of NAME:SECRET in the `Authorization` header"))?;
    // Hashes are compared, so the time that takes says nothing about the secret.
    let hash: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    let key = keys.iter().find(|key| key.config.name == name && key.config.sha256 == hash);
    let key = key.ok_or_else(|| refuse("unknown key or wrong secret"))?;
    if !key.config.scopes.contains(&scope) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "security_exception",
            format!("key [{name}] lacks the scope [{}] that this request needs", scope.name()),
        ));
    }
    key.count_request()?;
    Ok(Some(Arc::clone(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_empty_once_and_says_until_when() {
        let bucket = Bucket::new(1e-3, 2.0);
        assert_eq!(bucket.take(1.0, 1.0), Ok(()));
        assert_eq!(bucket.take(1.0, 1.0), Ok(()));
        let wait = bucket.take(1.0, 1.0).unwrap_err();
        assert!((900..=1_000).contains(&wait), "{wait}");
        bucket.take(500.0, f64::NEG_INFINITY).unwrap();
        assert!(400_000 < bucket.take(1.0, 1.0).unwrap_err());
    }
}
