//! Owns how a node is reached: the dialling seam and the gRPC settings that clients and nodes share. The simulation brings
//! its own [`Dial`]. Never knows a service or a message.
//!
//! The window and frame sizes were measured: 16 MiB a stream and 32 MiB a connection keep one stream at full speed, and
//! frames of 1 MiB cost 15 % less than the default of 16 KiB. Keepalive is not an option but a need: a connection that was
//! cut without a word stays silent for ever, and only a missed ping tells.

use std::fmt::{self, Debug};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::{Connected, Server, TcpConnectInfo};
use tonic::transport::{Channel, Endpoint};
use tower::Service;

/// HTTP/2 flow-control window of one stream, bytes.
pub const STREAM_WINDOW: u32 = 16 << 20;
/// HTTP/2 flow-control window of one connection, bytes.
pub const CONNECTION_WINDOW: u32 = 32 << 20;
/// Largest HTTP/2 frame, bytes.
pub const MAX_FRAME: u32 = 1 << 20;
/// Largest gRPC message that a node takes or sends, bytes: the request limit with room for its envelope.
pub const MAX_MESSAGE: usize = 33 << 20;

/// A byte stream to another process, real or simulated.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A boxed byte stream; the virtual call per read is lost in the noise of the system call behind it.
pub struct BoxedIo {
    stream: Box<dyn Io>,
    remote: Option<std::net::SocketAddr>,
}

impl BoxedIo {
    /// Wraps a stream.
    #[must_use]
    pub fn new(stream: impl Io, remote: Option<std::net::SocketAddr>) -> Self {
        Self { stream: Box::new(stream), remote }
    }
}

impl Debug for BoxedIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoxedIo({:?})", self.remote)
    }
}

impl AsyncRead for BoxedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BoxedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for BoxedIo {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: self.remote }
    }
}

/// The future of a connection attempt.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send>>;

/// How an address becomes a byte stream.
pub trait Dial: Send + Sync + Debug + 'static {
    /// Connects to `host:port`.
    fn connect(&self, address: &str) -> Connecting;
}

/// Dials over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDial;

impl Dial for TcpDial {
    fn connect(&self, address: &str) -> Connecting {
        let address = address.to_owned();
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let remote = stream.peer_addr().ok();
            Ok(BoxedIo::new(stream, remote))
        })
    }
}

/// What a channel is for; decides how soon silence counts as death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Client to node: idle connections through load balancers must live, so pings are rare.
    Client,
    /// Node to node: a dead peer must be noticed well within an election.
    Peer,
}

impl Purpose {
    /// A connection in use or not is pinged this often.
    #[must_use]
    pub fn ping_every(self) -> Duration {
        match self {
            Self::Client => Duration::from_secs(20),
            Self::Peer => Duration::from_millis(500),
        }
    }

    /// … and is dead when a ping has no answer for so long.
    #[must_use]
    pub fn ping_timeout(self) -> Duration {
        match self {
            Self::Client => Duration::from_secs(5),
            Self::Peer => Duration::from_secs(1),
        }
    }
}

#[derive(Clone)]
struct Connector {
    dial: Arc<dyn Dial>,
    address: String,
}

impl Service<http::Uri> for Connector {
    type Response = TokioIo<BoxedIo>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<BoxedIo>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let connecting = self.dial.connect(&self.address);
        Box::pin(async move { connecting.await.map(TokioIo::new) })
    }
}

/// The address is not `host:port`.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is not an address of the form host:port")]
pub struct InvalidAddress {
    /// What was given.
    pub address: String,
}

/// A channel to `host:port`, connected when first used and again whenever it broke.
///
/// # Errors
/// When the address is malformed.
pub fn channel(
    dial: Arc<dyn Dial>,
    address: &str,
    purpose: Purpose,
) -> Result<Channel, InvalidAddress> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| InvalidAddress { address: address.to_owned() })?
        .connect_timeout(Duration::from_secs(2))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(purpose.ping_every())
        .keep_alive_timeout(purpose.ping_timeout())
        .keep_alive_while_idle(true);
    let connector = Connector { dial, address: address.to_owned() };
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// A gRPC server with the same settings.
#[must_use]
pub fn server(purpose: Purpose) -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .http2_keepalive_interval(Some(purpose.ping_every()))
        .http2_keepalive_timeout(Some(purpose.ping_timeout()))
        .tcp_nodelay(true)
}
