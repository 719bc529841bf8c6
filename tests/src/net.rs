//! Owns the simulated world's side of the seams of dialling and of the wall clock: the one place that knows its sockets. It
//! injects no faults; the cluster does, link by link.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::Stream;
use futures::stream::try_unfold;
use turmoil::net::{TcpListener, TcpStream};
use waymark_proto::transport::{BoxedIo, Connecting, Dial};

/// Dials `host:port` on the simulated network; a host is named as the cluster names it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimDial;

impl Dial for SimDial {
    fn connect(&self, address: &str) -> Connecting {
        let address = address.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(address.as_str()).await?;
            let remote = stream.peer_addr().ok();
            Ok(BoxedIo::new(stream, remote))
        })
    }
}

/// The wall clock of one host of the simulated world.
#[derive(Debug, Clone, Default)]
pub struct SimClock {
    /// How far it is wrong, milliseconds. Clones are one clock.
    ahead_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock that is ahead by so many milliseconds.
    #[must_use]
    pub fn wrong_by(ahead_ms: i64) -> Self {
        Self { ahead_ms: Arc::new(AtomicI64::new(ahead_ms)) }
    }

    /// It jumps.
    pub fn shift(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Outside of hosts, where only dropped values look, it shows the epoch.
    fn unix_ms(&self) -> i64 {
        let since_epoch = turmoil::since_epoch().unwrap_or_default();
        let ahead_ms = self.ahead_ms.load(Ordering::SeqCst);
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX).saturating_add(ahead_ms)
    }
}

impl waymark_node::env::Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.unix_ms()
    }
}

impl waymark_client::Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.unix_ms()
    }
}

/// The connections that arrive at a port of the host it is polled on.
pub fn incoming(port: u16) -> impl Stream<Item = io::Result<BoxedIo>> + Send {
    try_unfold(None, move |listener: Option<TcpListener>| async move {
        let listener = match listener {
            Some(listener) => listener,
            None => TcpListener::bind(("0.0.0.0", port)).await?,
        };
        let (stream, remote) = listener.accept().await?;
        Ok(Some((BoxedIo::new(stream, Some(remote)), Some(listener))))
    })
}
