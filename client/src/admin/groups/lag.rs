//! Owns asking how far groups are behind, in records and in time. Measuring it is the coordinator's; here nothing is
//! computed but sums, and what is not known stays unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use waymark_proto::v1 as wire;

use super::model::span;
use super::{GroupState, PAGE, at, service, some};
use crate::admin::Admin;
use crate::connections::Link;
use crate::error::{Error, Result};
use crate::record::TopicPartition;
use crate::refusal::check;
use crate::retry::Repeat;

/// How far a group is behind.
#[derive(Debug, Clone)]
pub struct GroupLag {
    /// Its name.
    pub group: String,
    /// What state it is in.
    pub state: GroupState,
    /// Each partition.
    pub partitions: Vec<PartitionLag>,
    /// Records behind, over the partitions that are known.
    pub records: i64,
    /// The furthest behind of the partitions that are known.
    pub behind: Duration,
    /// When the leaders of its partitions were asked, Unix ms.
    pub measured_time_ms: i64,
}

impl GroupLag {
    /// Partitions whose lag is not known: their leader did not answer.
    #[must_use]
    pub fn unknown(&self) -> usize {
        self.partitions.iter().filter(|partition| partition.records.is_none()).count()
    }

    /// Records a second by which the lag shrinks, over the partitions where that is known; negative: it grows.
    #[must_use]
    pub fn catching_up_per_second(&self) -> Option<f64> {
        let known: Vec<f64> =
            self.partitions.iter().filter_map(|p| p.catching_up_per_second).collect();
        if known.is_empty() { None } else { Some(known.iter().sum()) }
    }

    /// Until retention first removes an unread record; zero: it has removed some. `None`: it will not, or not known.
    #[must_use]
    pub fn loss_in(&self) -> Option<Duration> {
        self.partitions.iter().filter_map(|partition| partition.loss_in).min()
    }

    /// Unread records that retention has removed.
    #[must_use]
    pub fn lost_records(&self) -> i64 {
        self.partitions.iter().map(|partition| partition.lost_records).sum()
    }
}

/// How far a group is behind in one partition.
#[derive(Debug, Clone)]
pub struct PartitionLag {
    /// Which partition.
    pub at: TopicPartition,
    /// `None`: never committed.
    pub committed: Option<i64>,
    /// The first offset of the log; `None`: its leader did not answer.
    pub log_start: Option<i64>,
    /// One beyond the last record; `None`: its leader did not answer.
    pub high_watermark: Option<i64>,
    /// Records not yet committed as read; `None`: the leader did not answer.
    pub records: Option<i64>,
    /// Age of the oldest of them; zero where there is none, whatever producers do. `None`: not known.
    pub behind: Option<Duration>,
    /// Records a second by which the lag shrinks; negative: it grows. `None`: not known yet.
    pub catching_up_per_second: Option<f64>,
    /// Until retention removes the oldest unread record; zero: it has removed some. `None`: it will not, or not known.
    pub loss_in: Option<Duration>,
    /// Unread records that retention has removed.
    pub lost_records: i64,
    /// The owner; `None`: nobody.
    pub member_id: Option<String>,
    /// What the owner calls itself.
    pub client_id: Option<String>,
    /// Retention waits for this group here.
    pub held: bool,
    /// Why it is not known.
    pub error: Option<Error>,
}

impl Admin {
    /// How far these groups are behind, in the order asked.
    ///
    /// # Errors
    /// When no node answers in time; each group has its own outcome.
    pub async fn group_lag<S: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Result<GroupLag>>> {
        let groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if groups.is_empty() {
            // No name means every group to a node: the caller has named none.
            return Ok(Vec::new());
        }
        self.each("asking for lag", groups, |link, timeout, groups| async move {
            let mut found = BTreeMap::new();
            let mut token = String::new();
            loop {
                let page = lag_page(&link, timeout, (groups.clone(), token)).await?;
                found.extend(page.groups.into_iter().map(|lag| (lag.group_id.clone(), read(lag))));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            let missing = || Err(Error::protocol("a group that was asked for has no answer"));
            Ok(groups.iter().map(|group| found.remove(group).unwrap_or_else(missing)).collect())
        })
        .await
    }

    /// How far every group is behind, by name.
    ///
    /// # Errors
    /// When no node answers in time; each group has its own outcome.
    pub async fn all_group_lag(&self) -> Result<Vec<(String, Result<GroupLag>)>> {
        let mut all = Vec::new();
        let mut token = String::new();
        loop {
            let from = &token;
            let page = self
                .client
                .call("asking for lag", Repeat::Harmless, |link, timeout| async move {
                    lag_page(&link, timeout, (Vec::new(), from.clone())).await
                })
                .await?;
            all.extend(page.groups.into_iter().map(|lag| (lag.group_id.clone(), read(lag))));
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(all);
            }
        }
    }
}

async fn lag_page(
    link: &Link,
    timeout: Duration,
    (group_ids, page_token): (Vec<String>, String),
) -> Result<wire::GetLagResponse> {
    let request = wire::GetLagRequest { group_ids, page_size: PAGE, page_token };
    let answer = service(link).get_lag(link.call(request, timeout)).await;
    let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
    check(answer.failure.as_ref()).map(|()| answer)
}

fn read(lag: wire::GroupLag) -> Result<GroupLag> {
    check(lag.failure.as_ref())?;
    let state = GroupState::read(lag.state());
    let mut partitions =
        lag.partitions.into_iter().map(read_partition).collect::<Result<Vec<_>>>()?;
    partitions.sort_by(|a, b| a.at.cmp(&b.at));
    Ok(GroupLag {
        state,
        partitions,
        group: lag.group_id,
        records: lag.records,
        behind: span(lag.behind_ms),
        measured_time_ms: lag.measured_time_ms,
    })
}

fn read_partition(lag: wire::PartitionLag) -> Result<PartitionLag> {
    // Start and end come from the leader, as the records do: without its answer they are zero on the wire, not in truth.
    let answered = lag.records.is_some();
    Ok(PartitionLag {
        at: at(lag.topic.as_ref(), lag.partition)?,
        committed: lag.committed_offset,
        log_start: answered.then_some(lag.log_start_offset),
        high_watermark: answered.then_some(lag.high_watermark),
        records: lag.records,
        behind: lag.behind_ms.map(span),
        catching_up_per_second: lag.catching_up_per_second,
        loss_in: lag.loss_in_ms.map(span),
        lost_records: lag.lost_records,
        member_id: some(lag.member_id),
        client_id: some(lag.client_id),
        held: lag.held,
        error: check(lag.failure.as_ref()).err(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(records: Option<i64>) -> wire::PartitionLag {
        let topic = Some(crate::answers::topic_ref("t"));
        wire::PartitionLag { topic, partition: Some(0), records, ..Default::default() }
    }

    #[test]
    fn what_a_leader_did_not_say_is_not_zero() {
        let unknown = read_partition(partition(None)).unwrap();
        assert_eq!(
            (unknown.records, unknown.high_watermark, unknown.log_start),
            (None, None, None)
        );
        assert_eq!((unknown.behind, unknown.loss_in), (None, None));
        let known = read_partition(partition(Some(0))).unwrap();
        assert_eq!((known.records, known.high_watermark), (Some(0), Some(0)));
    }

    #[test]
    fn the_speed_of_a_group_is_unknown_until_that_of_a_partition_is_known() {
        let mut lag =
            wire::GroupLag { partitions: vec![partition(Some(1)); 2], ..Default::default() };
        assert_eq!(read(lag.clone()).unwrap().catching_up_per_second(), None);
        lag.partitions[1].catching_up_per_second = Some(-2.5);
        assert_eq!(read(lag).unwrap().catching_up_per_second(), Some(-2.5));
    }
}
