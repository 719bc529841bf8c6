//! A call whose items are led by several nodes: what is not led here is asked of the nodes that lead it, each once, and the
//! answers are put back in their places.
//!
//! Where one other node leads everything, the whole call is passed on as it came. Otherwise the items are encoded anew, so
//! a field that this node does not know would be lost on the way: calls that need such a field say so in
//! `waymark-require`, and were refused at the edge.

use std::collections::BTreeMap;

use futures::future::{BoxFuture, join_all};
use http::HeaderValue;
use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic::transport::Channel;
use tonic::{Request, Status};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::v1;

use super::Api;
use super::call::{CLIENT_ADDRESS, CLIENT_ID, Call, HOP, REQUEST_ID, REQUIRE};
use super::refusal::refuse;
use super::status::whole_call;

/// An answer to one item.
pub(super) trait ItemAnswer {
    fn failure(&self) -> Option<&v1::Failure>;
    fn set_failure(&mut self, failure: v1::Failure);
}

macro_rules! item_answers {
    ($($answer:ident),*) => {$(
        impl ItemAnswer for v1::$answer {
            fn failure(&self) -> Option<&v1::Failure> {
                self.failure.as_ref()
            }
            fn set_failure(&mut self, failure: v1::Failure) {
                self.failure = Some(failure);
            }
        }
    )*};
}

item_answers!(OffsetAnswer, EpochAnswer, DeleteRecordsResult, LeaderMoveResult, OffsetResult);
item_answers!(GroupDescription, GroupResult, GroupLag);

/// Items that another node leads, by its address.
fn misplaced<A: ItemAnswer>(answers: &[A], here: i32) -> BTreeMap<String, Vec<usize>> {
    let mut nodes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (item, answer) in answers.iter().enumerate() {
        let Some(failure) = answer.failure() else { continue };
        if !matches!(failure.code(), FailureCode::NotLeader | FailureCode::NotCoordinator) {
            continue;
        }
        let leader = failure.leader.as_ref().filter(|leader| leader.node_id != here);
        if let Some(endpoint) = leader.and_then(|leader| leader.endpoints.first()) {
            let address = format!("{}:{}", endpoint.host, endpoint.port);
            nodes.entry(address).or_default().push(item);
        }
    }
    nodes
}

/// Lets other nodes answer the items that they lead.
///
/// # Errors
/// When one node must answer the whole call: the edge then passes it on.
pub(super) async fn ask_leaders<Q, A>(
    api: &Api,
    call: &Call,
    queries: &[Q],
    answers: &mut [A],
    ask: impl Fn(Channel, Request<Vec<Q>>) -> BoxFuture<'static, Result<Vec<A>, Status>>,
) -> Result<(), Status>
where
    Q: Clone,
    A: ItemAnswer,
{
    if !call.may_hop() {
        return Ok(());
    }
    let nodes = misplaced(answers, super::convert::cluster::node_number(api.node()));
    if let Some((address, items)) = nodes.first_key_value()
        && items.len() == answers.len()
        && call.pass_on(address.clone())
    {
        return Err(whole_call(&refuse(FailureCode::NotLeader, "another node leads all of these")));
    }
    ask_nodes(api, call, (queries, nodes), answers, ask).await;
    Ok(())
}

/// As [`ask_leaders`], for questions that this node has on its way to an answer of its own: they are no hop of the call.
pub(super) async fn ask_other_leaders<Q, A>(
    api: &Api,
    call: &Call,
    queries: &[Q],
    answers: &mut [A],
    ask: impl Fn(Channel, Request<Vec<Q>>) -> BoxFuture<'static, Result<Vec<A>, Status>>,
) where
    Q: Clone,
    A: ItemAnswer,
{
    let nodes = misplaced(answers, super::convert::cluster::node_number(api.node()));
    ask_nodes(api, call, (queries, nodes), answers, ask).await;
}

/// Asks every other node the same, each to answer for itself alone. `None`: it did not answer.
pub(super) async fn ask_every_node<Q, A>(
    api: &Api,
    call: &Call,
    question: Q,
    ask: impl Fn(Channel, Request<Q>) -> BoxFuture<'static, Result<A, Status>>,
) -> Vec<(i32, Option<A>)>
where
    Q: Clone,
{
    let others = api.admin().nodes().into_iter().filter(|view| view.node != api.node());
    let asked = others.map(|view| {
        let channel = api.peers().channel(&view.address);
        let sent = channel.map(|channel| ask(channel, request(call, question.clone())));
        async move {
            let answered = match sent {
                Some(sent) => sent.await.ok(),
                None => None,
            };
            (super::convert::cluster::node_number(view.node), answered)
        }
    });
    join_all(asked).await
}

async fn ask_nodes<Q, A>(
    api: &Api,
    call: &Call,
    (queries, nodes): (&[Q], BTreeMap<String, Vec<usize>>),
    answers: &mut [A],
    ask: impl Fn(Channel, Request<Vec<Q>>) -> BoxFuture<'static, Result<Vec<A>, Status>>,
) where
    Q: Clone,
    A: ItemAnswer,
{
    let asked = nodes.into_iter().map(|(address, items)| {
        let part = items.iter().filter_map(|item| queries.get(*item).cloned()).collect();
        let sent = api.peers().channel(&address).map(|channel| ask(channel, request(call, part)));
        async move {
            match sent {
                Some(sent) => (items, Some(sent.await)),
                None => (items, None),
            }
        }
    });
    for (items, answered) in join_all(asked).await {
        match answered {
            Some(Ok(given)) if given.len() == items.len() => {
                for (item, answer) in items.into_iter().zip(given) {
                    answers[item] = answer;
                }
            }
            Some(outcome) => unanswered(call, outcome.as_ref().err(), &items, answers),
            None => {}
        }
    }
}

/// The other node may have done what it was asked.
fn unanswered<A: ItemAnswer>(
    call: &Call,
    status: Option<&Status>,
    items: &[usize],
    answers: &mut [A],
) {
    tracing::debug!(id = %call.id, ?status, "a leader's node did not answer");
    let failure = refuse(FailureCode::OutcomeUnknown, "the leader's node did not answer");
    for item in items {
        answers[*item].set_failure(Failure::into(failure.clone()));
    }
}

/// A part of a call, in its name.
fn request<Q>(call: &Call, part: Q) -> Request<Q> {
    let mut request = Request::new(part);
    request.set_timeout(call.remaining());
    let metadata: &mut MetadataMap = request.metadata_mut();
    let id = HeaderValue::from_str(&call.id).ok();
    let pairs = [
        (HOP, Some(HeaderValue::from_static("1"))),
        (REQUEST_ID, id),
        (REQUIRE, call.require.clone()),
        (CLIENT_ADDRESS, HeaderValue::from_str(&call.caller.address).ok()),
        (CLIENT_ID, HeaderValue::from_str(&call.caller.client_id).ok()),
    ];
    for (name, value) in pairs {
        if let Some(Ok(value)) = value.map(|value| value.as_bytes().try_into()) {
            metadata.insert(AsciiMetadataKey::from_static(name), value);
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led_by(node_id: i32) -> v1::OffsetAnswer {
        let endpoint =
            v1::Endpoint { host: format!("n{node_id}"), port: 7001, ..v1::Endpoint::default() };
        let leader = v1::LeaderHint { node_id, endpoints: vec![endpoint], leader_epoch: 1 };
        let code = FailureCode::NotLeader.into();
        let failure = v1::Failure { code, leader: Some(leader), ..v1::Failure::default() };
        v1::OffsetAnswer { failure: Some(failure), ..v1::OffsetAnswer::default() }
    }

    #[test]
    fn items_are_grouped_by_the_node_that_leads_them_and_ours_stay() {
        let answers = [led_by(2), v1::OffsetAnswer::default(), led_by(3), led_by(2), led_by(1)];
        let nodes = misplaced(&answers, 1);
        let expected = [("n2:7001".to_owned(), vec![0, 3]), ("n3:7001".to_owned(), vec![2])];
        assert_eq!(nodes.into_iter().collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn a_part_of_a_call_hops_once_and_keeps_what_the_caller_requires() {
        let mut headers = http::HeaderMap::new();
        headers.insert(REQUIRE, HeaderValue::from_static("commit-seq"));
        let call = Call::read(&headers, None, "abc".into(), None).expect("a good call");
        let part = request(&call, vec![1]);
        assert_eq!(part.metadata().get(HOP).map(|v| v.as_bytes()), Some(&b"1"[..]));
        assert_eq!(part.metadata().get(REQUIRE).map(|v| v.as_bytes()), Some(&b"commit-seq"[..]));
        assert_eq!(part.metadata().get(REQUEST_ID).map(|v| v.as_bytes()), Some(&b"abc"[..]));
    }
}
