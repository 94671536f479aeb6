//! A contestant while it runs: started on its core, with a client at its front, and ended by id.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Kind, Link, Site, Start};
use crate::{
    client::Client,
    machine,
    process::{self, CpuTimes, Memory, Process},
};

/// How long a start may take, until the first call is answered.
const START_PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Running {
    pub kind: Kind,
    pub client: Client,
    /// `None`: the client is at the mock server itself, which is not ours to end.
    child: Option<Child>,
    proxies: Vec<Process>,
    /// From before it was executed until its first answer.
    pub start: Duration,
    pub words: Vec<String>,
}

impl Running {
    /// Starts `kind` on `cpu` and opens a session through it.
    pub fn start(kind: Kind, link: Link, site: &Site, cpu: Option<usize>) -> io::Result<Self> {
        let Some(start) = site.start(kind, link)? else {
            let mut client = Client::http(site.server, "/mcp");
            client.open(START_PATIENCE)?;
            let (proxies, words) = (Vec::new(), Vec::new());
            return Ok(Self { kind, client, child: None, proxies, start: Duration::ZERO, words });
        };
        let begun = Instant::now();
        let child = spawn(kind, link, &start, site, cpu)?;
        Self::open(kind, child, start, begun)
    }

    fn open(kind: Kind, mut child: Child, start: Start, begun: Instant) -> io::Result<Self> {
        let stdio = child.stdin.take().zip(child.stdout.take());
        let opened = match (start.front, stdio) {
            (Some((address, path)), _) => open_http(&mut child, address, path),
            (None, Some((stdin, stdout))) => Client::stdio(stdin, stdout).and_then(|mut client| {
                client.open(START_PATIENCE)?;
                Ok(client)
            }),
            (None, None) => Err(io::Error::other("no pipes")),
        };
        let took = begun.elapsed();
        match opened {
            Ok(client) => {
                let proxies = process::proxies(&process::tree(child.id()));
                Ok(Self { kind, client, child: Some(child), proxies, start: took, words: start.words })
            }
            Err(error) => {
                let started = process::tree(child.id());
                process::end(child, &started, false);
                Err(error)
            }
        }
    }

    /// Looks again which processes it has.
    pub fn look(&mut self) -> &[Process] {
        if let Some(child) = &self.child {
            self.proxies = process::proxies(&process::tree(child.id()));
        }
        &self.proxies
    }

    pub fn cpu(&self) -> CpuTimes {
        CpuTimes::of(&self.proxies)
    }

    pub fn memory(&self) -> Memory {
        Memory::of(&self.proxies)
    }

    /// Resident in the process that was started, in KiB.
    pub fn root_rss(&self) -> u64 {
        Memory::of(self.proxies.get(..1).unwrap_or_default()).rss
    }

    pub fn process_count(&self) -> usize {
        self.proxies.len()
    }

    /// Ends it. Returns how many processes it left behind, which were killed.
    pub fn end(self) -> usize {
        let Self { mut client, child, .. } = self;
        client.close();
        let is_stdio = matches!(client, Client::Stdio(_));
        let Some(child) = child else { return 0 };
        let started = process::tree(child.id());
        // On stdio, its input ends here.
        drop(client);
        process::end(child, &started, is_stdio)
    }
}

fn spawn(kind: Kind, link: Link, start: &Start, site: &Site, cpu: Option<usize>) -> io::Result<Child> {
    let [program, arguments @ ..] = &start.words[..] else { return Err(io::Error::other("no command")) };
    let folder = machine::target().join("logs");
    fs::create_dir_all(&folder)?;
    let log = File::create(folder.join(format!("{}-{}.log", link.name(), kind.name())))?;
    let mut command = Command::new(program);
    // `mcp-remote` keeps what it learns about servers.
    command.env("MCP_REMOTE_CONFIG_DIR", &site.folder);
    command.args(arguments).stderr(log.try_clone()?).process_group(0);
    if start.front.is_some() {
        command.stdin(Stdio::null()).stdout(log);
    } else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    }
    // A child runs where its parent did when it was started.
    process::pin_self(cpu)?;
    command.spawn().map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))
}

/// Asks until it listens.
fn open_http(child: &mut Child, address: SocketAddr, path: &str) -> io::Result<Client> {
    let until = Instant::now() + START_PATIENCE;
    loop {
        let mut client = Client::http(address, path);
        match client.open(START_PATIENCE) {
            Ok(()) => return Ok(client),
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused || Instant::now() > until => {
                return Err(error);
            }
            Err(_) => {}
        }
        if process::is_stopped() || child.try_wait()?.is_some() {
            return Err(io::Error::other("it ended before it listened"));
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// The mock server over HTTP.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(cpu: Option<usize>) -> io::Result<Self> {
        process::pin_self(cpu)?;
        let own = std::env::current_exe()?;
        let mut child = Command::new(own).args(["serve", "http"]).stdout(Stdio::piped()).process_group(0).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().strip_prefix("listening on ").and_then(|address| address.parse().ok());
        match address {
            Some(address) => Ok(Self { child, address }),
            None => Err(io::Error::other("the mock server does not listen")),
        }
    }

    pub fn end(self) {
        let started = process::tree(self.child.id());
        process::end(self.child, &started, false);
    }
}

/// A folder of this run that is removed with the value.
#[derive(Debug)]
pub struct Folder(pub std::path::PathBuf);

impl Folder {
    pub fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("shadowcat-peers-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}
