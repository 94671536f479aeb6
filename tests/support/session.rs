//! A proxy as a client starts it: its pipes, its end, and what is left of it.
//!
//! Every wait has a bound, and everything a session starts carries a mark in its environment, so that what is
//! left of it can be found wherever it went. Dropping a session asserts that nothing is.

mod output;
mod processes;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::{ChildStdin, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) use output::Output;
pub(crate) use processes::{Process, eventually, processes};

/// No wait takes longer. Nothing that works comes near it, also on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How a proxy is to be started.
pub(crate) struct Launch {
    command: Command,
    mark: String,
}

/// A running proxy, seen from its client.
pub(crate) struct Session {
    pub(crate) pid: u32,
    /// `None` when the test brought its own, or has closed it.
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    exit: mpsc::Receiver<io::Result<std::process::ExitStatus>>,
    mark: String,
}

/// How a proxy ended, and what it had not been asked for before.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Launch {
    /// `shadowcat` with these arguments.
    pub(crate) fn new<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::of(env!("CARGO_BIN_EXE_shadowcat"), args)
    }

    /// Another program, which starts one.
    pub(crate) fn of<S: Into<OsString>>(program: &str, args: impl IntoIterator<Item = S>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("SHADOWCAT_TEST={}-{}-", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(program);
        if let Some((key, value)) = mark.split_once('=') {
            command.env(key, value);
        }
        // Whatever a test is about: what leaves is what came in.
        command.env("SHADOWCAT_VERIFY", "true");
        command.args(args.into_iter().map(Into::into));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, mark }
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    pub(crate) fn start(mut self) -> Session {
        let mut child = self.command.spawn().unwrap();
        let pid = child.id();
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (told, exit) = mpsc::channel();
        thread::spawn(move || told.send(child.wait()));
        let stdout = stdout.map_or_else(Output::closed, Output::new);
        let stderr = stderr.map_or_else(Output::closed, Output::new);
        Session { pid, stdin, stdout, stderr, exit, mark: self.mark }
    }
}

impl Session {
    /// A proxy with these options in front of a server that is a shell script.
    pub(crate) fn of_script(options: &[&str], script: &str) -> Self {
        Self::of_server(options, &["sh", "-c", script])
    }

    /// A proxy with these options in front of this server.
    pub(crate) fn of_server(options: &[&str], server: &[&str]) -> Self {
        Launch::new([&["proxy"], options, &["--"], server].concat()).start()
    }

    /// Writes bytes to the proxy's stdin.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stdin.as_mut().unwrap().write_all(bytes.as_ref()).unwrap();
    }

    /// Closes the proxy's stdin and awaits its end.
    pub(crate) fn end(&mut self) -> Ended {
        self.stdin = None;
        self.wait()
    }

    /// Awaits the proxy's end, and reads what is left to read.
    pub(crate) fn wait(&mut self) -> Ended {
        let stdout = String::from_utf8_lossy(&self.stdout.rest()).into_owned();
        let stderr = String::from_utf8_lossy(&self.stderr.rest()).into_owned();
        Ended { code: self.wait_unread(), stdout, stderr }
    }

    /// Awaits the proxy's end without reading anything. `None`: by a signal.
    pub(crate) fn wait_unread(&self) -> Option<i32> {
        self.exit.recv_timeout(DEADLINE).expect("the proxy ends in time").unwrap().code()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal);
    }

    /// Everything that runs because of this session.
    pub(crate) fn processes(&self) -> Vec<Process> {
        processes(&self.mark)
    }

    /// The process of this session whose command line starts with `words`, once it is there.
    pub(crate) fn process(&self, words: &str) -> u32 {
        let mut found = None;
        eventually(words, || {
            found = self.processes().iter().find(|process| process.words.starts_with(words)).map(|process| process.pid);
            found.is_some()
        });
        found.unwrap()
    }

    /// Awaits that nothing of this session runs any more.
    pub(crate) fn assert_gone(&self) {
        eventually("nothing is left behind", || self.processes().is_empty());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stdin = None;
        (self.stdout, self.stderr) = (Output::closed(), Output::closed());
        if !thread::panicking() {
            self.assert_gone();
        }
        // Only after a failure is there anything. In rounds, for what starts or changes parents meanwhile.
        for _ in 0..10 {
            self.processes().iter().for_each(|process| kill(process.pid, Signal::KILL));
        }
    }
}

/// Sends a signal to one process, if it is still there.
pub(crate) fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _gone_already = kill_process(pid, signal);
    }
}
