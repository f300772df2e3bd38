//! How mimalloc keeps memory that nobody uses: not at all.
//!
//! With its defaults freed pages stay with the process until some later
//! allocation comes by, and whole 2 MiB pages stay resident for a few bytes;
//! an idle server then holds six times the memory that it uses.

use libmimalloc_sys as mimalloc;

/// `mi_option_purge_delay` of `mimalloc.h`, which the bindings do not name.
const PURGE_DELAY: mimalloc::mi_option_t = 15;

/// Gives freed pages back at once, and keeps this process out of transparent
/// huge pages (prctl(2), PR_SET_THP_DISABLE). Call it early, in a program whose
/// global allocator is mimalloc.
///
/// Processes started from here inherit the second: a program that runs other
/// people's, as the shim does, sets it back.
///
/// # Errors
/// What prctl says; the allocator's own setting is made in any case.
pub fn keep_small() -> std::io::Result<()> {
    // SAFETY: mi_option_set writes one word of a static table that mimalloc
    // reads at each use; it checks the index.
    unsafe { mimalloc::mi_option_set(PURGE_DELAY, 0) };
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// mimalloc numbers its options by place: notice when an upgrade moves it.
    #[test]
    fn the_option_is_the_one_meant() {
        // SAFETY: reads a word of a static table.
        let default = unsafe { mimalloc::mi_option_get(PURGE_DELAY) };
        assert_eq!(default, 1000, "the default purge delay of mimalloc 3, in milliseconds");
    }
}
