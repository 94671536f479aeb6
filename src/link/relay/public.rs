//! `--public-url`: the name clients know us by, where the upstream tells them its own.
//!
//! A client that logs in reads from the upstream where its metadata are (`WWW-Authenticate`, `resource_metadata`) and
//! which resource they are about (`resource`), and compares that with the URL it dialled (rule S8). Both name the
//! upstream, so a careful client stops. With the flag, those two are told with our name in the place of the
//! upstream's, and nothing else: all other bytes of the header and of the document stay as they are. Without it, and
//! that is the default, nothing changes at all.
//!
//! What this cannot do: a token is then asked for *our* name. An upstream that accepts only tokens for its own
//! (rule S7) must be told of ours; no relay can do that for it.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Uri, header,
    uri::{PathAndQuery, Scheme},
};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Place, Relay, headers, refusal};
use crate::{
    budget::Budget,
    session::Reason,
    transport::http::{Body, Request, Response, client::is_same_origin},
};

/// Our name and the upstream's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) public: &'a Uri,
    pub(super) upstream: &'a Uri,
}

impl Relay {
    /// Passes a request for `/.well-known/…` on to the upstream's origin.
    ///
    /// # Cancel safety
    ///
    /// As [`exchange`](Self::exchange).
    pub async fn well_known(&self, request: Request) -> Response {
        let Some(path) = request.uri().path_and_query().cloned() else {
            return self.pass(request, Cow::Borrowed(self.client.url()), Place::Elsewhere).await;
        };
        let is_metadata = request.method() == Method::GET && is_resource_metadata(path.path());
        let Some(names) = self.names() else {
            return self.pass(request, Cow::Owned(self.client.at(path)), Place::Elsewhere).await;
        };
        let asked = self.client.at(names.asked(&path));
        let answer = self.pass(request, Cow::Owned(asked), Place::Elsewhere).await;
        if is_metadata && answer.status().is_success() {
            renamed(names, answer, &self.options.resources.budget).await
        } else {
            answer
        }
    }

    pub(super) fn names(&self) -> Option<Names<'_>> {
        let public = self.options.public_url.as_ref()?;
        Some(Names { public, upstream: self.client.url() })
    }
}

/// A document of metadata that names us, if it named the upstream.
async fn renamed(names: Names<'_>, answer: Response, budget: &Budget) -> Response {
    if headers::content_encoding(answer.headers()).is_some() {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    let document = match Limited::new(body, MAX_DOCUMENT_LEN).collect().await {
        Ok(document) => document.to_bytes(),
        Err(error) => {
            tracing::warn!(%error, limit = MAX_DOCUMENT_LEN, "the server's metadata cannot be read");
            let what = format!("its metadata cannot be read: {error}");
            return refusal(&Reason::UpstreamStatus { status: parts.status.as_u16(), what }, budget);
        }
    };
    let document = names.document(&document).unwrap_or(document);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
    Response::from_parts(parts, Body::from(document))
}

impl Names<'_> {
    /// Where the upstream has what a client asks us for: metadata of an endpoint lie under that endpoint's path
    /// (RFC 9728, 3.1).
    pub(super) fn asked(self, path: &PathAndQuery) -> PathAndQuery {
        let of_endpoint = path.path().strip_prefix(RESOURCE_METADATA);
        if of_endpoint != Some(trimmed(self.public.path())) || of_endpoint == Some("") {
            return path.clone();
        }
        let query = path.query().map(|query| format!("?{query}")).unwrap_or_default();
        let asked = format!("{RESOURCE_METADATA}{}{query}", trimmed(self.upstream.path()));
        PathAndQuery::try_from(asked).unwrap_or_else(|_| path.clone())
    }

    /// Lets challenges say that the metadata are here.
    pub(super) fn rename_challenges(self, headers: &mut HeaderMap) {
        let header::Entry::Occupied(mut challenges) = headers.entry(header::WWW_AUTHENTICATE) else { return };
        for value in challenges.iter_mut() {
            if let Some(renamed) = value.to_str().ok().and_then(|text| self.challenge(text)) {
                *value = renamed;
            }
        }
    }

    fn challenge(self, text: &str) -> Option<HeaderValue> {
        let (before, rest) = text.split_once(PARAMETER)?;
        let (told, after) = rest.split_once('"')?;
        let url: Uri = told.parse().ok()?;
        if !is_same_origin(&url, self.upstream) {
            return None;
        }
        let path = match url.path().strip_prefix(RESOURCE_METADATA) {
            Some(of) if of == trimmed(self.upstream.path()) && !of.is_empty() => {
                format!("{RESOURCE_METADATA}{}", trimmed(self.public.path()))
            }
            _ => url.path().to_owned(),
        };
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let renamed = format!("{before}{PARAMETER}{}{path}{query}\"{after}", self.origin());
        HeaderValue::try_from(renamed).ok()
    }

    /// Lets a document of metadata say that it is about us. `None` if it is about another resource, or is none: then
    /// it is passed on as it came.
    pub(super) fn document(self, document: &Bytes) -> Option<Bytes> {
        #[derive(Deserialize)]
        struct Metadata<'a> {
            #[serde(borrow)]
            resource: &'a RawValue,
        }
        let raw = serde_json::from_slice::<Metadata<'_>>(document).ok()?.resource.get();
        let start = (raw.as_ptr() as usize).checked_sub(document.as_ptr() as usize)?;
        let resource: Uri = serde_json::from_str::<String>(raw).ok()?.parse().ok()?;
        if !is_same_origin(&resource, self.upstream) {
            return None;
        }
        let renamed = match trimmed(resource.path()) {
            "" => self.origin(),
            path if path == trimmed(self.upstream.path()) => {
                format!("{}{}", self.origin(), trimmed(self.public.path()))
            }
            _ => return None,
        };
        // The characters of a URI need no escapes.
        let (before, after) = (document.get(..start)?, document.get(start + raw.len()..)?);
        let mut told = BytesMut::with_capacity(document.len() + renamed.len());
        for part in [before, b"\"", renamed.as_bytes(), b"\"", after] {
            told.extend_from_slice(part);
        }
        Some(told.freeze())
    }

    fn origin(self) -> String {
        let scheme = self.public.scheme().unwrap_or(&Scheme::HTTP);
        format!("{scheme}://{}", self.public.authority().map_or("", http::uri::Authority::as_str))
    }
}

/// Whether a path is that of a document [`Names::document`] is about.
fn is_resource_metadata(path: &str) -> bool {
    path.strip_prefix(RESOURCE_METADATA).is_some_and(|of| of.is_empty() || of.starts_with('/'))
}

/// A path without the slash at its end.
fn trimmed(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// Longest document that is read to have its name changed. Real ones have some hundred bytes.
const MAX_DOCUMENT_LEN: usize = 64 << 10;

/// RFC 9728, 3.
const RESOURCE_METADATA: &str = "/.well-known/oauth-protected-resource";
/// RFC 9728, 5.1.
const PARAMETER: &str = "resource_metadata=\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn with_names<T>(check: impl FnOnce(Names<'_>) -> T) -> T {
        let (public, upstream) =
            (Uri::from_static("http://127.0.0.1:8080/mcp"), Uri::from_static("https://up.example/api/mcp"));
        check(Names { public: &public, upstream: &upstream })
    }

    #[test]
    fn metadata_of_our_endpoint_are_those_of_the_upstreams() {
        with_names(|names| {
            for (asked, there) in [
                ("/.well-known/oauth-protected-resource/mcp?a", "/.well-known/oauth-protected-resource/api/mcp?a"),
                ("/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource"),
                ("/.well-known/oauth-protected-resource/other", "/.well-known/oauth-protected-resource/other"),
                ("/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server"),
            ] {
                assert_eq!(names.asked(&asked.parse().unwrap()), there);
            }
        });
    }

    #[test]
    fn challenge_names_us_and_keeps_the_rest() {
        with_names(|names| {
            let told = |text| names.challenge(text).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(
                told(r#"Bearer a="b", resource_metadata="https://up.example/.well-known/oauth-protected-resource/api/mcp", scope="x y""#).as_deref(),
                Some(r#"Bearer a="b", resource_metadata="http://127.0.0.1:8080/.well-known/oauth-protected-resource/mcp", scope="x y""#)
            );
            assert_eq!(told(r#"Bearer resource_metadata="https://other.example/x""#), None);
            assert_eq!(told("Basic"), None);
        });
    }

    #[test]
    fn document_names_us_and_keeps_every_other_byte() {
        with_names(|names| {
            let told = |text: &'static str| names.document(&Bytes::from_static(text.as_bytes()));
            let document = "{ \"x\":1.0,\n\"resource\" : \"https:\\/\\/up.example/api/mcp/\" ,\"authorization_servers\":[\"https://up.example\"]}";
            let expected = "{ \"x\":1.0,\n\"resource\" : \"http://127.0.0.1:8080/mcp\" ,\"authorization_servers\":[\"https://up.example\"]}";
            assert_eq!(told(document).as_deref(), Some(expected.as_bytes()));
            assert_eq!(
                told(r#"{"resource":"https://up.example/"}"#).as_deref(),
                Some(&br#"{"resource":"http://127.0.0.1:8080"}"#[..])
            );
            for other in [
                r#"{"resource":"https://up.example/other"}"#,
                r#"{"resource":"https://else.example/api/mcp"}"#,
                "{}",
                "no",
                "[]",
            ] {
                assert_eq!(told(other), None, "{other}");
            }
        });
    }
}
