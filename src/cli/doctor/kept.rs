//! What is kept between requests: the connection and the session.
//!
//! A connection that is closed after each answer costs every call a handshake; a session that is forgotten, as by a balancer
//! that spreads its requests, fails only now and then: so several are sent, half of them on new connections.

use http::{HeaderValue, Method, StatusCode};
use shadowcat::clock::now;

use super::{
    PATIENCE,
    answer::millis,
    asker::{Asker, Era, MCP_SESSION_ID},
    finding::Finding,
};

/// Whether requests share a connection.
pub(super) async fn connection(asker: &mut Asker) -> Finding {
    let before = asker.client.connections();
    let started = now();
    for _ in 0..TRIES {
        let request = asker.harmless();
        if let Err(what) = asker.ask(request, PATIENCE).await {
            return Finding::problem(CONNECTION, what).advise("see the server's log");
        }
    }
    let each = (now() - started) / TRIES;
    match asker.client.connections() - before {
        // One more is the one that the server closed after an earlier answer.
        0 | 1 => Finding::ok(CONNECTION, format!("kept between requests; {} a request", millis(each))),
        new => {
            let seen = format!("{new} new connections for {TRIES} requests, {} a request", millis(each));
            Finding::warning(CONNECTION, seen).advise(
                "see what answers with 'Connection: close' (nginx: keepalive, and \
                                                       proxy_http_version 1.1 with Connection \"\")",
            )
        }
    }
}

/// Whether the session is known to every request that names it, and no other is.
pub(super) async fn session(asker: &mut Asker) -> Vec<Finding> {
    if asker.era() == Some(&Era::Modern) {
        return vec![Finding::ok(SESSION, "none, as 2026-07-28 has it: any instance may answer")];
    }
    if asker.session().is_none() {
        return vec![Finding::ok(SESSION, "none given out: the server keeps nothing between requests")];
    }
    vec![own(asker).await, foreign(asker).await]
}

/// Half of the requests on the connection there is, half on connections of their own: some balance by the one, some by
/// the other.
async fn own(asker: &mut Asker) -> Finding {
    let (mut lost, mut why) = (0, String::new());
    for turn in 0..2 * TRIES {
        if turn >= TRIES
            && let Err(error) = asker.reconnect()
        {
            return Finding::skipped(SESSION, error.to_string());
        }
        let request = asker.harmless();
        match asker.ask(request, PATIENCE).await {
            Ok(answer) if answer.is_answered() => {}
            Ok(answer) => (lost, why) = (lost + 1, format!("{} from {}", answer.told(), answer.whose())),
            Err(what) => (lost, why) = (lost + 1, what),
        }
    }
    let all = 2 * TRIES;
    if lost == 0 {
        return Finding::ok(SESSION, format!("kept: {all} of {all} requests with its id were answered"));
    }
    Finding::problem(SESSION, format!("lost: {lost} of {all} requests with its id were not answered: {why}")).advise(
        "several instances that do not share sessions? Balance by Mcp-Session-Id (docs/OPERATING.md, HAProxy). One alone \
         forgets: see whether it restarts",
    )
}

async fn foreign(asker: &mut Asker) -> Finding {
    let mut request = asker.harmless();
    request.headers_mut().insert(MCP_SESSION_ID, HeaderValue::from_static(NOBODYS));
    match asker.ask(request, PATIENCE).await {
        Ok(answer) if answer.status == StatusCode::NOT_FOUND => {
            Finding::ok(FOREIGN, "a session that nobody opened gets 404, and clients open another")
        }
        Ok(answer) if answer.is_answered() => {
            Finding::warning(FOREIGN, "requests of a session that nobody opened are answered")
                .advise("the server does not look at Mcp-Session-Id; it must answer 404 to ids it does not know")
        }
        // Rule G11: only 404 makes clients open another.
        Ok(answer) => Finding::warning(FOREIGN, format!("a session that nobody opened gets {}", answer.told()))
            .advise("it should be 404: clients open a new session then, and fail for good otherwise"),
        Err(what) => Finding::problem(FOREIGN, what).advise("see the server's log"),
    }
}

/// Ends the session, if there is one. Rule G12: the server may refuse.
pub(super) async fn leave(asker: &mut Asker) -> Option<Finding> {
    asker.session()?;
    let request = asker.bare(Method::DELETE);
    asker.take_session();
    Some(match asker.ask(request, PATIENCE).await {
        Ok(answer) if answer.status.is_success() => Finding::ok(GOODBYE, "DELETE ended the session"),
        Ok(answer) if answer.status == StatusCode::METHOD_NOT_ALLOWED => {
            Finding::ok(GOODBYE, "the server lets no client end its session (405): it ends when it is idle")
        }
        Ok(answer) => Finding::warning(GOODBYE, format!("DELETE got {} from {}", answer.told(), answer.whose()))
            .advise(
                "sessions of clients that leave stay until they are idle: does something on the way refuse DELETE?",
            ),
        Err(what) => Finding::warning(GOODBYE, format!("DELETE: {what}")).advise("the session may be left behind"),
    })
}

const CONNECTION: &str = "connection";
const SESSION: &str = "session";
const FOREIGN: &str = "foreign id";
const GOODBYE: &str = "goodbye";

/// Requests of one kind.
const TRIES: u32 = 4;

/// No server has given this id to anybody.
const NOBODYS: &str = "shadowcat-doctor-session-that-nobody-opened";
