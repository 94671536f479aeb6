//! What the re-executed process does: one thread, one loop over the socket and SIGCHLD.
//!
//! It holds no bytes of any peer and knows nothing of sessions. Everything it starts, and everything those
//! start, is its descendant and stays so, because it is a subreaper; so "no child left" is a question it can
//! ask the system.

use std::{
    collections::{HashMap, HashSet},
    io::{self, IoSliceMut, Read as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, wait},
};

use super::{
    MARK,
    descent::{DirectChild, direct_children, signal},
    leftovers::Leftovers,
    wire::{Event, Request},
};
use crate::supervise::{ChildId, Command, ExitStatus, ladder::Push};

/// How long the system may take to end what got KILL. Only a process stuck in the kernel needs more, and
/// that one nobody can end.
const KILL_TIME: Duration = Duration::from_secs(2);

/// Fewest rounds of KILL: on a machine so busy that we hardly run, time alone says little.
const MIN_KILLS: u32 = 100;

/// The process's whole life. What is to end gets the time `term` after TERM.
pub(super) fn run(term: Duration) -> ExitCode {
    match Keeping::start(term) {
        Ok(mut keeping) => {
            // Whatever ended the loop, the proxy is gone or cannot be talked to any more.
            let served = keeping.serve();
            keeping.end_all();
            if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(_) => ExitCode::FAILURE,
    }
}

struct Keeping {
    socket: UnixStream,
    /// Readable after a SIGCHLD.
    child_signal: UnixStream,
    /// Bytes of requests not yet complete.
    unread: BytesMut,
    /// Descriptors that came with them.
    descriptors: Vec<OwnedFd>,
    /// Children we started and have not reaped, so that their ids cannot mean another process or group, and the
    /// mark of each.
    running: HashMap<ChildId, String>,
    leftovers: Leftovers,
    /// How long who got TERM may take to end.
    term: Duration,
    /// How many children were started: makes the next one's mark.
    started: u64,
}

/// What a look at the children found.
#[derive(PartialEq, Eq)]
enum Left {
    None,
    Some,
}

impl Keeping {
    fn start(term: Duration) -> io::Result<Self> {
        super::orphans::become_subreaper()?;
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (child_signal, signalled) = UnixStream::pair()?;
        child_signal.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, signalled)?;
        let (unread, descriptors) = (BytesMut::new(), Vec::new());
        let (running, leftovers) = (HashMap::new(), Leftovers::default());
        Ok(Self { socket, child_signal, unread, descriptors, running, leftovers, term, started: 0 })
    }

    /// Serves requests until the proxy's end of the socket is closed.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.child_signal, PollFlags::IN)];
            let at_most = self.leftovers.next_look(now()).and_then(|wait| Timespec::try_from(wait).ok());
            match poll(&mut fds, at_most.as_ref()) {
                Err(Errno::INTR) => continue,
                polled => polled?,
            };
            let [has_request, has_signal] = fds.map(|fd| !fd.revents().is_empty());
            if has_signal {
                self.take_signals();
                self.reap(Self::tell_exit)?;
            }
            self.leftovers.look(|pid| self.running.contains_key(&ChildId(pid.cast_unsigned())), now());
            if has_request {
                if self.receive()? == 0 {
                    return Ok(());
                }
                while let Some(request) = Request::decode(&mut self.unread)? {
                    self.handle(request)?;
                }
            }
        }
    }

    fn handle(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Spawn(command) => {
                let fds: [OwnedFd; 3] = std::mem::take(&mut self.descriptors)
                    .try_into()
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                self.started += 1;
                let mark = format!("{}.{}", std::process::id(), self.started);
                let event = match spawn(&command, fds, &mark) {
                    Ok(child) => {
                        self.running.insert(child, format!("{MARK}={mark}"));
                        Event::Spawned(child)
                    }
                    Err(error) => Event::Failed(error.raw_os_error().unwrap_or_default()),
                };
                self.tell(&event)
            }
            Request::Push(child, push) => {
                if let (true, Some(group)) = (self.running.contains_key(&child), pid(child)) {
                    let signal = match push {
                        Push::Terminate => Signal::TERM,
                        Push::Kill => Signal::KILL,
                    };
                    // It may have ended this very moment; then there is nothing to signal.
                    let _ = kill_process_group(group, signal);
                }
                Ok(())
            }
        }
    }

    /// Reads what is there, with the descriptors that came along.
    fn receive(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.unread.extend_from_slice(chunk.get(..received.bytes).unwrap_or_default());
        Ok(received.bytes)
    }

    fn tell(&mut self, event: &Event) -> io::Result<()> {
        io::Write::write_all(&mut self.socket, &event.encode())
    }

    fn tell_exit(&mut self, child: ChildId, status: ExitStatus) -> io::Result<()> {
        self.tell(&Event::Exited(child, status))
    }

    fn take_signals(&mut self) {
        let mut taken = [0; 64];
        while matches!(self.child_signal.read(&mut taken), Ok(1..)) {}
    }

    /// Reaps everything that has ended, orphaned grandchildren too; tells of our own children.
    fn reap(&mut self, mut told: impl FnMut(&mut Self, ChildId, ExitStatus) -> io::Result<()>) -> io::Result<Left> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get();
                    let child = ChildId(pid.cast_unsigned());
                    let ended = exit_status(status).and_then(|status| Some((self.running.remove(&child)?, status)));
                    if let Some((mark, status)) = ended {
                        self.leftovers.note(pid, mark, self.term, now());
                        told(self, child, status)?;
                    }
                }
                Ok(None) => return Ok(Left::Some),
                Err(Errno::INTR) => {}
                Err(_no_children) => return Ok(Left::None),
            }
        }
    }

    /// Ends every descendant: TERM, then KILL, until the system says that none is left.
    ///
    /// Only direct children get a signal, because only their ids are certain as long as we have not reaped
    /// them; what they leave behind becomes our direct child in the next round.
    fn end_all(&mut self) {
        let start = now();
        let mut termed = HashSet::new();
        let mut kills = 0;
        while kills < MIN_KILLS || now() < start + self.term + KILL_TIME {
            let reaped = self.reap(|_, _, _| Ok(()));
            if matches!(reaped, Ok(Left::None)) {
                return;
            }
            let killing = now() >= start + self.term;
            kills += u32::from(killing);
            for child in self.to_end() {
                if killing {
                    signal(child, Signal::KILL);
                } else if termed.insert(child.pid) {
                    signal(child, Signal::TERM);
                }
            }
            self.await_signal(LOOK_AGAIN);
        }
    }

    /// Whom to signal: what the system says are our children, or else those we know of.
    fn to_end(&self) -> Vec<DirectChild> {
        let found = direct_children();
        if !found.is_empty() {
            return found;
        }
        self.running.keys().map(|child| child.0.cast_signed()).map(|pid| DirectChild { pid, group: pid }).collect()
    }

    /// Waits for the next SIGCHLD, but not for long: a grandchild changes parents without one.
    fn await_signal(&mut self, at_most: Duration) {
        let at_most = Timespec::try_from(at_most).ok();
        let mut fds = [PollFd::new(&self.child_signal, PollFlags::IN)];
        let _ = poll(&mut fds, at_most.as_ref());
        self.take_signals();
    }
}

fn spawn(command: &Command, [stdin, stdout, stderr]: [OwnedFd; 3], mark: &str) -> io::Result<ChildId> {
    let mut process = std::process::Command::new(&command.program);
    if command.env_clear {
        process.env_clear();
    }
    if let Some(cwd) = &command.cwd {
        process.current_dir(cwd);
    }
    for name in &command.env_remove {
        process.env_remove(name);
    }
    process
        .args(&command.args)
        .envs(command.env.iter().map(|(key, value)| (key, value)))
        .env(MARK, mark)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0);
    die_with_us(&mut process);
    // Dropping the handle neither kills nor reaps: that is the loop's work.
    process.spawn().map(|child| ChildId(child.id()))
}

/// The belt beside the braces: should the keeper itself be killed, its direct children are too.
///
/// The one island of unsafe code in this crate. Safe code has no way to run anything between `fork` and
/// `exec`, and a trampoline program would hide from us why a program could not be started.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the island: see above")]
fn die_with_us(process: &mut std::process::Command) {
    let set = || Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `set` is one system call,
    // `prctl`, made without allocating, locking or touching memory that another thread may hold.
    unsafe { process.pre_exec(set) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_us(_process: &mut std::process::Command) {}

fn pid(child: ChildId) -> Option<Pid> {
    Pid::from_raw(child.0.cast_signed())
}

fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    let code = status.exit_status().map(ExitStatus::Code);
    code.or_else(|| status.terminating_signal().map(ExitStatus::Signal))
}

/// This process has no runtime, and no tests on paused time.
#[expect(clippy::disallowed_methods, reason = "a process of its own")]
fn now() -> Instant {
    Instant::now()
}

/// How often to look for new orphans while ending everything.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
