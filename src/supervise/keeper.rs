//! The keeper: one small process per proxy that starts the children and outlives us by a moment.
//!
//! A parent-death signal follows the *thread* that spawned and is not inherited by grandchildren, and a dead
//! subreaper reaps nothing; so a proxy that is killed with SIGKILL cannot keep its promise to leave nothing
//! behind by itself. The keeper can: it holds one end of a socket, is the subreaper of everything started
//! under it, and when the socket ends it ends them all, TERM first, KILL after the time it was told. What a child
//! leaves behind when it ends by itself is ended too.
//!
//! ```text
//!   client ── proxy ─────── socket ─────── keeper (subreaper, its own process group)
//!               │                             │ fork + exec, with pipes the proxy made
//!               └── stdin, stdout, stderr ── child (its own group) ── grandchildren
//! ```
//!
//! The keeper is this program, re-executed under an internal name: a program that uses this library must
//! call [`run_if_keeper`] first thing in `main`. Bytes to and from the child never pass through it.
//!
//! If the keeper itself is killed with SIGKILL, the child is ended by its parent-death signal (Linux), and what is
//! left in the child's process group by us in [`Keeper::finish`]; what has left the group too, in a program that
//! [adopts] it. What the keeper cannot do: if it and we are killed at the same moment, what is left only sees the
//! end of its input.
//!
//! [adopts]: adopt_orphans

mod descent;
mod leftovers;
mod orphans;
mod process;
mod wire;

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream as BlockingStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use bytes::BytesMut;
use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Pid, Signal, kill_process},
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt as _, Interest, ReadBuf},
    net::UnixStream,
};

use super::{ChildId, Command, ExitStatus, SpawnError, ladder::Push};
use crate::transport::{PipeWriter, Reader, Writer};
pub use orphans::adopt_orphans;
use wire::{Event, Request};

/// Our end of the keeper. Dropping it makes the keeper end everything it started.
#[derive(Debug)]
pub struct Keeper {
    /// Dropped before `process`, whose end it is.
    socket: UnixStream,
    process: Process,
    /// Bytes of events not yet complete.
    unread: BytesMut,
    /// Exits that came while an answer was being waited for.
    exits: Vec<(ChildId, ExitStatus)>,
    /// Children that have not exited, as far as we were told.
    running: Vec<ChildId>,
    /// How long who gets TERM from the keeper may take to end.
    term: Duration,
}

/// The keeper's process. Dropped, it is reaped when it has ended, by a thread that does nothing else: whoever drops
/// a keeper cannot wait, and a process that nobody waits for stays in the system's table.
#[derive(Debug)]
struct Process(Option<std::process::Child>);

/// A running child and our ends of its pipes.
#[derive(Debug)]
pub struct Child {
    /// Its name.
    pub id: ChildId,
    /// Its standard input.
    pub stdin: Writer,
    /// Its standard output.
    pub stdout: Reader,
    /// Its standard error, which must be drained.
    pub stderr: Reader,
}

impl Child {
    /// Lets the pipes of its messages be made larger, once they are found full. For one child, not for hundreds: see
    /// [`transport::pipe`](crate::transport::pipe).
    #[must_use]
    pub fn widening(self) -> Self {
        Self { stdin: self.stdin.widening(), stdout: self.stdout.widening(), ..self }
    }
}

/// The child's ends of its pipes, on their way to the keeper.
struct ChildEnds {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// If this process was started to be a keeper, is one until it ends. Call it first thing in `main`.
#[must_use]
pub fn run_if_keeper() -> Option<ExitCode> {
    let is_keeper = std::env::args_os().nth(1).is_some_and(|first| first == INTERNAL_NAME);
    is_keeper.then(|| {
        let term = std::env::args_os().nth(2).and_then(|millis| millis.to_str()?.parse().ok());
        process::run(term.map_or(TERM_TIME, Duration::from_millis))
    })
}

impl Keeper {
    /// Starts the keeper: this very program again, which must call [`run_if_keeper`].
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start() -> io::Result<Self> {
        Self::start_with(TERM_TIME)
    }

    /// As [`start`](Self::start); whoever it has to end gets the time `term` between TERM and KILL.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start_with(term: Duration) -> io::Result<Self> {
        let (ours, theirs) = BlockingStream::pair()?;
        ours.set_nonblocking(true)?;
        // Held, so that nobody takes this one for an orphan before it is known.
        let mut keepers = orphans::keepers();
        let process = std::process::Command::new(our_program()?)
            .arg0("shadowcat-keeper")
            .arg(INTERNAL_NAME)
            .arg(term.as_millis().to_string())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals from the terminal are for us; the keeper ends when we do.
            .process_group(0)
            .spawn()?;
        let socket = UnixStream::from_std(ours)?;
        keepers.push(process.id());
        drop(keepers);
        let process = Process(Some(process));
        Ok(Self { socket, process, unread: BytesMut::new(), exits: Vec::new(), running: Vec::new(), term })
    }

    /// How long who gets TERM from the keeper may take to end.
    #[must_use]
    pub fn term(&self) -> Duration {
        self.term
    }

    /// How many children run, as far as we were told.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// How many processes the keeper has beyond the children that run, as far as we were told: what others left
    /// behind. `None` where nobody can tell.
    #[must_use]
    pub fn unaccounted(&self) -> Option<usize> {
        descent::count_beyond(self.process.0.as_ref()?.id(), self.running.len())
    }

    /// Starts a child in a process group of its own, with pipes for stdin, stdout and stderr.
    ///
    /// # Errors
    ///
    /// If the program cannot be started, or the keeper is gone.
    ///
    /// # Cancel safety
    ///
    /// None: a child may have been started that nobody knows of. It ends with the keeper.
    pub async fn spawn(&mut self, command: &Command) -> Result<Child, SpawnError> {
        if let Some(cwd) = &command.cwd {
            check_directory(cwd).map_err(|source| SpawnError::Directory { cwd: cwd.clone(), source })?;
        }
        let (stdin_theirs, stdin_ours) = pipe()?;
        let (stdout_ours, stdout_theirs) = pipe()?;
        let (stderr_ours, stderr_theirs) = pipe()?;
        let ends = ChildEnds { stdin: stdin_theirs, stdout: stdout_theirs, stderr: stderr_theirs };
        // Before there is a child, or one whose pipes cannot be used would run on.
        rustix::io::ioctl_fionbio(&stdin_ours, true).map_err(io::Error::from)?;
        let stdin = Writer::Pipe(PipeWriter::new(stdin_ours)?);
        let (stdout, stderr) = (Reader::pipe(stdout_ours)?, Reader::pipe(stderr_ours)?);
        self.send(&Request::Spawn(command.clone()), Some(&ends)).await?;
        drop(ends);
        let id = loop {
            match poll_fn(|cx| self.poll_event(cx)).await? {
                Event::Spawned(id) => break id,
                Event::Failed(errno) => {
                    let source = io::Error::from_raw_os_error(errno);
                    return Err(SpawnError::Program { program: command.program.clone(), source });
                }
                Event::Exited(id, status) => self.exits.push((id, status)),
            }
        };
        self.running.push(id);
        Ok(Child { id, stdin, stdout, stderr })
    }

    /// Sends a signal to the child's process group, unless it was reaped already.
    ///
    /// # Errors
    ///
    /// If the keeper is gone.
    ///
    /// # Cancel safety
    ///
    /// None: half a request may have been written.
    pub async fn push(&mut self, child: ChildId, push: Push) -> io::Result<()> {
        // A keeper that somebody stopped would do nothing of it.
        self.process.wake();
        self.send(&Request::Push(child, push), None).await
    }

    /// The next child that ended.
    ///
    /// # Errors
    ///
    /// If the keeper is gone.
    ///
    /// # Cancel safety
    ///
    /// Safe: an exit that was not returned is returned by the next call.
    pub async fn next_exit(&mut self) -> io::Result<(ChildId, ExitStatus)> {
        let (id, status) = match self.exits.pop() {
            Some(exit) => exit,
            None => match poll_fn(|cx| self.poll_event(cx)).await? {
                Event::Exited(id, status) => (id, status),
                Event::Spawned(_) | Event::Failed(_) => return Err(io::ErrorKind::InvalidData.into()),
            },
        };
        self.running.retain(|&running| running != id);
        Ok((id, status))
    }

    /// Lets the keeper end everything that is left, and waits until it has: at most the time between TERM and KILL,
    /// and a moment.
    ///
    /// # Errors
    ///
    /// If the keeper cannot be waited for.
    pub fn finish(self) -> io::Result<()> {
        let Self { socket, process: mut kept, running, term, .. } = self;
        drop(socket);
        kept.wake();
        let Some(mut process) = kept.0.take() else { return Ok(()) };
        let waited = process.wait();
        orphans::forget(process.id());
        match waited {
            Ok(status) if status.success() => Ok(()),
            Ok(_killed) => {
                running.into_iter().for_each(orphans::kill_group);
                orphans::end_if_ours(term);
                Ok(())
            }
            // Whoever started us ignores SIGCHLD, and so do we; the wait was long enough all the same.
            Err(error) if error.raw_os_error() == Some(Errno::CHILD.raw_os_error()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn send(&mut self, request: &Request, ends: Option<&ChildEnds>) -> io::Result<()> {
        let bytes = request.encode();
        let fds = ends.map(|ends| [ends.stdin.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd()]);
        let sent = loop {
            self.socket.writable().await?;
            let sent = self.socket.try_io(Interest::WRITABLE, || {
                let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if let Some(fds) = &fds {
                    control.push(SendAncillaryMessage::ScmRights(fds));
                }
                Ok(sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => break sent?,
            }
        };
        self.socket.write_all(bytes.get(sent..).unwrap_or_default()).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        loop {
            if let Some(event) = Event::decode(&mut self.unread)? {
                return Poll::Ready(Ok(event));
            }
            let mut chunk = [0; 64];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(std::pin::Pin::new(&mut self.socket).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the keeper process ended")));
            }
            self.unread.extend_from_slice(chunk.filled());
        }
    }
}

impl Process {
    /// Lets it go on if it was stopped. Not reaped yet, its id is its own.
    fn wake(&self) {
        if let Some(pid) = self.0.as_ref().and_then(|process| Pid::from_raw(process.id().cast_signed())) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut process) = self.0.take()
            && !matches!(process.try_wait(), Ok(Some(_)))
        {
            // Without a thread there is a zombie until we end, and nothing else can be done.
            let reap = move || {
                let _ = process.wait();
                orphans::forget(process.id());
            };
            let _ = thread::Builder::new().name("reaper".to_owned()).spawn(reap);
        }
    }
}

/// The system's error for a directory it cannot enter is the same as for a program that is not there; this tells
/// the two apart. It need not be readable.
fn check_directory(cwd: &Path) -> io::Result<()> {
    if std::fs::metadata(cwd)?.is_dir() { Ok(()) } else { Err(Errno::NOTDIR.into()) }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    // Made without inheritance in mind: what the child gets is what the keeper puts on its 0, 1 and 2.
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), writer.into()))
}

/// How long what is left may take to end after TERM, if nothing else was said.
pub const TERM_TIME: Duration = Duration::from_secs(2);

/// In the environment of a child and of what it starts: whose they are. What leaves its process group is found by it. A
/// program that uses this library must not read settings from a variable of this name.
pub const MARK: &str = "SHADOWCAT_OWNER";

/// What the re-executed program finds as its first argument.
const INTERNAL_NAME: &str = "__keeper";

/// The running program, also when its file was replaced in the meantime.
#[cfg(target_os = "linux")]
fn our_program() -> io::Result<PathBuf> {
    Ok("/proc/self/exe".into())
}

#[cfg(not(target_os = "linux"))]
fn our_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}
