//! What is listened at, and what comes in there: an address, or a file. What is spoken there is for whoever
//! accepts.

use std::{fmt, io, net::SocketAddr, time::Duration};
#[cfg(unix)]
use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

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

/// A bound socket. A Unix socket's file is removed when this is dropped, if it is still ours.
#[derive(Debug)]
pub struct Listening(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

/// A connected socket of our own.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// The file of a Unix socket. Removed when dropped, if it is still ours.
#[cfg(unix)]
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Listening {
    /// Listens at `address`; port 0 lets the system choose. A Unix socket is its owner's alone; what an earlier
    /// listener left in its place is replaced, one that is alive is not.
    ///
    /// # Errors
    ///
    /// If the address is taken, or not ours.
    ///
    /// # Cancel safety
    ///
    /// Safe; the socket of a listener that is gone may have been removed already.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        Ok(Self(match address {
            Address::Tcp(address) => Socket::Tcp(TcpListener::bind(address).await?),
            #[cfg(unix)]
            Address::Unix(path) => {
                remove_stale(path).await?;
                let (listener, file) = bind_file(path)?;
                Socket::Unix { listener, _file: file }
            }
        }))
    }

    /// The address with the port that the system chose. `None` for a Unix socket.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr().map(Some),
            #[cfg(unix)]
            Socket::Unix { .. } => Ok(None),
        }
    }

    /// The next connection, and who is at its other end if that has an address. That one could not be accepted, for want of descriptors or because its client
    /// has left already, is no reason to accept no more. Cancel-safe.
    pub(super) async fn accept(&self) -> (Stream, Option<SocketAddr>) {
        let mut has_failed = false;
        loop {
            let accepted = match &self.0 {
                Socket::Tcp(listener) => listener.accept().await.map(|(stream, address)| {
                    tune(&stream);
                    (Stream::Tcp(stream), Some(address))
                }),
                #[cfg(unix)]
                Socket::Unix { listener, .. } => {
                    listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), None))
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

pub(super) fn tune(stream: &TcpStream) {
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

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
