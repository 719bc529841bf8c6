//! What the metadata of one call says: its id, its deadline, whether it was passed on by another node, and what the caller
//! requires. Owns the names of the metadata keys. Never looks into a message.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::ClusterId;

use super::features;
use super::refusal::refuse;
use crate::broker::groups::seam::Actor;

/// Names a call in logs of every node that it passes; made here when the caller gives none.
pub(super) const REQUEST_ID: &str = "waymark-request-id";
/// The cluster that the caller means.
pub(super) const CLUSTER_ID: &str = "waymark-cluster-id";
/// Features without which the call must be refused, separated by commas.
pub(super) const REQUIRE: &str = "waymark-require";
/// Present on a call that a node passed on: it is never passed on again.
pub(super) const HOP: &str = "waymark-hop";
/// The name that a client gives itself.
pub(super) const CLIENT_ID: &str = "waymark-client-id";
/// Beside [`HOP`]: where the call came from first.
pub(super) const CLIENT_ADDRESS: &str = "waymark-client-address";
/// gRPC's own deadline.
pub(super) const GRPC_TIMEOUT: &str = "grpc-timeout";

const MAX_REQUEST_ID: usize = 128;
/// A call without a deadline of its own.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// No call waits longer than this, whatever it asks for.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);
/// The answer leaves this long before the caller stops listening, or a tenth of its patience, whichever is less.
const ANSWER_AHEAD: Duration = Duration::from_millis(100);

/// What is known of a call beside its message. A clone is the same call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Printable ASCII, at most 128 bytes.
    pub(super) id: Arc<str>,
    /// The answer must be on its way by then; a little before the caller's own deadline.
    pub(super) deadline: Instant,
    /// Who calls: kept in the history of groups.
    pub(super) caller: Caller,
    /// Features that the caller requires, as written; all are active.
    pub(super) require: Option<HeaderValue>,
    /// Where a handler says that another node must answer; absent when another node passed this call on.
    relay: Option<Relay>,
}

/// Who calls, as this node knows; a request has no say in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Caller {
    /// The name that the client gave itself; may be empty.
    pub(super) client_id: String,
    /// Where the call came from; empty where the transport does not know.
    pub(super) address: String,
}

/// Longest name of a client, bytes.
const MAX_CLIENT_ID: usize = 1024;

impl Caller {
    /// A call that another node passed on says where it came from first.
    fn read(headers: &HeaderMap, remote: Option<SocketAddr>) -> Self {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let passed_on = headers.get(HOP).and(text(CLIENT_ADDRESS));
        let remote = || remote.map(|it| it.to_string()).unwrap_or_default();
        Self {
            client_id: text(CLIENT_ID).unwrap_or_default().chars().take(MAX_CLIENT_ID).collect(),
            address: passed_on.map_or_else(remote, str::to_owned),
        }
    }
}

/// Set once by a handler: the address of the node that must answer the whole call.
#[derive(Debug, Clone, Default)]
pub(super) struct Relay(Arc<OnceLock<String>>);

impl Relay {
    /// The address, if a handler gave one.
    pub(super) fn target(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

impl Call {
    /// Reads the metadata of a call.
    ///
    /// # Errors
    /// When it means another cluster or requires what is not active.
    pub(super) fn read(
        headers: &HeaderMap,
        remote: Option<SocketAddr>,
        id: Arc<str>,
        cluster: Option<ClusterId>,
    ) -> Result<Self, Failure> {
        check_cluster(headers, cluster)?;
        check_required(headers)?;
        let relay = headers.get(HOP).is_none().then(Relay::default);
        let require = headers.get(REQUIRE).cloned();
        let caller = Caller::read(headers, remote);
        Ok(Self { id, deadline: deadline(headers), caller, require, relay })
    }

    /// The call that a request belongs to. One that did not come through the edge, as in a test, gets the defaults.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(|| Self {
            id: "-".into(),
            deadline: Instant::now() + DEFAULT_TIMEOUT,
            caller: Caller::default(),
            require: None,
            relay: None,
        })
    }

    /// Whether this node may ask another one in the caller's name.
    pub(super) fn may_hop(&self) -> bool {
        self.relay.is_some()
    }

    /// The relay of this call, if it may hop.
    pub(super) fn relay(&self) -> Option<Relay> {
        self.relay.clone()
    }

    /// Asks the edge to let the node at this address answer the whole call. `false`: this call may not hop.
    pub(super) fn pass_on(&self, address: String) -> bool {
        match &self.relay {
            Some(relay) => relay.0.set(address).is_ok(),
            None => false,
        }
    }

    /// A message of a stream: the same call, with a deadline of its own.
    pub(super) fn again(&self) -> Self {
        Self { deadline: Instant::now() + DEFAULT_TIMEOUT, ..self.clone() }
    }

    /// Who does this, for the history of a group; `member` is empty for an operator.
    pub(super) fn actor(&self, member: &str) -> Actor {
        let Caller { client_id, address } = self.caller.clone();
        Actor { member: member.to_owned(), client_id, address }
    }

    /// A deadline that a message itself asks for, within that of the call.
    pub(super) fn deadline_within(&self, timeout: Option<Duration>) -> Instant {
        let own = timeout.map(|timeout| Instant::now() + timeout.min(MAX_TIMEOUT));
        own.map_or(self.deadline, |own| own.min(self.deadline))
    }

    /// Time left.
    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The caller's id of the call where it is fit to be logged and echoed.
pub(super) fn given_id(headers: &HeaderMap) -> Option<Arc<str>> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fit =
        !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(|b| b.is_ascii_graphic());
    fit.then(|| id.into())
}

fn check_cluster(headers: &HeaderMap, cluster: Option<ClusterId>) -> Result<(), Failure> {
    let Some(meant) = headers.get(CLUSTER_ID) else { return Ok(()) };
    let meant: Option<ClusterId> = meant.to_str().ok().and_then(|text| text.parse().ok());
    let Some(meant) = meant else {
        return Err(refuse(FailureCode::InvalidArgument, "waymark-cluster-id is not a cluster id"));
    };
    match cluster {
        Some(cluster) if cluster == meant => Ok(()),
        Some(cluster) => {
            Err(refuse(FailureCode::ClusterMismatch, format!("this is cluster {cluster}")))
        }
        None => Err(refuse(FailureCode::NoLeader, "the cluster is not formed yet")),
    }
}

fn check_required(headers: &HeaderMap) -> Result<(), Failure> {
    for value in headers.get_all(REQUIRE) {
        let names = value.to_str().map_err(|_| {
            refuse(FailureCode::InvalidArgument, "waymark-require is not a list of names")
        })?;
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        if let Some(unknown) = names.into_iter().find(|name| !features::is_active(name)) {
            let message = format!("the feature {unknown:?} is not active here");
            return Err(refuse(FailureCode::Unsupported, message));
        }
    }
    Ok(())
}

fn deadline(headers: &HeaderMap) -> Instant {
    let asked = headers.get(GRPC_TIMEOUT).and_then(|value| parse_timeout(value.to_str().ok()?));
    let patience = asked.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT);
    let ahead = if asked.is_some() { ANSWER_AHEAD.min(patience / 10) } else { Duration::ZERO };
    Instant::now() + (patience - ahead)
}

/// gRPC's form: up to eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// How gRPC writes a timeout: milliseconds as long as they fit into eight digits.
pub(super) fn write_timeout(timeout: Duration) -> String {
    let millis = timeout.as_millis();
    if millis < 100_000_000 { format!("{millis}m") } else { format!("{}S", timeout.as_secs()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("a test's header");
            (http::HeaderName::from_static(name), value)
        });
        pairs.collect()
    }

    fn read(pairs: &[(&'static str, &str)]) -> Result<Call, Failure> {
        Call::read(&headers(pairs), None, "id".into(), Some(ClusterId([7; 16])))
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_leaves_before_the_caller_stops_listening() {
        let call = read(&[(GRPC_TIMEOUT, "2S")]).expect("a good call");
        assert_eq!(call.remaining(), Duration::from_millis(1900));
        let call = read(&[(GRPC_TIMEOUT, "50m")]).expect("a good call");
        assert_eq!(call.remaining(), Duration::from_millis(45));
        assert_eq!(read(&[]).expect("a good call").remaining(), DEFAULT_TIMEOUT);
    }

    #[tokio::test]
    async fn a_call_for_another_cluster_is_refused() {
        let other = ClusterId([8; 16]).to_string();
        let failure = read(&[(CLUSTER_ID, &other)]).expect_err("another cluster");
        assert_eq!(failure.code, FailureCode::ClusterMismatch);
        let same = ClusterId([7; 16]).to_string();
        assert!(read(&[(CLUSTER_ID, &same)]).is_ok());
        let failure = read(&[(CLUSTER_ID, "x")]).expect_err("no id");
        assert_eq!(failure.code, FailureCode::InvalidArgument);
    }

    #[tokio::test]
    async fn a_required_feature_that_is_not_active_is_refused_by_name() {
        assert!(read(&[(REQUIRE, "conditional-append")]).is_ok());
        let failure = read(&[(REQUIRE, "conditional-append, time-travel")]).expect_err("unknown");
        assert_eq!(failure.code, FailureCode::Unsupported);
        assert!(failure.message.contains("time-travel"), "{}", failure.message);
    }

    #[tokio::test]
    async fn a_call_that_was_passed_on_is_not_passed_on_again() {
        assert!(!read(&[(HOP, "1")]).expect("a good call").pass_on("n2:7001".into()));
        let call = read(&[]).expect("a good call");
        assert!(call.pass_on("n2:7001".into()));
        assert_eq!(call.relay().expect("may hop").target(), Some("n2:7001"));
    }

    #[tokio::test]
    async fn where_a_call_came_from_is_the_transports_word_unless_a_node_passed_it_on() {
        let remote = Some("10.0.0.7:5000".parse().expect("an address"));
        let caller = |pairs: &[(&'static str, &str)]| Caller::read(&headers(pairs), remote);
        let claimed = caller(&[(CLIENT_ADDRESS, "1.1.1.1:1"), (CLIENT_ID, "billing")]);
        assert_eq!((&*claimed.address, &*claimed.client_id), ("10.0.0.7:5000", "billing"));
        let passed_on = caller(&[(HOP, "1"), (CLIENT_ADDRESS, "1.1.1.1:1")]);
        assert_eq!(passed_on.address, "1.1.1.1:1");
    }

    #[test]
    fn an_id_that_could_forge_a_log_line_is_replaced() {
        assert!(given_id(&headers(&[(REQUEST_ID, "a b")])).is_none());
        assert!(given_id(&headers(&[(REQUEST_ID, &"x".repeat(129))])).is_none());
        assert_eq!(given_id(&headers(&[(REQUEST_ID, "abc")])).as_deref(), Some("abc"));
    }

    proptest! {
        #[test]
        fn no_timeout_text_panics_and_ours_reads_back(text in ".{0,12}", ms in 0u64..99_999_999) {
            let _ = parse_timeout(&text);
            let timeout = Duration::from_millis(ms);
            prop_assert_eq!(parse_timeout(&write_timeout(timeout)), Some(timeout));
        }
    }
}
