//! Owns one event in a sentence.

use super::super::groups::{Actor, GroupEvent};
use super::words::{duration, partitions};
use super::{Cause, Seats};

/// What happened, in words.
pub(super) fn sentence(cause: Cause, event: &GroupEvent, seats: &Seats) -> String {
    let who = seats.concerned(event).unwrap_or_else(|| "a member".to_owned());
    let took = event.took.map(duration);
    let for_long = |what: &str| took.as_ref().map(|took| format!(" {what} {took}"));
    let for_long = |what: &str| for_long(what).unwrap_or_default();
    let said = |text: String| match event.detail.as_str() {
        "" => text,
        detail => format!("{text}: {detail}"),
    };
    match cause {
        Cause::Created => said("the group was created".to_owned()),
        Cause::Joined => format!("{who} joined{}", by(&event.actor, "as")),
        Cause::Left => said(format!("{who} left for good")),
        Cause::Away => format!("{who} left to return; its partitions wait for it"),
        Cause::Returned => {
            format!("a new process took the seat of {who}{}", for_long("after"))
        }
        Cause::Heartbeat => {
            format!("{who} was expelled: connected, but without a heartbeat{}", for_long("for"))
        }
        Cause::Progress => {
            format!("{who} was expelled: it was at work on the same records{}", for_long("for"))
        }
        Cause::Crash => format!(
            "{who} was expelled: its connection broke and it did not come back{}",
            for_long("within")
        ),
        Cause::Operator => {
            said(format!("{who} was expelled by an operator{}", by(&event.actor, "as")))
        }
        Cause::DidNotReturn => {
            format!("{who} was expelled: it left to return and was not back{}", for_long("after"))
        }
        Cause::Replaced => replaced(event, &who),
        Cause::SubscriptionChanged => said(format!("{who} changed what it reads")),
        Cause::TopicsChanged => said("topics changed".to_owned()),
        Cause::AssignorChanged => said("the assignor changed".to_owned()),
        Cause::OffsetsReset => said(offsets("moved", event)),
        Cause::OffsetsUndone => said(offsets("put back", event)),
        Cause::OffsetsDeleted => said(offsets("removed", event)),
        Cause::ExpiryAnnounced => said("the group's offsets will be removed".to_owned()),
        Cause::OffsetsExpired => said(offsets("removed because of their age", event)),
        Cause::CoordinatorChanged => said("another node coordinates the group".to_owned()),
        _ => said(format!("{who} was expelled")),
    }
}

fn replaced(event: &GroupEvent, who: &str) -> String {
    let old = event.member_id.as_deref().filter(|old| *old != who);
    let old = old.map(|old| format!(" (member {old})")).unwrap_or_default();
    format!("the old process of {who}{old} was expelled: another one took over its instance")
}

fn offsets(done: &str, event: &GroupEvent) -> String {
    let which = match &event.partitions[..] {
        [] => "offsets".to_owned(),
        some => format!("offsets of {}", partitions(some)),
    };
    format!("{which} were {done}{}", by(&event.actor, "by"))
}

/// Who a node says it was.
fn by(actor: &Actor, word: &str) -> String {
    match (&actor.client_id, &actor.address) {
        (Some(client), Some(address)) => format!(" {word} {client} from {address}"),
        (Some(client), None) => format!(" {word} {client}"),
        (None, Some(address)) => format!(" from {address}"),
        (None, None) => String::new(),
    }
}
