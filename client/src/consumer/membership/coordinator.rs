//! Owns the two calls that membership makes outside of its session: who coordinates the group, and goodbye. The goodbye is
//! a unary call, so that its answer cannot be mistaken for another. Each makes one attempt.

use std::sync::Arc;
use std::time::Duration;

use waymark_proto::v1 as wire;
use waymark_proto::v1::cluster_service_client::ClusterServiceClient;
use waymark_proto::v1::group_service_client::GroupServiceClient;

use crate::answers::grpc_address;
use crate::connections::Link;
use crate::error::{Error, FailureCode, Result};
use crate::refusal::check;

/// The address of the group's coordinator.
pub(super) async fn find(link: &Link, group: &str, timeout: Duration) -> Result<Arc<str>> {
    let request = wire::FindCoordinatorsRequest {
        kind: wire::CoordinatorKind::Group.into(),
        keys: vec![group.to_owned()],
    };
    let mut client = ClusterServiceClient::new(link.channel.clone());
    let answer = client.find_coordinators(link.call(request, timeout)).await;
    let answer = answer.map_err(|status| link.failure(&status))?.into_inner();
    check(answer.failure.as_ref())?;
    let found = answer.coordinators.into_iter().find(|found| found.key == group);
    let found = found.ok_or_else(|| Error::protocol("no coordinator in the answer"))?;
    check(found.failure.as_ref())?;
    let address = found.node.and_then(|node| grpc_address(&node.endpoints));
    address.ok_or_else(|| Error::protocol("a coordinator without an address"))
}

/// Leaves the group. Who is no member any more has left.
pub(super) async fn leave(
    link: &Link,
    goodbye: wire::MemberUpdate,
    timeout: Duration,
) -> Result<()> {
    let mut client = GroupServiceClient::new(link.channel.clone());
    let answer = client.heartbeat(link.call(goodbye, timeout)).await;
    let outcome = match answer {
        Ok(answer) => check(answer.into_inner().failure.as_ref()),
        Err(status) => Err(link.failure(&status)),
    };
    match outcome {
        Err(error)
            if error.is(FailureCode::UnknownMember) || error.is(FailureCode::MemberFenced) =>
        {
            Ok(())
        }
        outcome => outcome,
    }
}
