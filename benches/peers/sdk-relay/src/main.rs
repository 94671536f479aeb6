//! `shadowcat-sdk-relay [--listen ADDR] (URL | -- COMMAND [ARG…])`: a relay as one would write it with the official Rust SDK.
//!
//! Both sides are the SDK's and typed: a message becomes a value, and the value becomes a message. It has what the
//! benchmark calls and no more: `initialize`, `tools/list`, `tools/call`, and progress. One session of its own at the
//! server for each of the client's.

use std::{
    collections::HashMap,
    error::Error,
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rmcp::{
    ClientHandler, ErrorData, RoleClient, RoleServer, ServerHandler, ServiceExt as _,
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResponse, ClientRequest, InitializeRequestParams,
        InitializeResult, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ProgressToken,
        ServerCapabilities, ServerConfig, ServerResult,
    },
    service::{NotificationContext, Peer, PeerRequestOptions, RequestContext, RunningService},
    transport::{
        StreamableHttpClientTransport, TokioChildProcess,
        streamable_http_server::{
            StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
        },
    },
};

#[derive(Clone)]
enum Server {
    Url(String),
    Command(Vec<String>),
}

/// The client's tokens by those that the SDK gives out.
type Tokens = Arc<Mutex<HashMap<ProgressToken, ProgressToken>>>;

/// The side of the client.
struct Front {
    server: Server,
    back: OnceLock<RunningService<RoleClient, Back>>,
    tokens: Tokens,
}

/// The side of the server.
struct Back {
    client: Peer<RoleServer>,
    tokens: Tokens,
}

impl ClientHandler for Back {
    async fn on_progress(&self, mut params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let token = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&params.progress_token).cloned();
        if let Some(token) = token {
            params.progress_token = token;
            // A client that left is told nothing.
            _ = self.client.notify_progress(params).await;
        }
    }
}

impl Front {
    fn new(server: Server) -> Self {
        Self { server, back: OnceLock::new(), tokens: Tokens::default() }
    }

    async fn connect(&self, client: Peer<RoleServer>) -> Result<RunningService<RoleClient, Back>, Box<dyn Error>> {
        let back = Back { client, tokens: Arc::clone(&self.tokens) };
        Ok(match &self.server {
            Server::Url(url) => back.serve(StreamableHttpClientTransport::from_uri(url.as_str())).await?,
            Server::Command(words) => {
                let [program, arguments @ ..] = &words[..] else { return Err("no command".into()) };
                let mut command = tokio::process::Command::new(program);
                command.args(arguments);
                back.serve(TokioChildProcess::new(command)?).await?
            }
        })
    }

    fn back(&self) -> Result<&RunningService<RoleClient, Back>, ErrorData> {
        self.back.get().ok_or_else(|| ErrorData::internal_error("not initialized", None))
    }
}

impl ServerHandler for Front {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let back = self.connect(context.peer.clone()).await.map_err(failure)?;
        _ = self.back.set(back);
        context.peer.set_peer_info(request.clone());
        self.negotiate_initialize(&request)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.back()?.list_tools(request).await.map_err(failure)
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let sent = self.back()?.send_cancellable_request(request, PeerRequestOptions::no_options()).await;
        let sent = sent.map_err(failure)?;
        let token = sent.progress_token.clone();
        let tokens = || self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wanted) = context.meta.get_progress_token() {
            tokens().insert(token.clone(), wanted);
        }
        let answer = sent.await_response().await;
        tokens().remove(&token);
        match answer.map_err(failure)? {
            ServerResult::CallToolResult(result) => Ok(CallToolResponse::Complete(result)),
            _ => Err(ErrorData::internal_error("not the result of a tool", None)),
        }
    }
}

fn failure(error: impl ToString) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

/// As many threads as there are cores to run on.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words: Vec<_> = std::env::args().skip(1).collect();
    let listen = if words.first().is_some_and(|word| word == "--listen") {
        words.drain(..2.min(words.len())).nth(1)
    } else {
        None
    };
    let server = match words.first().map(String::as_str) {
        Some("--") => Server::Command(words.split_off(1)),
        Some(url) => Server::Url(url.to_owned()),
        None => return Err("want [--listen ADDR] (URL | -- COMMAND [ARG…])".into()),
    };
    let Some(address) = listen else {
        Front::new(server).serve(rmcp::transport::stdio()).await?.waiting().await?;
        return Ok(());
    };
    let front = move || Ok::<_, io::Error>(Front::new(server.clone()));
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(front, sessions, StreamableHttpServerConfig::default());
    let socket = tokio::net::TcpListener::bind(address).await?;
    // Without this, an answer waits 40 ms for an acknowledgement.
    let socket = axum::serve::ListenerExt::tap_io(socket, |stream| _ = stream.set_nodelay(true));
    axum::serve(socket, axum::Router::new().nest_service("/mcp", service)).await?;
    Ok(())
}
