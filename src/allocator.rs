//! How this program's allocator gives memory back: large buffers at once, so that one long message is not held for
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

/// From this size a buffer is a mapping of its own. Read buffers, of 256 KiB at most, stay below.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MAPPING_LEN: libc::c_int = 1 << 20;

/// What may lie unused at the end of the heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_LEN: libc::c_int = 4 << 20;
