//! `notifications/cancelled`, as we write it ourselves (rule C1): a server is told that nobody waits for its answer any
//! more, a client that its subscription has ended.

use bytes::{BufMut as _, BytesMut};

/// Appends the message to `buf`, without a line end. `reason` is plain words, with nothing to escape.
pub fn write_cancelled(buf: &mut BytesMut, id: &[u8], reason: &str) {
    buf.put_slice(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":");
    buf.put_slice(id);
    buf.put_slice(b",\"reason\":\"");
    buf.put_slice(reason.as_bytes());
    buf.put_slice(b"\"}}");
}
