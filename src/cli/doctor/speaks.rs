//! Which MCP the server speaks: sessions until 2025-11-25, 2026-07-28, or two endpoints as in 2024-11-05.
//!
//! Found out by asking as each era does, `initialize` first, then `server/discover`, then a GET. What clients trip over before their
//! first call is said here too: a log-in that is wanted, and a path that is another one's.

use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use shadowcat::clock::now;
use tokio::time::timeout_at;

use super::{
    PATIENCE,
    answer::{Answer, millis},
    asker::{Asker, Era, Events, MCP_SESSION_ID, client_info, is_event_stream, modern_meta},
    finding::Finding,
};

/// Asks as each era does, the most common first, until one is understood.
pub(super) async fn check(asker: &mut Asker) -> Finding {
    let params = json!({"protocolVersion": NEWEST, "capabilities": {}, "clientInfo": client_info()});
    let request = asker.request("initialize", &params);
    let answer = match asker.ask(request, PATIENCE).await {
        Ok(answer) => answer,
        Err(what) => return mute(&what),
    };
    asker.first = Some(answer.headers.clone());
    if let Some(finding) = login(&answer) {
        return finding;
    }
    let version = answer.message.as_ref().and_then(|message| message.pointer("/result/protocolVersion"));
    if let Some(version) = version.and_then(Value::as_str) {
        let version = version.to_owned();
        return begun(asker, &answer, version).await;
    }
    if let Some(finding) = modern(asker).await {
        return finding;
    }
    if has_two_endpoints(asker).await {
        asker.settle(Era::TwoEndpoints, None);
        return Finding::warning(NAME, "HTTP+SSE of 2024-11-05, with two endpoints; sessions and sizes are not tried")
            .advise("clients give that transport up: 'shadowcat proxy' speaks it for clients that do not; else update the server");
    }
    let seen = format!("no MCP here: initialize got {} from {}", answer.told(), answer.whose());
    Finding::problem(NAME, seen).advise("is the path right? Most servers have /mcp, some /sse")
}

/// The session is open: says so to the server, and remembers it.
async fn begun(asker: &mut Asker, answer: &Answer, version: String) -> Finding {
    let session = answer.headers.get(MCP_SESSION_ID).cloned();
    asker.settle(Era::Sessions(version.clone()), session);
    let form = if is_event_stream(&answer.headers) { "as event stream" } else { "as JSON" };
    let seen = format!("MCP {version}, {:?}, answers {form}; initialize took {}", answer.version, millis(answer.took));
    // Rule V2: before it, only ping should flow.
    match asker.ask(asker.notification("notifications/initialized"), PATIENCE).await {
        Ok(told) if told.status == StatusCode::ACCEPTED => Finding::ok(NAME, seen),
        Ok(told) if told.status.is_success() => {
            let seen = format!("{seen}; a notification got {} where 202 is due", told.status.as_u16());
            Finding::warning(NAME, seen)
                .advise("strict clients break on it; the server should answer 202 without a body")
        }
        Ok(told) => {
            let seen = format!("{seen}; but notifications/initialized got {} from {}", told.told(), told.whose());
            Finding::problem(NAME, seen).advise(NOTIFICATION)
        }
        Err(what) => {
            Finding::problem(NAME, format!("{seen}; but notifications/initialized: {what}")).advise(NOTIFICATION)
        }
    }
}

async fn modern(asker: &mut Asker) -> Option<Finding> {
    asker.settle(Era::Modern, None);
    let request = asker.request("server/discover", &json!({"_meta": modern_meta()}));
    if let Ok(answer) = asker.ask(request, PATIENCE).await
        && answer.message.as_ref().is_some_and(|message| message.get("result").is_some())
    {
        let seen = format!("MCP 2026-07-28, {:?}; server/discover took {}", answer.version, millis(answer.took));
        return Some(Finding::ok(NAME, seen));
    }
    asker.forget();
    None
}

/// Whether GET begins with the event that names the other endpoint (Rule L2).
async fn has_two_endpoints(asker: &Asker) -> bool {
    let deadline = now() + PATIENCE;
    let Ok(Ok(answer)) = timeout_at(deadline, asker.client.send(asker.bare(Method::GET))).await else { return false };
    if !is_event_stream(answer.headers()) {
        return false;
    }
    let (mut body, mut events) = (answer.into_body(), Events::new());
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let Ok(piece) = frame.into_data() else { continue };
        match events.feed(&piece) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => return found.first().is_some_and(|event| event.event() == b"endpoint"),
            Err(_) => return false,
        }
    }
    false
}

/// What is to be done where the server wants to know who asks.
fn login(answer: &Answer) -> Option<Finding> {
    let status = answer.status;
    if status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN {
        return None;
    }
    let challenge = answer.header(&header::WWW_AUTHENTICATE);
    let mut seen = format!("{} from {}", answer.told(), answer.whose());
    if let Some(challenge) = &challenge {
        seen = format!("{seen}; WWW-Authenticate: {challenge}");
    }
    let advice = match (status, &challenge) {
        (StatusCode::UNAUTHORIZED, Some(challenge)) if challenge.contains("resource_metadata") => {
            "the server uses OAuth: resource_metadata says where to log in. With a token: --bearer-env VARIABLE"
        }
        (StatusCode::UNAUTHORIZED, Some(_)) => {
            "it wants a token: --bearer-env VARIABLE, or --header for another scheme"
        }
        (StatusCode::UNAUTHORIZED, None) => {
            "it wants a token, --bearer-env VARIABLE, but does not say which: a 401 must have WWW-Authenticate"
        }
        _ => "the token lacks a right, or the server does not allow this Host: see its list of allowed hosts",
    };
    Some(Finding::problem(NAME, seen).advise(advice))
}

fn mute(what: &str) -> Finding {
    let found = Finding::problem(NAME, format!("initialize: {what}"));
    // What TLS says to plain HTTP is no HTTP.
    if what.contains("HTTP version parsed") {
        return found.advise("what answers does not speak HTTP; if it speaks TLS, ask it by https://");
    }
    found.advise("the server is reached, but does not answer: see its log, and that of what stands before it")
}

const NAME: &str = "speaks";
const NEWEST: &str = "2025-11-25";
const NOTIFICATION: &str = "no client gets beyond this: see the server's log; with several instances, the session has to \
                            come back to the one that opened it (by Mcp-Session-Id)";
