//! Failures of this host: they say nothing of a target.

use std::io;

/// Whether a connection could not even be tried, since this host is out of something: files
/// (`EMFILE`, `ENFILE`), memory (`ENOBUFS`, `ENOMEM`), ports (`EADDRNOTAVAIL`, `EAGAIN`).
///
/// A missing route is not among them: a target behind it cannot be served from here.
pub(super) fn is_short(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EADDRNOTAVAIL
                | libc::EAGAIN
        )
    )
}
