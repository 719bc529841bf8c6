//! The outermost layer of every service: reads the metadata of a call, gives it an id and a deadline, lets another node
//! answer where a handler asks for it, and puts our own code on refusals that the library made. Never looks into a message.
//!
//! A call that may be answered by another node has its body kept as it came, so that fields unknown to this node survive
//! the hop.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::server::TcpConnectInfo;
use tower::Service;
use tracing::Instrument as _;
use waymark_proto::failure::{Failure, FailureCode};

use super::Api;
use super::call::{Call, REQUEST_ID, given_id};
use super::methods::{Method, method};
use super::refusal::refuse;
use super::relay;
use super::status::{translated, whole_call};

/// A service behind the edge.
#[derive(Debug, Clone)]
pub(super) struct Edge<S> {
    service: S,
    api: Api,
}

impl<S> Edge<S> {
    pub(super) fn new(service: S, api: Api) -> Self {
        Self { service, api }
    }
}

impl<S: NamedService> NamedService for Edge<S> {
    const NAME: &'static str = S::NAME;
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Edge<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        // The clone left behind may not be ready; the one that was polled is taken.
        let next = self.service.clone();
        let service = std::mem::replace(&mut self.service, next);
        let api = self.api.clone();
        Box::pin(async move { Ok(answer(service, &api, request).await) })
    }
}

async fn answer<S>(service: S, api: &Api, request: Request<Body>) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let id = given_id(request.headers()).unwrap_or_else(|| api.new_request_id());
    let method = method(request.uri().path());
    let span = tracing::debug_span!("call", id = %id, method = method.name);
    let remote = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    let read = ready(api, method)
        .and_then(|()| Call::read(request.headers(), remote, Arc::clone(&id), api.cluster()));
    let mut response = match read {
        Ok(call) => in_time(service, api, request, call, method).instrument(span).await,
        Err(failure) => whole_call(&failure).into_http(),
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Before there is a cluster, this node can only say who it is.
fn ready(api: &Api, method: Method) -> Result<(), Failure> {
    if api.cluster().is_some() || method.unformed {
        return Ok(());
    }
    let mut failure = refuse(FailureCode::NoLeader, "the cluster is not formed yet");
    failure.retry_after_ms = FORMING_RETRY_MS;
    Err(failure)
}

const FORMING_RETRY_MS: i32 = 100;

/// Whatever a handler forgot: a caller that waits hears what is known before its own clock runs out.
const GRACE: Duration = Duration::from_millis(20);

async fn in_time<S>(
    service: S,
    api: &Api,
    request: Request<Body>,
    call: Call,
    method: Method,
) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let deadline = call.deadline + GRACE;
    let answering = handle(service, api, request, call, method);
    match tokio::time::timeout_at(deadline, answering).await {
        Ok(response) => coded(response),
        Err(_) => whole_call(&late(method)).into_http(),
    }
}

async fn handle<S>(
    mut service: S,
    api: &Api,
    mut request: Request<Body>,
    call: Call,
    method: Method,
) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    if !method.any_node || !call.may_hop() {
        request.extensions_mut().insert(call);
        let Ok(response) = service.call(request).await;
        return response;
    }
    let kept = match relay::keep(request, call.clone(), method).await {
        Ok(kept) => kept,
        Err(failure) => return whole_call(&failure).into_http(),
    };
    let Ok(response) = service.call(kept.request()).await;
    let target = call.relay().and_then(|relay| relay.target().map(str::to_owned));
    match target {
        Some(address) => relay::pass_on(api.peers(), &address, kept, response).await,
        None => response,
    }
}

/// Past the deadline: a change may have been made, a read has not been answered.
fn late(method: Method) -> Failure {
    if method.changes {
        refuse(FailureCode::OutcomeUnknown, "the deadline passed; what was asked for may be done")
    } else {
        refuse(FailureCode::ExpiredUnsent, "the deadline passed before there was an answer")
    }
}

/// Puts our code on a refusal that the library made.
fn coded(response: Response<Body>) -> Response<Body> {
    match response.extensions().get::<Status>().and_then(translated) {
        Some(status) => status.into_http(),
        None => response,
    }
}
