//! A valid gzip file that is small and unpacks to much: zeros, by the simplest means of RFC 1951 and RFC 1952, so that
//! whoever unpacks it does get them.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
};

/// What it unpacks to.
pub(crate) const UNPACKED_LEN: usize = 64 << 20;

/// The file.
pub(crate) fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let mut bits = Bits::default();
        // The last block, with the codes that everybody knows.
        bits.push(&[true, true, false]);
        // One zero, and then 258 times what came one byte before, again and again.
        bits.code(0b0011_0000, 8);
        let (again, rest) = ((UNPACKED_LEN - 1) / 258, (UNPACKED_LEN - 1) % 258);
        for _ in 0..again {
            bits.code(0b1100_0101, 8);
            bits.code(0, 5);
        }
        (0..rest).for_each(|_| bits.code(0b0011_0000, 8));
        bits.code(0, 7);
        let mut file = Vec::from(*b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
        file.append(&mut bits.bytes);
        file.extend_from_slice(&zeros_crc(UNPACKED_LEN).to_le_bytes());
        file.extend_from_slice(&u32::try_from(UNPACKED_LEN).unwrap().to_le_bytes());
        file
    })
}

/// Bits from the lowest of each byte on.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, bits: &[bool]) {
        for &bit in bits {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= u8::from(bit) << (self.used % 8);
            self.used += 1;
        }
    }

    /// A code, which begins with its highest bit.
    fn code(&mut self, code: u32, len: u32) {
        (0..len).rev().for_each(|at| self.push(&[code >> at & 1 == 1]));
    }
}

/// The CRC-32 of so many zeros.
fn zeros_crc(len: usize) -> u32 {
    // What one zero byte does to the register is linear, so what 2^n do is that of 2^(n-1) done twice.
    let step = |crc: u32| (0..8).fold(crc, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 });
    let apply =
        |matrix: &[u32; 32], crc: u32| (0..32).filter(|bit| crc >> bit & 1 == 1).fold(0, |sum, bit| sum ^ matrix[bit]);
    let mut power: [u32; 32] = std::array::from_fn(|bit| step(1 << bit));
    let mut crc = u32::MAX;
    let mut rest = len;
    while rest > 0 {
        if rest & 1 == 1 {
            crc = apply(&power, crc);
        }
        power = std::array::from_fn(|bit| apply(&power, power[bit]));
        rest >>= 1;
    }
    !crc
}

/// By the system's own unpacker.
#[test]
fn bomb_unpacks_to_what_it_says() {
    let mut gzip = Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (gzip.stdin.take().unwrap(), gzip.stdout.take().unwrap());
    let writing = thread::spawn(move || to.write_all(bomb()));
    let (mut len, mut piece) = (0, vec![1; 64 << 10]);
    loop {
        match from.read(&mut piece).unwrap() {
            0 => break,
            read => {
                assert!(piece[..read].iter().all(|byte| *byte == 0));
                len += read;
            }
        }
    }
    writing.join().unwrap().unwrap();
    assert!(gzip.wait().unwrap().success(), "its sum and its length are right");
    assert_eq!(len, UNPACKED_LEN);
    assert!(bomb().len() < 1 << 20, "{} bytes", bomb().len());
}
