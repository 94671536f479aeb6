//! Who takes part, on which links, and with which command. Starting and ending them is `running`'s.

pub mod floors;
pub mod running;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use crate::machine;

/// How the two sides are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// stdio to a child.
    Pipe,
    /// stdio to HTTP.
    Dial,
    /// HTTP to a child.
    Mux,
    /// HTTP to HTTP.
    Relay,
}

impl Link {
    pub const ALL: [Self; 4] = [Self::Pipe, Self::Dial, Self::Mux, Self::Relay];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Dial => "dial",
            Self::Mux => "mux",
            Self::Relay => "relay",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|link| link.name() == name)
    }

    pub fn has_http_clients(self) -> bool {
        matches!(self, Self::Mux | Self::Relay)
    }

    fn has_child_server(self) -> bool {
        matches!(self, Self::Pipe | Self::Mux)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The client at the server itself: on stdio for `pipe`, over HTTP for the others.
    Direct,
    Cat,
    Socat,
    Nginx,
    Haproxy,
    Shadowcat,
    SdkRelay,
    Supergateway,
    McpProxyPython,
    McpProxyNode,
    McpRemote,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Direct,
        Self::Cat,
        Self::Socat,
        Self::Nginx,
        Self::Haproxy,
        Self::Shadowcat,
        Self::SdkRelay,
        Self::Supergateway,
        Self::McpProxyPython,
        Self::McpProxyNode,
        Self::McpRemote,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Cat => "cat",
            Self::Socat => "socat",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Shadowcat => "shadowcat",
            Self::SdkRelay => "sdk-relay",
            Self::Supergateway => "supergateway",
            Self::McpProxyPython => "mcp-proxy-pypi",
            Self::McpProxyNode => "mcp-proxy-npm",
            Self::McpRemote => "mcp-remote",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub fn is_installed_by_setup(self) -> bool {
        matches!(self, Self::Supergateway | Self::McpProxyPython | Self::McpProxyNode | Self::McpRemote)
    }

    /// Who looks at messages gets sessions; `cat` and the like do not know what one is.
    pub fn links(self) -> &'static [Link] {
        match self {
            Self::Direct | Self::Shadowcat | Self::SdkRelay => &Link::ALL,
            Self::Cat | Self::Socat => &[Link::Pipe],
            Self::Nginx | Self::Haproxy => &[Link::Relay],
            Self::Supergateway | Self::McpProxyPython => &[Link::Dial, Link::Mux],
            Self::McpProxyNode => &[Link::Mux],
            Self::McpRemote => &[Link::Dial],
        }
    }

    /// The program that must be there.
    pub fn program(self) -> PathBuf {
        let node = |name: &str| machine::target().join("peers/node/node_modules/.bin").join(name);
        match self {
            Self::Direct => std::env::current_exe().unwrap_or_default(),
            Self::Cat => "sh".into(),
            Self::Socat => "socat".into(),
            Self::Nginx => "nginx".into(),
            Self::Haproxy => "haproxy".into(),
            Self::Shadowcat => std::env::var_os("SHADOWCAT")
                .map_or_else(|| machine::target_of(&machine::tree()).join("dist/shadowcat"), PathBuf::from),
            Self::SdkRelay => {
                machine::target_of(Path::new(env!("CARGO_MANIFEST_DIR"))).join("dist/shadowcat-sdk-relay")
            }
            Self::Supergateway => node("supergateway"),
            Self::McpProxyNode => node("mcp-proxy"),
            Self::McpRemote => node("mcp-remote"),
            Self::McpProxyPython => machine::target().join("peers/python/bin/mcp-proxy"),
        }
    }

    /// What it says when it is asked for its version; `None` if it is not there.
    pub fn version(self) -> Option<String> {
        let asks: &[&str] = match self {
            Self::Direct | Self::SdkRelay => return self.program().exists().then(|| "of this tree".to_owned()),
            Self::Cat => &["-c", "cat --version"],
            Self::Socat => &["-V"],
            Self::Nginx | Self::Haproxy => &["-v"],
            // It takes any first word for a URL.
            Self::McpRemote => return package_version(&self.program(), "mcp-remote"),
            _ => &["--version"],
        };
        let program = self.program();
        let line = machine::first_line(program.to_str()?, asks)?;
        // Its first line is about its authors.
        Some(if self == Self::Socat { "socat, from Debian".to_owned() } else { line })
    }
}

fn package_version(program: &Path, name: &str) -> Option<String> {
    let manifest = program.parent()?.parent()?.join(name).join("package.json");
    let text = std::fs::read_to_string(manifest).ok()?;
    serde_json::from_str::<serde_json::Value>(&text).ok()?.get("version")?.as_str().map(str::to_owned)
}

/// Where a contestant is put.
#[derive(Debug)]
pub struct Site {
    /// The mock server over HTTP.
    pub server: SocketAddr,
    /// The core of the ends, if they have one of their own.
    pub ends_cpu: Option<usize>,
    /// For configuration files.
    pub folder: PathBuf,
    /// The server on stdio, if it is not the mock one.
    pub server_words: Option<Vec<String>>,
}

/// How a contestant is started.
#[derive(Debug)]
pub struct Start {
    pub words: Vec<String>,
    /// Where HTTP clients reach it, and at which path.
    pub front: Option<(SocketAddr, &'static str)>,
}

impl Site {
    /// `None` where `kind` needs nothing to be started: it is the mock server that runs already.
    pub fn start(&self, kind: Kind, link: Link) -> io::Result<Option<Start>> {
        let own = std::env::current_exe()?.display().to_string();
        let mut server = vec![own, "serve".to_owned(), "stdio".to_owned()];
        server.extend(self.ends_cpu.iter().flat_map(|cpu| ["--cpu".to_owned(), cpu.to_string()]));
        if let Some(words) = &self.server_words {
            server.clone_from(words);
        }
        let url = format!("http://{}/mcp", self.server);
        let program = kind.program().display().to_string();
        let address = free_address()?;
        let front = link.has_http_clients().then_some((address, "/mcp"));
        let port = address.port().to_string();
        let upstream: Vec<String> =
            if link.has_child_server() { [vec!["--".to_owned()], server.clone()].concat() } else { vec![url.clone()] };
        let with = |words: &[&str], rest: &[String]| {
            let words = words.iter().map(|word| (*word).to_owned());
            [vec![program.clone()], words.collect(), rest.to_vec()].concat()
        };
        let listen = format!("127.0.0.1:{port}");
        let words = match (kind, link) {
            (Kind::Direct, Link::Pipe) => server,
            (Kind::Direct, _) => return Ok(None),
            (Kind::Cat, _) => with(&["-c", &format!("cat | {} | cat", server.join(" "))], &[]),
            (Kind::Socat, _) => with(&["STDIO", &format!("EXEC:{}", server.join(" "))], &[]),
            (Kind::Nginx, _) => with(&floors::nginx(&self.folder, self.server, address)?, &[]),
            (Kind::Haproxy, _) => with(&floors::haproxy(&self.folder, self.server, address)?, &[]),
            (Kind::Shadowcat, Link::Mux | Link::Relay) => {
                with(&["proxy", "--listen", &listen, "--max-connections", "8192"], &upstream)
            }
            (Kind::Shadowcat, _) => with(&["proxy"], &upstream),
            (Kind::SdkRelay, Link::Mux | Link::Relay) => with(&["--listen", &listen], &upstream),
            (Kind::SdkRelay, _) => with(&[], &upstream),
            (Kind::Supergateway, Link::Mux) => {
                let quiet =
                    ["--logLevel", "none", "--outputTransport", "streamableHttp", "--stateful", "--port", &port];
                with(&quiet, &["--stdio".to_owned(), server.join(" ")])
            }
            (Kind::Supergateway, _) => with(&["--logLevel", "none", "--streamableHttp", &url], &[]),
            (Kind::McpProxyPython, Link::Mux) => with(&["--log-level", "ERROR", "--port", &port], &upstream),
            (Kind::McpProxyPython, _) => with(&["--log-level", "ERROR", "--transport", "streamablehttp", &url], &[]),
            (Kind::McpProxyNode, _) => {
                with(&["--host", "127.0.0.1", "--server", "stream", "--maxBodySize", "0", "--port", &port], &upstream)
            }
            (Kind::McpRemote, _) => with(&[&url, "--transport", "http-only", "--allow-http"], &[]),
        };
        Ok(Some(Start { words, front }))
    }
}

/// Whoever takes this one in between makes the contestant fail, which is seen.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
