//! One hop to the node that leads. Owns the kept bytes of a call that may be passed on, and the channels to the other
//! nodes. A call is passed on as it came, byte for byte, once, and its answer is returned as it is.
//!
//! What can be sure not to have been sent is answered as if there had been no hop; what may have been sent and changes
//! something has an unknown outcome.

use std::collections::BTreeMap;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body::{Body as _, Frame};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service as _, ServiceExt as _};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::transport::{Dial, MAX_MESSAGE, Purpose, channel};

use super::call::{CLIENT_ADDRESS, Call, GRPC_TIMEOUT, HOP, REQUEST_ID, write_timeout};
use super::methods::Method;
use super::refusal::{refuse, too_large};
use super::status::whole_call;

/// Connections to other nodes at their client addresses, made when first needed.
#[derive(Debug)]
pub(super) struct Peers {
    dial: Arc<dyn Dial>,
    /// By address. Addresses come from the catalog, so there are as many as nodes; a node that changed its address leaves
    /// one idle channel behind.
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl Peers {
    pub(super) fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial, channels: Mutex::default() }
    }

    /// The channel to an address; `None` when it is not an address.
    pub(super) fn channel(&self, address: &str) -> Option<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = channels.get(address) {
            return Some(open.clone());
        }
        let opened = channel(Arc::clone(&self.dial), address, Purpose::Peer).ok()?;
        channels.insert(address.to_owned(), opened.clone());
        Some(opened)
    }
}

/// A call whose bytes are kept.
#[derive(Debug)]
pub(super) struct Kept {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    call: Call,
    method: Method,
}

/// Reads the whole body of a unary call.
///
/// # Errors
/// When it is larger than any request may be, or breaks off.
pub(super) async fn keep(
    request: Request<Body>,
    call: Call,
    method: Method,
) -> Result<Kept, Failure> {
    let (parts, mut body) = request.into_parts();
    let mut whole = BytesMut::new();
    let mut only = Bytes::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|status| {
            tracing::debug!(id = %call.id, %status, "a request broke off");
            refuse(FailureCode::InvalidArgument, "the request broke off")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + only.len() + data.len() > MAX_MESSAGE {
            return Err(too_large(
                "bytes of a request",
                i64::try_from(MAX_MESSAGE).unwrap_or(i64::MAX),
            ));
        }
        // Nearly every request arrives in one piece, which needs no copy.
        if whole.is_empty() && only.is_empty() {
            only = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut only));
            whole.extend_from_slice(&data);
        }
    }
    let body = if only.is_empty() { whole.freeze() } else { only };
    Ok(Kept { uri: parts.uri, headers: parts.headers, body, call, method })
}

impl Kept {
    /// The call for a handler of this node.
    pub(super) fn request(&self) -> Request<Body> {
        let mut request = self.base(self.uri.clone());
        *request.headers_mut() = self.headers.clone();
        request.extensions_mut().insert(self.call.clone());
        request
    }

    /// The call for another node.
    fn outgoing(self) -> Option<Request<Body>> {
        let path = self.uri.path_and_query()?.clone();
        let mut request = self.base(Uri::from(path));
        let mut headers = self.headers;
        for name in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::USER_AGENT] {
            headers.remove(name);
        }
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(HOP, HeaderValue::from_static("1"));
        headers.insert(CLIENT_ADDRESS, HeaderValue::from_str(&self.call.caller.address).ok()?);
        let left = HeaderValue::from_str(&write_timeout(self.call.remaining()));
        headers.insert(GRPC_TIMEOUT, left.ok()?);
        headers.insert(REQUEST_ID, HeaderValue::from_str(&self.call.id).ok()?);
        *request.headers_mut() = headers;
        Some(request)
    }

    fn base(&self, uri: Uri) -> Request<Body> {
        let mut request = Request::new(Body::new(Whole(Some(self.body.clone()))));
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = uri;
        request
    }
}

/// Lets the node at `address` answer. `here` is what this node would have said.
pub(super) async fn pass_on(
    peers: &Peers,
    address: &str,
    kept: Kept,
    here: Response<Body>,
) -> Response<Body> {
    let (id, changes) = (Arc::clone(&kept.call.id), kept.method.changes);
    let (Some(mut channel), Some(request)) = (peers.channel(address), kept.outgoing()) else {
        return here;
    };
    let sent = async { channel.ready().await?.call(request).await };
    match sent.await {
        Ok(answer) => answer,
        Err(error) if !changes || never_sent(&error) => {
            tracing::debug!(%id, address, %error, "the leader's node was not reached");
            here
        }
        Err(error) => {
            tracing::debug!(%id, address, %error, "the leader's node did not answer");
            let message =
                format!("the node at {address} did not answer; what was asked for may be done");
            whole_call(&refuse(FailureCode::OutcomeUnknown, message)).into_http()
        }
    }
}

/// A connection that was never made cannot have carried anything.
fn never_sent(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A body in one piece.
#[derive(Debug)]
struct Whole(Option<Bytes>);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}
