//! The failure of a whole call as a gRPC status: its code, the trailers that say the same in ASCII, and the failure itself
//! in the details. Owns that form. Never used for one item of a call.

use bytes::Bytes;
use prost::Message as _;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::v1;

use super::refusal::refuse;

/// The failure's code, a number.
pub(super) const CODE: &str = "waymark-code";
/// Its retry class, a number.
pub(super) const RETRY: &str = "waymark-retry";
/// Details are left out beyond this: trailers travel in headers, which proxies keep small.
const MAX_DETAILS: usize = 4 << 10;
const MAX_MESSAGE: usize = 1 << 10;

/// The status of a call that failed as a whole.
pub(super) fn whole_call(failure: &Failure) -> Status {
    let code = failure.code.grpc();
    let wire = v1::Failure::from(failure.clone());
    let mut metadata = MetadataMap::new();
    metadata.insert(CODE, wire.code.into());
    metadata.insert(RETRY, wire.retry.into());
    let mut message = failure.message.clone();
    let cut = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    message.truncate(cut);
    let details = if wire.encoded_len() <= MAX_DETAILS {
        Bytes::from(wire.encode_to_vec())
    } else {
        Bytes::new()
    };
    Status::with_details_and_metadata(code, message, details, metadata)
}

/// Refusals of the library itself carry no code of ours; a caller would have to take them for an unknown outcome although
/// nothing was executed. `None`: it has a code, or may have been executed.
pub(super) fn translated(status: &Status) -> Option<Status> {
    if status.metadata().get(CODE).is_some() {
        return None;
    }
    let message = status.message();
    let code = match status.code() {
        Code::OutOfRange => FailureCode::RequestTooLarge,
        Code::Unimplemented => FailureCode::Unsupported,
        Code::InvalidArgument => FailureCode::InvalidArgument,
        // What tonic says of bytes that are not the message.
        Code::Internal if message.contains("decode") || message.contains("protocol error") => {
            FailureCode::InvalidArgument
        }
        _ => return None,
    };
    Some(whole_call(&refuse(code, message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let failure = refuse(FailureCode::Internal, "ü".repeat(MAX_MESSAGE));
        assert_eq!(whole_call(&failure).message().len(), MAX_MESSAGE);
    }

    #[test]
    fn a_refusal_of_the_library_gets_a_code_and_a_broken_connection_none() {
        let too_large = Status::out_of_range("decoded message length too large");
        let code = translated(&too_large).and_then(|s| s.metadata().get(CODE).cloned());
        assert_eq!(code.as_ref().map(|code| code.as_bytes()), Some(&b"51"[..]));
        assert!(translated(&Status::unavailable("broken pipe")).is_none());
        assert!(translated(&whole_call(&refuse(FailureCode::NoLeader, "x"))).is_none());
    }
}
