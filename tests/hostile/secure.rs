//! A server over HTTP/2 and TLS for tables: every frame of it is a row's. TLS is spoken by a thread in between, so that a
//! row only has to know bytes; whatever the client sends is read at once, so that no row stands still for it.

use std::{
    fs,
    io::{self, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustls::crypto::ring;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::runtime;
use tokio_rustls::TlsAcceptor;

use crate::{
    http2::{ACK, DATA, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame},
    support::DEADLINE,
    temp::TempDir,
};

/// A listening server.
pub(crate) struct Secure {
    port: u16,
    /// Which row it is to act out. [`RIGHT`]: none, and what waits is answered rightly.
    pub(crate) row: Arc<AtomicUsize>,
    /// How many connections there were.
    pub(crate) connections: Arc<AtomicUsize>,
    /// The certificate to believe.
    pub(crate) certificate: PathBuf,
    _folder: TempDir,
}

/// No row of any table.
pub(crate) const RIGHT: usize = usize::MAX;

/// A connection, seen from the server.
pub(crate) struct Peer {
    to: TcpStream,
    frames: mpsc::Receiver<Frame>,
    row: Arc<AtomicUsize>,
    /// What may be sent on the connection, and on each of its streams.
    windows: (usize, usize),
}

/// A frame of the client's.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A request that came whole.
pub(crate) struct Posted {
    pub(crate) stream: u32,
    pub(crate) body: Vec<u8>,
}

impl Secure {
    /// Does with each connection what `serve` says.
    pub(crate) fn start(serve: fn(&mut Peer) -> io::Result<()>) -> Self {
        let folder = TempDir::new().unwrap();
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = folder.join("root.pem");
        fs::write(&certificate, key.cert.pem()).unwrap();
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = config.with_single_cert(vec![key.cert.der().clone()], private).unwrap();
        config.alpn_protocols = vec![b"h2".into()];
        let (row, connections) = (Arc::new(AtomicUsize::new(RIGHT)), Arc::new(AtomicUsize::new(0)));
        let behind = plain(serve, Arc::clone(&row), Arc::clone(&connections));
        let port = secured(TlsAcceptor::from(Arc::new(config)), behind);
        Self { port, row, connections, certificate, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/mcp", self.port)
    }
}

/// The server behind TLS, a thread for each connection.
fn plain(serve: fn(&mut Peer) -> io::Result<()>, row: Arc<AtomicUsize>, connections: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for to in listener.incoming().flatten() {
            connections.fetch_add(1, Ordering::Relaxed);
            let (from, row) = (to.try_clone().unwrap(), Arc::clone(&row));
            let (told, frames) = mpsc::channel();
            // Connections that break off are what tables are about.
            thread::spawn(move || read(&mut BufReader::new(from), &told));
            thread::spawn(move || {
                let mut peer = Peer { to, frames, row, windows: (INITIAL_WINDOW, INITIAL_WINDOW) };
                let _broken_off = serve(&mut peer);
                let _ = peer.to.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    address
}

/// Reads frames until the client leaves.
fn read(from: &mut BufReader<TcpStream>, told: &mpsc::Sender<Frame>) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    from.read_exact(&mut preface)?;
    assert_eq!(preface, PREFACE);
    loop {
        let mut head = [0; 9];
        from.read_exact(&mut head)?;
        let [high, mid, low, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::from(high) << 16 | usize::from(mid) << 8 | usize::from(low)];
        from.read_exact(&mut payload)?;
        let _gone = told.send(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload });
    }
}

/// TLS in front of what listens at `behind`; the port of it.
fn secured(tls: TlsAcceptor, behind: SocketAddr) -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            while let Ok((stream, _)) = socket.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let mut front = tls.accept(stream).await?;
                    let mut back = tokio::net::TcpStream::connect(behind).await?;
                    back.set_nodelay(true)?;
                    tokio::io::copy_bidirectional(&mut front, &mut back).await
                });
            }
        });
    });
    port
}

impl Peer {
    /// The row to act out now.
    pub(crate) fn row(&self) -> usize {
        self.row.load(Ordering::SeqCst)
    }

    /// Says nothing until the row is over.
    pub(crate) fn await_right(&self) {
        while self.row() != RIGHT {
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)
    }

    /// The same again and again.
    pub(crate) fn flood(&mut self, bytes: &[u8], count: usize) -> io::Result<()> {
        crate::requests::flood(&mut self.to, bytes, bytes.len() * count)
    }

    /// Says as a good server does how it will have it, and that it has heard what the client said about that.
    pub(crate) fn greet(&mut self) -> io::Result<()> {
        self.write(&[frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat())
    }

    fn frame(&mut self) -> io::Result<Frame> {
        let frame = self.frames.recv_timeout(DEADLINE).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let word = |at: usize| frame.payload.get(at..at + 4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
        match (frame.kind, frame.stream) {
            (WINDOW_UPDATE, 0) => self.windows.0 += word(0).unwrap() as usize,
            (WINDOW_UPDATE, _) => self.windows.1 += word(0).unwrap() as usize,
            (SETTINGS, _) if frame.flags == 0 => {
                let initial = frame.payload.chunks_exact(6).find(|setting| setting[..2] == [0, 4]);
                self.windows.1 = initial
                    .map_or(INITIAL_WINDOW, |setting| u32::from_be_bytes(setting[2..].try_into().unwrap()) as usize);
            }
            _ => {}
        }
        Ok(frame)
    }

    /// The next request that has come whole. No two come at a time here.
    pub(crate) fn posted(&mut self) -> io::Result<Posted> {
        let mut body = Vec::new();
        loop {
            let frame = self.frame()?;
            match frame.kind {
                HEADERS => body.clear(),
                DATA => body.extend_from_slice(&frame.payload),
                _ => continue,
            }
            if frame.flags & END_STREAM != 0 {
                return Ok(Posted { stream: frame.stream, body });
            }
        }
    }

    /// Awaits that the client has had enough of a stream, or of the connection.
    pub(crate) fn await_end(&mut self, stream: u32) {
        while self.frame().is_ok_and(|frame| (frame.kind, frame.stream) != (RST_STREAM, stream)) {}
    }

    /// Sends so much of a body as the client lets it send, up to `len` bytes, or until it has had enough.
    pub(crate) fn body(&mut self, stream: u32, piece: &[u8], len: usize) -> io::Result<()> {
        let data = frame(DATA, 0, stream, piece);
        let mut sent = 0;
        while sent < len {
            while self.windows.0 < piece.len() || self.windows.1 < piece.len() {
                let frame = self.frame()?;
                if (frame.kind, frame.stream) == (RST_STREAM, stream) {
                    return Ok(());
                }
            }
            self.windows = (self.windows.0 - piece.len(), self.windows.1 - piece.len());
            self.write(&data)?;
            sent += piece.len();
        }
        Ok(())
    }
}

/// Before anybody has said otherwise (RFC 9113, 6.9.2).
const INITIAL_WINDOW: usize = 65_535;
