//! How much memory peers can make us hold, the proxy as its own process, by the system's count of its peak: many
//! stalled readers, many idle sessions, long streams, long messages, peers that send slowly and peers that never read.
//!
//! Progress and bounds are asserted, and that a neighbour is served within seconds; times are printed. Every test is short here. At full length, with 100 readers,
//! 1 000 sessions, 1 GB each way and 64 MiB in one message:
//!
//! ```sh
//! SHADOWCAT_FULL=1 cargo test --release --test memory -- --nocapture --test-threads 1
//! ```
//!
//! Where the system lets us, each proxy also runs in a cage that ends it beyond [`CAGE_LEN`].

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/legacy.rs"]
mod legacy;
#[path = "memory/lines.rs"]
mod lines;
#[path = "memory/messages.rs"]
mod messages;
#[path = "support/meter.rs"]
mod meter;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/mux.rs"]
mod mux;
#[path = "memory/neighbour.rs"]
mod neighbour;
#[path = "memory/sessions.rs"]
mod sessions;
#[path = "memory/slow.rs"]
mod slow;
#[path = "memory/streams.rs"]
mod streams;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "hostile/upstream.rs"]
mod upstream;

use std::{env, io::Write as _, net::SocketAddr, os::unix::net::UnixStream, path::PathBuf};

use meter::{Cage, peak, reset_peak, resident};
use rustix::process::Signal;
use support::{DEADLINE, Launch, Session};
use temp::TempDir;

/// What every proxy may hold for its peers.
const BUDGET: &str = "128MiB";
/// What it is ended at: the budget, and what the program itself is.
const CAGE_LEN: usize = 160 << 20;

/// What may be left of anything once it is over, in the allocator's hands.
const REST_LEN: usize = 4 * MIB;

/// A proxy whose memory is watched. Ended by TERM when dropped.
struct Measured {
    session: Session,
    /// What it held when it had nothing to do yet.
    idle: usize,
    _cage: Option<Cage>,
}

impl Measured {
    fn of(session: Session) -> Self {
        let _cage = Cage::around(session.pid, CAGE_LEN).ok();
        let idle = resident(session.pid);
        Self { session, idle, _cage }
    }

    /// For a client on stdin.
    fn piped(options: &[&str], server: &[&str]) -> Self {
        Self::of(launch([&["proxy", "--memory-budget", BUDGET], options, server].concat()).start())
    }

    /// For HTTP clients.
    fn listening(options: &[&str], server: &[&str]) -> (Self, SocketAddr) {
        Self::listening_within(BUDGET, options, server)
    }

    /// For HTTP clients, within another budget.
    fn listening_within(budget: &str, options: &[&str], server: &[&str]) -> (Self, SocketAddr) {
        let listen = ["proxy", "--memory-budget", budget, "--listen", "127.0.0.1:0", "--log-level", "error"];
        let mut session = launch([&listen, options, server].concat()).start();
        let line = session.stderr.line_with("listening on http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/mcp")).unwrap();
        (Self::of(session), address.parse().unwrap())
    }

    /// For clients that speak lines, on a socket.
    fn on_a_socket(budget: &str, options: &[&str], server: &[&str]) -> (Self, Lines) {
        let here = TempDir::new().unwrap();
        let path = here.join("lines");
        let listen = format!("unix:{}", path.display());
        let args = ["proxy", "--memory-budget", budget, "--listen", &listen, "--max-sessions", "4096"];
        let mut session = launch([&args, options, server].concat()).start();
        session.stderr.line_with("listening on ");
        (Self::of(session), Lines { path, _here: here })
    }

    /// What it holds idle is what it holds now; its peak begins here.
    fn begin(&mut self) {
        self.idle = resident(self.session.pid);
        reset_peak(self.session.pid);
    }

    /// The peak above what it held idle; printed, and no more than `most`.
    #[track_caller]
    fn assert_peak(&self, what: &str, most: usize) {
        let cost = peak(self.session.pid).saturating_sub(self.idle);
        say(&format!("{what}: {} KiB above {} KiB idle", cost >> 10, self.idle >> 10));
        assert!(cost <= most, "{what}: {} KiB, more than {} KiB", cost >> 10, most >> 10);
    }

    /// What it holds now above what it held idle; printed, and little.
    #[track_caller]
    fn assert_rest(&self, what: &str) {
        let rest = resident(self.session.pid).saturating_sub(self.idle);
        say(&format!("{what}: {} KiB above {} KiB idle", rest >> 10, self.idle >> 10));
        assert!(rest <= REST_LEN, "{what}: {} KiB, more than {} KiB", rest >> 10, REST_LEN >> 10);
    }

    /// It was not ended by anybody, and ends when it is told to.
    fn end(mut self) {
        self.session.signal(Signal::TERM);
        let ended = self.session.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

/// As most proxies run: `--verify` joins what it looks at where an answer became an event on a slow machine.
fn launch(args: Vec<&str>) -> Launch {
    Launch::new(args).env("SHADOWCAT_VERIFY", "false")
}

/// Where clients that speak lines connect.
struct Lines {
    path: PathBuf,
    _here: TempDir,
}

impl Lines {
    fn connect(&self) -> UnixStream {
        let socket = UnixStream::connect(&self.path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.session.signal(Signal::TERM);
    }
}

/// Seen with --nocapture, and with every failure.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// How much of something: `full` when all of it was asked for.
fn amount(short: usize, full: usize) -> usize {
    if env::var_os("SHADOWCAT_FULL").is_some() { full } else { short }
}

fn fixture() -> String {
    mux::fixture().into_os_string().into_string().unwrap()
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
