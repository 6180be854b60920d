//! The page at `/_ui`: static files that ride inside the binary. They ask the server's own routes and nothing else;
//! the content policy holds them to that. No key is needed to get them, since they hold no data.
//!
//! Neighbours: `ui/` has the files, `tests/ui` tries them in a browser.

use axum::{
    Router,
    extract::{Path, RawQuery},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use sha2::{Digest, Sha256};

/// What the page may do: its own scripts and styles, its own server, nothing inline, in no frame.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Name, content type and text of every file.
const FILES: [(&str, &str, &str); 17] = [
    ("index.html", HTML, include_str!("ui/index.html")),
    ("style.css", STYLE, include_str!("ui/style.css")),
    ("icon.svg", PICTURE, include_str!("ui/icon.svg")),
    ("api.js", SCRIPT, include_str!("ui/api.js")),
    ("app.js", SCRIPT, include_str!("ui/app.js")),
    ("column.js", SCRIPT, include_str!("ui/column.js")),
    ("cost.js", SCRIPT, include_str!("ui/cost.js")),
    ("dom.js", SCRIPT, include_str!("ui/dom.js")),
    ("grove.js", SCRIPT, include_str!("ui/grove.js")),
    ("ranking.js", SCRIPT, include_str!("ui/ranking.js")),
    ("ranks.js", SCRIPT, include_str!("ui/ranks.js")),
    ("settings.js", SCRIPT, include_str!("ui/settings.js")),
    ("sky.js", SCRIPT, include_str!("ui/sky.js")),
    ("state.js", SCRIPT, include_str!("ui/state.js")),
    ("theme.js", SCRIPT, include_str!("ui/theme.js")),
    ("titles.js", SCRIPT, include_str!("ui/titles.js")),
    ("tree.js", SCRIPT, include_str!("ui/tree.js")),
];

/// Where the page is served.
pub const PATHS: [&str; 3] = ["/_ui", "/_ui/", "/_ui/{name}"];

/// The routes of the page, for a router with any state. The page asks relative to its own address, so that it also
/// works behind a proxy that puts a prefix before everything.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(PATHS[0], get(to_folder))
        .route(PATHS[1], get(|headers: HeaderMap| async move { file("index.html", &headers) }))
        .route(
            PATHS[2],
            get(|Path(name): Path<String>, headers: HeaderMap| async move { file(&name, &headers) }),
        )
}

/// `/_ui?q=…` to `/_ui/?q=…`, without naming what a proxy may have put before it.
async fn to_folder(RawQuery(query): RawQuery) -> Redirect {
    Redirect::temporary(&query.map_or_else(|| "_ui/".to_owned(), |query| format!("_ui/?{query}")))
}

fn file(name: &str, headers: &HeaderMap) -> Response {
    let Some((_, content_type, text)) = FILES.iter().find(|(known, _, _)| *known == name) else {
        return (StatusCode::NOT_FOUND, "the page has no such file\n").into_response();
    };
    let tag = tag(text);
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|tags| {
        tags.to_str().is_ok_and(|tags| tags.split(',').any(|one| one.trim().trim_start_matches("W/") == tag))
    });
    // Asked for again each time, so that a new version is never mixed with an old one.
    let common = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin".to_owned()),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, *content_type)], *text).into_response()
}

/// The text's own mark: half of its SHA-256, in quotes.
fn tag(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hexadecimal: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hexadecimal}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_tag_is_not_sent_again() {
        let first = file("index.html", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], HTML);
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(file("index.html", &headers).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(file("app.js", &headers).status(), StatusCode::OK);
        assert_eq!(file("../ui.rs", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn every_file_that_the_page_names_is_there() {
        for (name, _, text) in FILES {
            let parts = text.split(['"', '\'']).map(|part| part.strip_prefix("./").unwrap_or(part));
            let is_file = |part: &&str| {
                [".js", ".css", ".svg"].iter().any(|ending| part.ends_with(ending))
                    && !part.contains([' ', '/'])
            };
            for part in parts.filter(is_file) {
                assert!(FILES.iter().any(|(known, _, _)| *known == part), "`{name}` names `{part}`");
            }
        }
    }

    #[test]
    fn nothing_inline_and_nothing_from_elsewhere() {
        for (name, _, text) in FILES {
            for forbidden in [
                "innerHTML",
                "style=\"",
                "<style",
                "onclick=\"",
                "eval(",
                "https://",
                "setAttribute(\"style\"",
            ] {
                assert!(!text.contains(forbidden), "`{name}` has `{forbidden}`");
            }
        }
    }
}
