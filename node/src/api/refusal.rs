//! Failures that are made at the edge: what is missing, malformed, unknown or too large. Owns their words.

use waymark_proto::failure::{Failure, FailureCode};

/// A failure with a message for people.
pub(super) fn refuse(code: FailureCode, message: impl Into<String>) -> Failure {
    Failure::new(code, message)
}

/// A field without which a request must not be guessed at.
pub(super) fn missing(field: &str) -> Failure {
    refuse(FailureCode::InvalidArgument, format!("{field} is missing"))
}

/// A field with a value that is not legal.
pub(super) fn invalid(field: &str, rule: &str) -> Failure {
    refuse(FailureCode::InvalidArgument, format!("{field} must be {rule}"))
}

/// Something this node does not know or do.
pub(super) fn unsupported(what: impl Into<String>) -> Failure {
    refuse(FailureCode::Unsupported, what)
}

/// More than a request may hold.
pub(super) fn too_large(what: &str, limit: i64) -> Failure {
    let message = format!("{what}: at most {limit}");
    let mut failure = refuse(FailureCode::RequestTooLarge, message);
    failure.limit = Some(limit);
    failure
}
