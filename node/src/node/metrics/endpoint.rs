//! The listener for those who watch a node: two paths over HTTP/1.1. Owns its tasks and their end, and that watchers cannot
//! take more of the node than a few connections. Never knows a metric.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use waymark_proto::transport::BoxedIo;

use super::{Sources, scrape};
use crate::node::Incoming;

/// Connections at a time; more wait to be taken.
const CONNECTIONS: usize = 8;
/// A connection carries one request, and has this long for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// What Prometheus calls the text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Lets watchers in until it is closed. A failed one leaves the node alone: it serves, unwatched.
#[derive(Debug)]
pub(in crate::node) struct Endpoint {
    task: JoinHandle<()>,
    closing: CancellationToken,
}

impl Endpoint {
    pub(in crate::node) fn open(sources: Sources, incoming: Incoming) -> Self {
        let closing = CancellationToken::new();
        let serving = serve(Arc::new(sources), incoming);
        let task = tokio::spawn({
            let closing = closing.clone();
            async move {
                closing.run_until_cancelled(serving).await;
            }
        });
        Self { task, closing }
    }

    /// Ends it with every connection.
    pub(in crate::node) async fn close(self) {
        self.closing.cancel();
        // It ends at once; should it have panicked, that was logged.
        let _ = self.task.await;
    }
}

async fn serve(sources: Arc<Sources>, mut incoming: Incoming) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = incoming.next(), if connections.len() < CONNECTIONS => match next {
                Some(Ok(connection)) => {
                    connections.spawn(attend(connection, Arc::clone(&sources)));
                }
                Some(Err(error)) => tracing::warn!(%error, "a watcher was not let in"),
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    tracing::error!("the metrics listener has ended, the node goes on without");
    while connections.join_next().await.is_some() {}
}

async fn attend(connection: BoxedIo, sources: Arc<Sources>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&sources)));
    let mut http = http1::Builder::new();
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let served = http.serve_connection(TokioIo::new(connection), service);
    match timeout(PATIENCE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a watcher's connection broke"),
        Err(_) => tracing::debug!("a watcher was too slow"),
    }
}

async fn answer(
    request: Request<Body>,
    sources: Arc<Sources>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    Ok(match request.uri().path() {
        "/metrics" if reads => match scrape::page(sources).await {
            Ok(page) => response(StatusCode::OK, OPEN_METRICS, page),
            Err(error) => {
                tracing::error!(error, "metrics cannot be written");
                response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "metrics cannot be written\n")
            }
        },
        "/health" if reads && sources.is_ready() => response(StatusCode::OK, PLAIN, "ready\n"),
        "/health" if reads => response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not ready\n"),
        _ => response(StatusCode::NOT_FOUND, PLAIN, "there are GET /metrics and GET /health\n"),
    })
}

fn response(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
