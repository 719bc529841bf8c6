//! Owns reading what a node says when it refuses, from a message's body or from a call's trailers. Never decides what to
//! do about it.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use waymark_proto::v1 as wire;
use wire::{FailureCode, RetryClass};

use crate::error::{Error, Refusal, Result};

/// A failure of the body in our terms. A code this client does not know keeps its class; that is why the class is sent.
pub(crate) fn refusal(failure: &wire::Failure) -> Refusal {
    Refusal {
        code: failure.code(),
        retry: failure.retry(),
        message: failure.message.clone(),
        subject: failure.subject.clone(),
        log_start_offset: failure.log_start_offset,
        high_watermark: failure.high_watermark,
        expected: failure.expected,
        actual: failure.actual,
        limit: failure.limit,
        retry_after: Duration::from_millis(u64::try_from(failure.retry_after_ms).unwrap_or(0)),
        leader: failure.leader.clone(),
    }
}

/// As [`refusal`], as an error.
pub(crate) fn from_failure(failure: &wire::Failure) -> Error {
    Error::Refused(Arc::new(refusal(failure)))
}

/// The failure of an item or a whole answer, if there is one. What counts as done is no error.
pub(crate) fn check(failure: Option<&wire::Failure>) -> Result<()> {
    match failure {
        Some(failure) if failure.retry() == RetryClass::Done => {
            tracing::warn!(code = ?failure.code(), message = failure.message, "counted as done");
            Ok(())
        }
        Some(failure) => Err(from_failure(failure)),
        None => Ok(()),
    }
}

/// What the trailers of a failed call say; `None` where they come from the transport and say nothing.
pub(crate) fn from_status(status: &Status) -> Option<Refusal> {
    let number = |name| status.metadata().get(name)?.to_str().ok()?.parse::<i32>().ok();
    let code = number("waymark-code")?;
    let details = status.details();
    let body: Option<wire::Failure> = prost::Message::decode(details).ok();
    let mut failure = body.filter(|body| body.code == code).unwrap_or_default();
    if failure.message.is_empty() {
        failure.message = status.message().to_owned();
    }
    failure.code = code;
    if let Some(retry) = number("waymark-retry") {
        failure.retry = retry;
    }
    Some(refusal(&failure))
}

impl Refusal {
    /// An older node does not know the call.
    pub(crate) fn unsupported(message: &str) -> Self {
        let mut failure = wire::Failure::default();
        failure.set_code(FailureCode::Unsupported);
        failure.set_retry(RetryClass::Fix);
        message.clone_into(&mut failure.message);
        refusal(&failure)
    }
}
