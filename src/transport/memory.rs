//! A connected pair of byte streams inside one process, for tests and for documentation.
//!
//! Bounded like a pipe: a writer waits when `capacity` bytes are unread.

use tokio::io::DuplexStream;

use super::{Reader, Writer};

/// One side of an in-memory connection.
#[derive(Debug)]
pub struct End {
    /// What the other side writes.
    pub reader: Reader,
    /// What the other side reads. Dropping it is the end of the stream.
    pub writer: Writer,
}

/// Two connected ends. Each direction holds at most `capacity` bytes and ends on its own.
///
/// # Example
///
/// ```
/// use std::{future::poll_fn, io::IoSlice};
/// use bytes::BytesMut;
/// use shadowcat::transport::memory;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let (mut here, mut there) = memory::pair(1024);
/// poll_fn(|cx| here.writer.poll_write(cx, &[IoSlice::new(b"{}\n")])).await?;
/// let mut buf = BytesMut::with_capacity(16);
/// poll_fn(|cx| there.reader.poll_read(cx, &mut buf)).await?;
/// assert_eq!(&buf[..], b"{}\n");
/// # std::io::Result::Ok(()) })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn pair(capacity: usize) -> (End, End) {
    let (here_out, there_in) = tokio::io::duplex(capacity);
    let (there_out, here_in) = tokio::io::duplex(capacity);
    (End::new(here_in, here_out), End::new(there_in, there_out))
}

impl End {
    fn new(reader: DuplexStream, writer: DuplexStream) -> Self {
        Self { reader: Reader::Memory(reader), writer: Writer::Memory(writer) }
    }
}
