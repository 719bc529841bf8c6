//! A served listener. Owns its one task and its end; never knows what is served.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use waymark_proto::transport::{Purpose, server};

use super::{Incoming, NodeError};

/// Lets connections in until it is closed. Dropped, it goes on until the process ends.
#[derive(Debug)]
pub(super) struct Door {
    name: &'static str,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
    closing: CancellationToken,
}

impl Door {
    pub(super) fn open(
        name: &'static str,
        purpose: Purpose,
        routes: Routes,
        incoming: Incoming,
    ) -> Self {
        let closing = CancellationToken::new();
        let closed = closing.clone().cancelled_owned();
        let serving = server(purpose).add_routes(routes);
        let task = tokio::spawn(serving.serve_with_incoming_shutdown(incoming, closed));
        Self { name, task, closing }
    }

    /// Resolves when it fails, which a door that is open never does by itself.
    pub(super) async fn failed(&mut self) -> NodeError {
        let why = match (&mut self.task).await {
            Ok(Ok(())) => "it ended".to_owned(),
            Ok(Err(error)) => causes(&error),
            Err(panicked) => panicked.to_string(),
        };
        NodeError::Door { door: self.name, why }
    }

    /// Lets nobody in any more, and waits a while for what is on the way.
    pub(super) async fn close(&mut self, patience: Duration) {
        self.closing.cancel();
        if !self.task.is_finished() && timeout(patience, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// The transport's own message names nothing; what is below it does.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        text = format!("{text}: {below}");
        cause = below.source();
    }
    text
}
