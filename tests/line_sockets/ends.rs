//! Both ends of a proxy that are sockets: what listens, its clients, and a server a test speaks for.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::Signal;

use super::support::{DEADLINE, Ended, Launch, Session};

/// A proxy that listens for lines.
pub(crate) struct Lines {
    pub(crate) session: Session,
    /// Where it says that it is.
    pub(crate) address: String,
}

/// One connection, from either end.
pub(crate) struct Conn {
    stream: Stream,
    reader: BufReader<Stream>,
}

/// A server whose connections a test serves itself.
pub(crate) struct Server {
    pub(crate) address: String,
    accepted: mpsc::Receiver<Stream>,
}

pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Lines {
    pub(crate) fn start(listen: &str, options: &[&str], server: &[&str]) -> Self {
        let mut session = Launch::new([&["proxy", "--listen", listen], options, server].concat()).start();
        let line = session.stderr.line_with("listening on ");
        let address = line.rsplit("listening on ").next().unwrap().to_owned();
        Self { session, address }
    }

    pub(crate) fn connect(&self) -> Conn {
        Conn::new(match self.address.split_once(':').unwrap() {
            ("unix", path) => Stream::Unix(UnixStream::connect(path).unwrap()),
            (_, address) => Stream::Tcp(TcpStream::connect(address).unwrap()),
        })
    }

    /// Stops it as a supervisor does; it ends well.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> Ended {
        self.session.signal(Signal::TERM);
        let ended = self.session.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        self.session.assert_gone();
        ended
    }
}

impl Drop for Lines {
    /// It would run for ever. Found by its mark: its id may be another's by now.
    fn drop(&mut self) {
        for process in self.session.processes() {
            if process.pid == self.session.pid {
                self.session.signal(Signal::KILL);
            }
        }
    }
}

impl Server {
    pub(crate) fn tcp() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp:{}", listener.local_addr().unwrap());
        let (told, accepted) = mpsc::channel();
        thread::spawn(move || listener.accept().map(|(stream, _)| told.send(Stream::Tcp(stream))));
        Self { address, accepted }
    }

    pub(crate) fn unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let address = format!("unix:{}", path.display());
        let (told, accepted) = mpsc::channel();
        thread::spawn(move || listener.accept().map(|(stream, _)| told.send(Stream::Unix(stream))));
        Self { address, accepted }
    }

    /// Its one connection, once it is there.
    pub(crate) fn accept(&self) -> Conn {
        Conn::new(self.accepted.recv_timeout(DEADLINE).expect("a connection in time"))
    }
}

impl Conn {
    fn new(stream: Stream) -> Self {
        match &stream {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.set_nodelay(true).unwrap();
            }
            Stream::Unix(stream) => stream.set_read_timeout(Some(DEADLINE)).unwrap(),
        }
        let reader = BufReader::new(stream.try_clone());
        Self { stream, reader }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends to somebody who may hang up meanwhile.
    pub(crate) fn send_if_taken(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub(crate) fn send_meanwhile(&self, bytes: String) -> thread::JoinHandle<()> {
        let mut stream = self.stream.try_clone();
        thread::spawn(move || stream.write_all(bytes.as_bytes()).unwrap())
    }

    /// The next line, without its end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        assert_eq!(line.pop(), Some('\n'), "the connection ended within {line:?}");
        line
    }

    /// Everything up to the end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).unwrap();
        rest
    }

    /// Everything up to the end, which may be a reset.
    #[track_caller]
    pub(crate) fn rest_or_reset(&mut self) -> String {
        let mut rest = Vec::new();
        if let Err(error) = self.reader.read_to_end(&mut rest) {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        }
        String::from_utf8(rest).unwrap()
    }

    /// Ends our output.
    pub(crate) fn finish(&self) {
        match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write).unwrap(),
        }
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) {
        if let Stream::Tcp(stream) = &self.stream {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
        }
    }
}

impl Stream {
    fn try_clone(&self) -> Self {
        match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone().unwrap()),
            Self::Unix(stream) => Self::Unix(stream.try_clone().unwrap()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
