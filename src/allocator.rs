//! How this program gives memory back. Its allocator: large buffers at once, so that one long message is not held for
//! good. Of the program only; who uses the library chooses an allocator of his own.
//!
//! glibc takes what is large straight from the system and returns it when it is freed, but it learns: after the first
//! large buffer was freed, those up to twice its size come from its heap, where they stay. After one message of 16 MiB
//! each way through a child that HTTP clients share, 32 MiB stayed for good, and a buffer that grew was copied instead
//! of moved by the page table. With fixed limits nothing of it stays, the peak of that exchange is half, and the time
//! of a processor for messages of 64 KiB to 16 MiB is the same as before (`tests/memory.rs` asserts the first).
//!
//! What is freed in small pieces stays in its heap until [`give_back_what_is_free`] is called.
//!
//! Other systems' allocators do not learn this, or are not told here.
//!
//! And its own code: reading the command line touches most of it, and the system maps sixteen pages around each that
//! is touched. They count as resident until memory is short, although a session runs in half of them: with `pipe`,
//! 7.0 MiB of 10.4. What is needed again comes back from the page cache, once.

/// Fixes the limits. To be called before there is another thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the one island of the program; glibc has no safe door to it")]
pub(crate) fn give_back_large_buffers() {
    for (parameter, bytes) in [(libc::M_MMAP_THRESHOLD, OWN_MAPPING_LEN), (libc::M_TRIM_THRESHOLD, KEPT_LEN)] {
        // SAFETY: `mallopt` takes two integers by value and keeps no reference to anything; one that it does not
        // understand it refuses. No other thread is there yet that could allocate meanwhile.
        let _refused = unsafe { libc::mallopt(parameter, bytes) } == 0;
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back_large_buffers() {}

/// Gives back the pages of all that is free, also between what is not. Costs a walk over it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the one island of the program; glibc has no safe door to it")]
pub(crate) fn give_back_what_is_free() {
    // SAFETY: `malloc_trim` takes an integer by value and locks each arena while it walks over it; what is allocated it
    // does not touch.
    let _anything = unsafe { libc::malloc_trim(0) } == 1;
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back_what_is_free() {}

/// Forgets the pages of the program's code and constants. To be called when starting is over.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the other half of the island; the system has no safe door to it")]
pub(crate) fn forget_start() {
    unsafe extern "C" {
        // Of the linker: the program's first byte, and the end of its code.
        static __executable_start: u8;
        static etext: u8;
    }
    let (start, end, page) = (&raw const __executable_start, &raw const etext, rustix::param::page_size());
    let len = end.addr().saturating_sub(start.addr()) / page * page;
    // SAFETY: from its first byte to the end of its code the program is pages of its file that nobody ever writes to:
    // what is written to, relocations included, lies behind. Forgotten, they are read from the file again.
    let _refused = unsafe { libc::madvise(start.cast_mut().cast(), len, libc::MADV_DONTNEED) } != 0;
}

#[cfg(all(unix, not(all(target_os = "linux", target_env = "gnu"))))]
pub(crate) fn forget_start() {}

/// From this size a buffer is a mapping of its own. Read buffers, of 256 KiB at most, stay below.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MAPPING_LEN: libc::c_int = 1 << 20;

/// What may lie unused at the end of the heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_LEN: libc::c_int = 4 << 20;
