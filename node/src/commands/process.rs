//! Owns what a process asks of the system: signals, standard input as a lifeline, the limit of open files.

use std::os::fd::AsFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;

/// Resolves when the process is asked to stop.
pub(super) fn asked_to_stop() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::because("signals", error));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Resolves when standard input, a pipe, closes: whoever started this process is gone.
pub(super) fn stdin_closed() -> Result<impl Future<Output = ()>, Failure> {
    let pipe = std::io::stdin().as_fd().try_clone_to_owned().and_then(Receiver::from_owned_fd);
    let mut pipe = pipe.map_err(|error| Failure::because("standard input", error))?;
    Ok(async move {
        let mut ignored = [0; 64];
        while pipe.read(&mut ignored).await.is_ok_and(|count| count > 0) {}
    })
}

/// Raises the limit of open files as far as the system allows: segments and connections need them.
pub(super) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = ?limit.current, "the limit of open files stays as it was");
    }
}
