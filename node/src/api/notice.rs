//! News for a client beside its answers. Owns the words of the one there is: the node is about to stop.

use waymark_proto::v1;

/// The node is about to stop.
pub(super) fn notice() -> v1::Notice {
    v1::Notice {
        kind: v1::NoticeKind::Draining.into(),
        message: "this node is about to stop; open a stream elsewhere and keep this one until all is answered"
            .to_owned(),
    }
}
