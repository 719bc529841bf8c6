//! Owns the default assignor: balanced first, then the least movement, then each topic spread out.
//!
//! What holds, exactly and for groups of any size and any subscriptions:
//! - **Balance**: the loads, sorted from the highest down, are the least possible. With equal subscriptions all loads are
//!   equal within one; with unequal ones no chain of moves takes a partition from a member to one that has two fewer.
//! - **Movement**: of all assignments so balanced, none lets more partitions stay with their owners.
//!
//! What is only tried: spreading each topic over members where balance and movement leave a choice. Nothing moves for it.
//!
//! The same input gives the same result; where all else is equal, the first members, by their ids, get more.
//! Work grows with topics × members only as far as subscriptions differ (see `classes`). Never looks at names of topics.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use waymark_proto::ids::{PartitionId, TopicPartition};

use super::blocks::{Block, Share, blocks};
use super::claims::{self, Claim};
use super::classes::Classes;
use super::deal::Dealer;
use super::settle::settle;
use super::{Input, MemberId};
use crate::mutants;

pub(super) fn assign(input: &Input<'_>) -> BTreeMap<TopicPartition, MemberId> {
    let classes = Classes::of(input);
    let mut claims = claims::by_pool(input, &classes);
    if mutants::planted!("sticky-forgets-owners") {
        claims.iter_mut().for_each(Vec::clear);
    }
    let mut assigned = BTreeMap::new();
    for block in blocks(&classes) {
        let claims = claims_of(&classes, &block, &mut claims);
        assign_block(&classes, &block, claims, &mut assigned);
    }
    assigned
}

/// For each share of a block, the claims of members who are in it. Others cannot keep anything of it, or loads would be
/// less even than they can be.
fn claims_of(classes: &Classes<'_>, block: &Block, claims: &mut [Vec<Claim>]) -> Vec<Vec<Claim>> {
    let of_share = |share: &Share| {
        let mut claims = mem::take(&mut claims[share.pool]);
        claims.retain(|claim| {
            classes.cohort_of[claim.member]
                .is_some_and(|cohort| share.cohorts.binary_search(&cohort).is_ok())
        });
        claims
    };
    block.shares.iter().map(of_share).collect()
}

fn assign_block(
    classes: &Classes<'_>,
    block: &Block,
    mut claims: Vec<Vec<Claim>>,
    assigned: &mut BTreeMap<TopicPartition, MemberId>,
) {
    let mut dealer = Dealer::new(settle(classes, block, &mut claims));
    for (number, (share, claims)) in block.shares.iter().zip(&claims).enumerate() {
        let mut claims = claims.iter().peekable();
        for topic in &classes.pools[share.pool].topics {
            let mut give = |partition, member: usize| {
                let partition = PartitionId(partition);
                let at = TopicPartition { topic: classes.topics[*topic], partition };
                assigned.insert(at, MemberId::clone(classes.members[member]));
            };
            let mut kept = BTreeSet::new();
            let mut has = BTreeMap::new();
            while let Some(claim) = claims.next_if(|claim| claim.topic == *topic) {
                has.insert(claim.member, claim.kept);
                for partition in claim.partitions.iter().take(claim.kept) {
                    kept.insert(*partition);
                    give(*partition, claim.member);
                }
            }
            let free = (0..classes.partitions[*topic]).filter(|it| !kept.contains(it)).collect();
            for (partition, member) in dealer.deal(number, has, free) {
                give(partition, member);
            }
        }
    }
}
