//! Sleeping until one of a port's sockets has something.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Waits until one of `sockets` or `wake` is readable or `limit` has passed. `polled` is only
/// kept so that nothing is allocated here.
pub(super) fn readable(
    polled: &mut Vec<libc::pollfd>,
    sockets: impl Iterator<Item = RawFd>,
    wake: &dyn AsRawFd,
    limit: Duration,
) -> io::Result<()> {
    let all = sockets.chain([wake.as_raw_fd()]);
    polled.clear();
    polled.extend(all.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }));
    // Rounded up: a wait of less than a millisecond must not become a spin.
    let milliseconds = limit.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
    // SAFETY: the array outlives the call and has the length that is told.
    let result =
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(())
}
