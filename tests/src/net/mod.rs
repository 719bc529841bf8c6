//! Owns the simulated world's side of the seams of dialling and of the wall clock: the one place that knows its sockets. What
//! goes wrong with links is the cluster's business, and with single calls the relay's.

pub mod relay;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::Stream;
use futures::stream::try_unfold;
use tokio::io::duplex;
use turmoil::net::{TcpListener, TcpStream};
use waymark_proto::transport::{BoxedIo, Connecting, Dial, Purpose};

use self::relay::{CallFaults, Relay};

/// Bytes on their way between a connection and its relay.
const PIPE: usize = 1 << 20;

/// Dials `host:port` on the simulated network; a host is named as the cluster names it.
#[derive(Debug, Clone)]
pub struct SimDial {
    from: String,
    /// What its connections are for: a node pings the nodes that it passes calls on to as it pings its peers.
    purpose: Purpose,
    /// What goes wrong with calls; `None`: nothing stands in between.
    calls: Option<CallFaults>,
}

impl SimDial {
    pub(crate) fn new(from: &str, purpose: Purpose, calls: Option<CallFaults>) -> Self {
        Self { from: from.to_owned(), purpose, calls }
    }
}

impl Dial for SimDial {
    fn connect(&self, address: &str) -> Connecting {
        let address = address.to_owned();
        let (host, _) = address.rsplit_once(':').unwrap_or_default();
        let relay = self.calls.clone().map(|calls| Relay::new(calls, &self.from, host));
        let purpose = self.purpose;
        Box::pin(async move {
            let stream = TcpStream::connect(address.as_str()).await?;
            let remote = stream.peer_addr().ok();
            let Some(relay) = relay else { return Ok(BoxedIo::new(stream, remote)) };
            let (near, far) = duplex(PIPE);
            tokio::spawn(relay.run(far, stream, purpose));
            Ok(BoxedIo::new(near, remote))
        })
    }
}

/// Clocks that are wrong by an hour and more are no fault to ride out: who leads then tells producers so, and takes nothing.
const FARTHEST_MS: i64 = 50 * 60 * 1000;

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

    /// It jumps, within what clocks may be wrong by.
    pub fn shift(&self, by_ms: i64) {
        let ahead = self.ahead_ms.load(Ordering::SeqCst).saturating_add(by_ms);
        self.ahead_ms.store(ahead.clamp(-FARTHEST_MS, FARTHEST_MS), Ordering::SeqCst);
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
