//! The messages between a proxy and its keeper: both are the same program, so there is no version.
//!
//! ```text
//!   len: u32   bytes behind it      kind: u8      fields, each len: u32 and its bytes
//! ```
//!
//! Three descriptors travel with the first byte of a `Spawn`: the child's stdin, stdout and stderr.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

use bytes::{Buf, BufMut, BytesMut};

use crate::supervise::{ChildId, Command, ExitStatus, ladder::Push};

/// What the proxy asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Spawn(Command),
    Push(ChildId, Push),
}

/// What the keeper tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Spawned(ChildId),
    /// The child could not be started; the system's error number.
    Failed(i32),
    Exited(ChildId, ExitStatus),
}

impl Request {
    pub(super) fn encode(&self) -> BytesMut {
        match self {
            Self::Spawn(command) => {
                let flags = [u8::from(command.env_clear), u8::from(command.cwd.is_some())];
                let cwd = command.cwd.as_deref().map_or_else(|| OsStr::new(""), Path::as_os_str);
                let mut message = Encoder::new(SPAWN);
                message.field(&flags).field(cwd.as_bytes()).number(command.env.len());
                for (key, value) in &command.env {
                    message.field(key.as_bytes()).field(value.as_bytes());
                }
                message.number(command.env_remove.len());
                for name in &command.env_remove {
                    message.field(name.as_bytes());
                }
                message.field(command.program.as_bytes());
                for arg in &command.args {
                    message.field(arg.as_bytes());
                }
                message.finish()
            }
            Self::Push(child, push) => {
                let push = match push {
                    Push::Terminate => 0,
                    Push::Kill => 1,
                };
                let mut message = Encoder::new(PUSH);
                message.field(&child.0.to_le_bytes()).field(&[push]);
                message.finish()
            }
        }
    }

    /// Takes one request off the front of `buf`; `None` if it is not all there yet.
    pub(super) fn decode(buf: &mut BytesMut) -> io::Result<Option<Self>> {
        let Some(mut body) = whole(buf) else { return Ok(None) };
        match body.try_get_u8() {
            Ok(SPAWN) => Self::decode_spawn(body).map(Some),
            Ok(PUSH) => {
                let child = ChildId(number(&mut body)?);
                let push = if field(&mut body)?[..] == [0] { Push::Terminate } else { Push::Kill };
                Ok(Some(Self::Push(child, push)))
            }
            _ => Err(malformed()),
        }
    }

    fn decode_spawn(mut body: BytesMut) -> io::Result<Self> {
        let flags = field(&mut body)?;
        let [env_clear, has_cwd] = flags[..] else { return Err(malformed()) };
        let cwd = text(&mut body)?;
        let mut command = Command { env_clear: env_clear == 1, ..Command::default() };
        command.cwd = (has_cwd == 1).then(|| cwd.into());
        for _ in 0..number(&mut body)? {
            command.env.push((text(&mut body)?, text(&mut body)?));
        }
        for _ in 0..number(&mut body)? {
            command.env_remove.push(text(&mut body)?);
        }
        command.program = text(&mut body)?;
        while body.has_remaining() {
            command.args.push(text(&mut body)?);
        }
        Ok(Self::Spawn(command))
    }
}

impl Event {
    pub(super) fn encode(&self) -> BytesMut {
        let mut message;
        match self {
            Self::Spawned(child) => {
                message = Encoder::new(SPAWNED);
                message.field(&child.0.to_le_bytes());
            }
            Self::Failed(errno) => {
                message = Encoder::new(FAILED);
                message.field(&errno.to_le_bytes());
            }
            Self::Exited(child, status) => {
                let (kind, value) = match status {
                    ExitStatus::Code(code) => (0, code),
                    ExitStatus::Signal(signal) => (1, signal),
                };
                message = Encoder::new(EXITED);
                message.field(&child.0.to_le_bytes()).field(&[kind]).field(&value.to_le_bytes());
            }
        }
        message.finish()
    }

    /// Takes one event off the front of `buf`; `None` if it is not all there yet.
    pub(super) fn decode(buf: &mut BytesMut) -> io::Result<Option<Self>> {
        let Some(mut body) = whole(buf) else { return Ok(None) };
        let event = match body.try_get_u8() {
            Ok(SPAWNED) => Self::Spawned(ChildId(number(&mut body)?)),
            Ok(FAILED) => Self::Failed(number(&mut body)?.cast_signed()),
            Ok(EXITED) => {
                let child = ChildId(number(&mut body)?);
                let is_code = field(&mut body)?[..] == [0];
                let value = number(&mut body)?.cast_signed();
                Self::Exited(child, if is_code { ExitStatus::Code(value) } else { ExitStatus::Signal(value) })
            }
            _ => return Err(malformed()),
        };
        Ok(Some(event))
    }
}

struct Encoder(BytesMut);

impl Encoder {
    fn new(kind: u8) -> Self {
        let mut buf = BytesMut::with_capacity(256);
        buf.put_u32_le(0);
        buf.put_u8(kind);
        Self(buf)
    }

    fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.put_u32_le(length(bytes.len()));
        self.0.put_slice(bytes);
        self
    }

    fn number(&mut self, number: usize) -> &mut Self {
        self.field(&length(number).to_le_bytes())
    }

    fn finish(mut self) -> BytesMut {
        let len = length(self.0.len() - LEN);
        if let Some(header) = self.0.get_mut(..LEN) {
            header.copy_from_slice(&len.to_le_bytes());
        }
        self.0
    }
}

/// The system refuses command lines long before this saturates.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn whole(buf: &mut BytesMut) -> Option<BytesMut> {
    let len = (&buf[..]).try_get_u32_le().ok()? as usize;
    (buf.len() >= LEN + len).then(|| {
        buf.advance(LEN);
        buf.split_to(len)
    })
}

fn field(body: &mut BytesMut) -> io::Result<BytesMut> {
    let len = body.try_get_u32_le().map_err(|_| malformed())? as usize;
    if len > body.len() {
        return Err(malformed());
    }
    Ok(body.split_to(len))
}

fn number(body: &mut BytesMut) -> io::Result<u32> {
    field(body)?.try_get_u32_le().map_err(|_| malformed())
}

fn text(body: &mut BytesMut) -> io::Result<OsString> {
    Ok(OsString::from_vec(field(body)?.into()))
}

#[cold]
fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed message between proxy and keeper")
}

/// Bytes of a message's length.
const LEN: usize = 4;
const SPAWN: u8 = 1;
const PUSH: u8 = 2;
const SPAWNED: u8 = 3;
const FAILED: u8 = 4;
const EXITED: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_way_also_in_pieces() {
        let command = Command {
            program: OsString::from_vec(b"pro\xffgram".to_owned().into()),
            args: vec!["".into(), "two words".into()],
            env: vec![("KEY".into(), "a=b".into()), ("EMPTY".into(), "".into())],
            env_remove: vec!["OURS".into()],
            env_clear: true,
            cwd: Some("/tmp".into()),
        };
        for request in [
            Request::Spawn(command),
            Request::Spawn(Command::new("x")),
            Request::Push(ChildId(7), Push::Terminate),
            Request::Push(ChildId(u32::MAX), Push::Kill),
        ] {
            let bytes = request.encode();
            let mut buf = BytesMut::new();
            for &byte in &bytes[..bytes.len() - 1] {
                buf.put_u8(byte);
                assert_eq!(Request::decode(&mut buf).unwrap(), None);
            }
            buf.put_u8(bytes[bytes.len() - 1]);
            assert_eq!(Request::decode(&mut buf).unwrap(), Some(request));
            assert!(buf.is_empty());
        }
    }

    #[test]
    fn events_survive_the_way() {
        let mut buf = BytesMut::new();
        let events = [
            Event::Spawned(ChildId(1)),
            Event::Failed(2),
            Event::Exited(ChildId(3), ExitStatus::Code(-1)),
            Event::Exited(ChildId(4), ExitStatus::Signal(9)),
        ];
        for event in &events {
            buf.extend_from_slice(&event.encode());
        }
        for event in events {
            assert_eq!(Event::decode(&mut buf).unwrap(), Some(event));
        }
        assert_eq!(Event::decode(&mut buf).unwrap(), None);
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [&[1, 0, 0, 0, 99][..], &[2, 0, 0, 0, PUSH, 0], &[5, 0, 0, 0, PUSH, 255, 255, 255, 255]] {
            assert!(Request::decode(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }
}
