//! Owns the real listeners: an address is taken at once, so that a taken port is said before anything starts, and calls
//! are let in only when the node can answer them. Until then others are turned away instead of being kept waiting.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::unfold;
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::time::sleep;
use waymark_node::node::Incoming;
use waymark_proto::transport::BoxedIo;

use super::Failure;

/// Connections that wait to be taken.
const BACKLOG: u32 = 1024;
/// After the system refused a connection, most often for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

enum Door {
    Bound(TcpSocket),
    Open(TcpListener),
}

/// Takes an address; `setting` says in a message who wanted it.
pub(super) async fn bind(setting: &str, address: &str) -> Result<Incoming, Failure> {
    let refused = |error: io::Error| {
        let advice = if error.kind() == io::ErrorKind::AddrInUse {
            "; another process listens there: stop it, or choose another address"
        } else {
            ""
        };
        Failure(format!("{setting} = {address:?}: {error}{advice}"))
    };
    let resolved = lookup_host(address).await.map_err(refused)?.next();
    let resolved = resolved.ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?;
    let socket = socket(resolved).map_err(refused)?;
    Ok(Box::pin(unfold(Some(Door::Bound(socket)), |door| async { accept(door?).await })))
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted node must not wait for connections of its former life to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// One connection, and the door for the next; the door is gone after it failed to open.
async fn accept(door: Door) -> Option<(io::Result<BoxedIo>, Option<Door>)> {
    let listener = match door {
        Door::Open(listener) => listener,
        Door::Bound(socket) => match socket.listen(BACKLOG) {
            Ok(listener) => listener,
            Err(error) => return Some((Err(error), None)),
        },
    };
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                // Small answers must not wait for more; where that cannot be set they are only slower.
                let _ = stream.set_nodelay(true);
                let connection = BoxedIo::new(stream, Some(remote));
                return Some((Ok(connection), Some(Door::Open(listener))));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was refused");
                sleep(PAUSE).await;
            }
        }
    }
}
