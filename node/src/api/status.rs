//! The failure of a whole call as a gRPC status: its code, the trailers that say the same in ASCII, and the failure itself
//! in the details. Owns that form. Never used for one item of a call.

use bytes::Bytes;
use prost::Message as _;
use tonic::Status;
use tonic::metadata::MetadataMap;
use waymark_proto::failure::Failure;
use waymark_proto::v1;

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
