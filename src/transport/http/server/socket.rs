//! What is listened at, and what comes in there: TCP or a file.

#[cfg(unix)]
use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::server::TlsStream;

use super::Peer;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// An address of this machine.
    Tcp(SocketAddr),
    /// A file.
    #[cfg(unix)]
    Unix(PathBuf),
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

/// A connection's bytes.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// The file of a Unix socket. Removed when dropped, if it is still ours.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Socket {
    pub(super) async fn bind(address: &Address) -> io::Result<Self> {
        Ok(match address {
            Address::Tcp(address) => Self::Tcp(TcpListener::bind(address).await?),
            #[cfg(unix)]
            Address::Unix(path) => {
                remove_stale(path).await?;
                let (listener, file) = bind_file(path)?;
                Self::Unix { listener, _file: file }
            }
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            #[cfg(unix)]
            Self::Unix { .. } => Ok(None),
        }
    }

    /// The next connection. That one could not be accepted, for want of descriptors or because its client
    /// has left already, is no reason to accept no more. Cancel-safe.
    pub(super) async fn accept(&self) -> (Stream, Peer) {
        let mut has_failed = false;
        loop {
            let accepted = match self {
                Self::Tcp(listener) => listener.accept().await.map(|(stream, address)| {
                    tune(&stream);
                    (Stream::Tcp(stream), Peer { address: Some(address) })
                }),
                #[cfg(unix)]
                Self::Unix { listener, .. } => {
                    listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), Peer { address: None }))
                }
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) if has_failed => tracing::debug!(%error, "still cannot accept a connection"),
                Err(error) => tracing::warn!(%error, "cannot accept a connection"),
            }
            has_failed = true;
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

fn tune(stream: &TcpStream) {
    // Nagle's algorithm holds small writes back for up to 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    // A stream on which we only listen would never learn that its client's machine is gone.
    #[cfg(target_os = "linux")]
    {
        use rustix::net::sockopt;
        let kept = sockopt::set_socket_keepalive(stream, true);
        if let Err(error) = kept.and_then(|()| sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)) {
            tracing::debug!(%error, "cannot set SO_KEEPALIVE");
        }
    }
}

/// How long a connection is silent before the system asks whether its other end is there.
#[cfg(target_os = "linux")]
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Removes the socket of a listener that is gone. What is no socket stays, and so does one that answers.
#[cfg(unix)]
async fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists and is no socket"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) => return Err(error),
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there already")),
    }
    // Another listener may have done the same by now; its socket is another file.
    SocketFile { path: path.to_owned(), identity: (found.dev(), found.ino()) }.remove()
}

/// Binds first, takes everybody else's rights away then, and only then listens: before that, connections are
/// refused, so nobody gets in between.
#[cfg(unix)]
fn bind_file(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket_with};
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, socket_flags(), None)?;
    bind(&fd, &SocketAddrUnix::new(path)?)?;
    let found = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: (found.dev(), found.ino()) };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listen(&fd, BACKLOG)?;
    let listener = std::os::unix::net::UnixListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok((UnixListener::from_std(listener)?, file))
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn socket_flags() -> rustix::net::SocketFlags {
    rustix::net::SocketFlags::CLOEXEC
}

/// Elsewhere the flag is not there; our children get no descriptors but those the keeper gives them.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_os = "freebsd"))))]
fn socket_flags() -> rustix::net::SocketFlags {
    rustix::net::SocketFlags::empty()
}

/// Connections that may wait to be accepted, as tokio has it for TCP.
#[cfg(unix)]
const BACKLOG: i32 = 1024;

#[cfg(unix)]
impl SocketFile {
    fn remove(&self) -> io::Result<()> {
        let found = fs::symlink_metadata(&self.path)?;
        if (found.dev(), found.ino()) == self.identity { fs::remove_file(&self.path) } else { Ok(()) }
    }
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever removed it before us has done what we wanted.
        let _ = self.remove();
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            #[cfg(unix)]
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
