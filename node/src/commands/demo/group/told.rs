//! Owns how the group is told: who has which partition, and the group's own story in short. Changes nothing.

use std::collections::BTreeMap;

use waymark_client::GroupDescription;
use waymark_client::explain::{Cause, Explanation, Facts, Gravity, Round};

use super::super::super::Failure;
use super::super::read::GROUP;
use super::super::screen::lasted;
use super::{Kill, Share, failed};

impl Share<'_> {
    /// One line a member: its partitions, each with the fencing epoch under which its records come.
    pub(super) fn assignments(&self, group: &GroupDescription) {
        self.screen.aside(&format!("generation {}", group.generation));
        let mut members: Vec<_> = group.members.iter().collect();
        members.sort_by_key(|member| &member.client_id);
        for member in members {
            let owned = member.assigned.iter().map(|owned| {
                format!("partition {} (fencing epoch {})", owned.at.partition, owned.fencing_epoch)
            });
            let owned = owned.collect::<Vec<_>>().join(", ");
            self.screen.line(&format!("{:<14}{owned}", member.client_id));
        }
    }

    /// What `waymark group explain` says, in short; whether it names the kill and its victim.
    pub(super) async fn explain(&self, kill: &Kill) -> Result<bool, Failure> {
        let admin = self.admin();
        let events = admin.group_events(GROUP, None).await.map_err(failed)?;
        let now = admin.describe_group(GROUP).await.map_err(failed)?;
        let facts = Facts { group: GROUP, events: &events, description: Some(&now), lag: None };
        let story = Explanation::of(facts);
        self.screen.line(&format!("waymark group explain {GROUP}:"));
        for round in &story.rounds {
            self.screen.aside(&named(&line(round), &self.names));
        }
        for finding in story.findings.iter().filter(|it| it.gravity < Gravity::Note) {
            let what = format!("to do: {}; {}", finding.text, finding.advice);
            self.screen.aside(&named(&what, &self.names));
        }
        let mut triggers = story.rounds.iter().flat_map(|round| &round.triggers);
        Ok(triggers.any(|trigger| {
            matches!(trigger.cause, Cause::Crash | Cause::Heartbeat)
                && trigger.member.as_deref() == Some(&kill.member_id)
        }))
    }
}

/// A change of the group: what began it, how many partitions moved, how long that took.
fn line(round: &Round) -> String {
    let began: Vec<&str> = round
        .triggers
        .iter()
        // Whom a member that joined calls itself is its name here.
        .map(|trigger| match trigger.cause {
            Cause::Joined => trigger.text.split(" as ").next().unwrap_or(&trigger.text),
            _ => &trigger.text,
        })
        .collect();
    let moved = match round.moved.len() {
        0 => String::new(),
        1 => "; 1 partition moved".to_owned(),
        more => format!("; {more} partitions moved"),
    };
    let took = round.took_ms.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
    let took = took
        .filter(|_| !moved.is_empty())
        .map(|ms| format!(" within {}", lasted(std::time::Duration::from_millis(ms))));
    let took = took.unwrap_or_default();
    format!("generation {:<4}{}{moved}{took}", round.generation, began.join("; "))
}

/// Members by what they call themselves instead of their ids.
fn named(text: &str, names: &BTreeMap<String, String>) -> String {
    names.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id.as_str(), name))
}

#[cfg(test)]
mod tests {
    use waymark_client::explain::Trigger;

    use super::*;

    #[test]
    fn a_change_is_one_line_with_the_names_that_members_give_themselves() {
        let text = "17-b joined as consumer-c from 127.0.0.1".to_owned();
        let member = Some("17-b".to_owned());
        let trigger = Trigger { cause: Cause::Joined, time_ms: 0, member, text };
        let round = Round { generation: 4, triggers: vec![trigger], ..Round::default() };
        let names = BTreeMap::from([("17-b".to_owned(), "consumer-c".to_owned())]);
        assert_eq!(named(&line(&round), &names), "generation 4   consumer-c joined");
    }
}
