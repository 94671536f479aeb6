//! HTTP to HTTP: one exchange in, one exchange out, bodies streamed both ways.
//!
//! No task, no queue and no buffer of its own: what one side sends is what the other side is sent, and a
//! side that does not read keeps the other from writing. Statuses and headers are kept but for those that
//! belong to one connection. When the client is gone, the upstream's exchange is closed, as the client
//! itself would have done; when the upstream breaks off, so does the client's.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

use crate::transport::http::{Body, Client, Request, Response, SendError};

/// A relay to one upstream.
#[derive(Debug)]
pub struct Relay {
    client: Client,
}

impl Relay {
    /// A relay to the client's upstream.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Passes one exchange on to the upstream's endpoint.
    pub async fn exchange(&self, request: Request) -> Response {
        let url = self.client.url().clone();
        self.pass(request, url).await
    }

    /// Passes a request for `/.well-known/…` on to the upstream's origin.
    pub async fn well_known(&self, request: Request) -> Response {
        let url = match request.uri().path_and_query() {
            Some(path) => self.client.at(path.clone()),
            None => self.client.url().clone(),
        };
        self.pass(request, url).await
    }

    async fn pass(&self, request: Request, url: Uri) -> Response {
        let (parts, body) = request.into_parts();
        let mut request = http::Request::new(Body::from(body));
        *request.method_mut() = parts.method;
        *request.uri_mut() = url;
        *request.headers_mut() = parts.headers;
        drop_connection_headers(request.headers_mut());
        match self.client.send(request).await {
            Ok(response) => {
                let (mut parts, body) = response.into_parts();
                drop_connection_headers(&mut parts.headers);
                Response::from_parts(parts, Body::from(body))
            }
            Err(error) => unreachable(&error),
        }
    }
}

fn unreachable(error: &SendError) -> Response {
    tracing::warn!(%error, "no answer from the upstream");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

/// Removes what belongs to one connection only (RFC 9110, 7.6.1).
fn drop_connection_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in &named {
        headers.remove(name);
    }
    for name in &CONNECTION_HEADERS {
        headers.remove(name);
    }
}

const CONNECTION_HEADERS: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
