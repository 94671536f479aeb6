//! HTTP on blocking sockets, no more of it than the benches need, and a proxy to send it to.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
};

pub(crate) const PROXY: &str = env!("CARGO_BIN_EXE_shadowcat");

/// One connection of a client, or of the server.
pub(crate) struct Wire {
    pub(crate) reader: BufReader<TcpStream>,
    pub(crate) writer: TcpStream,
}

/// What is read of the head of a message.
#[derive(Default)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) len: usize,
    pub(crate) is_chunked: bool,
    pub(crate) session: Option<String>,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(address)?)
    }

    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { writer: stream.try_clone()?, reader: BufReader::with_capacity(128 << 10, stream) })
    }

    pub(crate) fn write(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())
    }

    /// `None` at the end.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        let mut head = Head::default();
        if self.reader.read_line(&mut head.start)? == 0 {
            return Ok(None);
        }
        let mut line = String::new();
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { return Ok(Some(head)) };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.len = value.trim().parse().expect("a length"),
                "transfer-encoding" => head.is_chunked = true,
                "mcp-session-id" => head.session = Some(value.trim().to_owned()),
                _ => {}
            }
        }
    }
}

/// Where a server of ours listens; each connection is `live`'s, in a thread of its own.
pub(crate) fn serve(live: impl Fn(Wire) -> io::Result<()> + Clone + Send + 'static) -> io::Result<SocketAddr> {
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            let live = live.clone();
            thread::spawn(move || live(Wire::new(stream)?));
        }
    });
    Ok(address)
}

/// A proxy that listens, and where.
pub(crate) fn proxy(upstream: &[&str]) -> io::Result<(Child, SocketAddr)> {
    let mut proxy =
        Command::new(PROXY).args(["proxy", "--listen", "127.0.0.1:0"]).args(upstream).stderr(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let mut stderr = BufReader::new(proxy.stderr.take().expect("a pipe"));
    while !line.contains("listening on ") {
        line.clear();
        assert!(stderr.read_line(&mut line)? > 0, "the proxy does not listen");
    }
    thread::spawn(move || io::copy(&mut stderr, &mut io::sink()));
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    Ok((proxy, address.parse().expect("an address")))
}
