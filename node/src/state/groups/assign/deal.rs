//! Owns who gets the partitions that nobody keeps, once it is settled how many everybody gets. There is a free choice left,
//! and it is used to spread each topic: a partition goes to a member that has the fewest of its topic, and of those to
//! the one that still takes the most. So one busy topic is not one member's burden. Never changes how many anybody gets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::settle::Vacancies;

/// Deals one block's free partitions.
pub(super) struct Dealer {
    /// By cohort, its members that still take something: how much, most first, and who.
    waiting: BTreeMap<usize, BTreeSet<(Reverse<i64>, usize)>>,
    /// By share, how much of it each cohort still takes.
    shares: Vec<Vec<(usize, i64)>>,
}

impl Dealer {
    pub(super) fn new(vacancies: Vacancies) -> Self {
        let waiting = |(cohort, members): (usize, Vec<(usize, i64)>)| {
            let vacant = members.into_iter().filter(|(_, takes)| *takes > 0);
            (cohort, vacant.map(|(member, takes)| (Reverse(takes), member)).collect())
        };
        let waiting = vacancies.members.into_iter().map(waiting).collect();
        Self { waiting, shares: vacancies.shares }
    }

    /// Deals the free partitions of one topic, whose share and kept partitions by member are given. Returns who gets
    /// which.
    pub(super) fn deal(
        &mut self,
        share: usize,
        mut has: BTreeMap<usize, usize>,
        free: Vec<i32>,
    ) -> Vec<(i32, usize)> {
        let mut dealt = Vec::with_capacity(free.len());
        let mut free = free.into_iter().peekable();
        let mut level = 0;
        while free.peek().is_some() {
            let (takers, next_level) = self.takers(share, &has, level, free.len());
            if takers.is_empty() && next_level == usize::MAX {
                break;
            }
            level = if takers.is_empty() { next_level } else { level + 1 };
            for (taker, partition) in takers.into_iter().zip(&mut free) {
                *has.entry(taker.member).or_default() += 1;
                dealt.push((partition, taker.member));
                self.take(share, &taker);
            }
        }
        dealt
    }

    /// Up to `wanted` members that have exactly `level` partitions of the topic and take more, and the lowest number that
    /// any other has.
    fn takers(
        &self,
        share: usize,
        has: &BTreeMap<usize, usize>,
        level: usize,
        wanted: usize,
    ) -> (Vec<Taker>, usize) {
        let mut takers = Vec::new();
        let mut next_level = usize::MAX;
        for (place, (cohort, room)) in self.shares[share].iter().enumerate() {
            let room = usize::try_from(*room).unwrap_or_default();
            let end = wanted.min(takers.len() + room);
            for (Reverse(takes), member) in self.waiting.get(cohort).into_iter().flatten() {
                if takers.len() == end {
                    break;
                }
                match has.get(member).copied().unwrap_or_default() {
                    count if count == level => {
                        takers.push(Taker { place, member: *member, takes: *takes });
                    }
                    count => next_level = next_level.min(count),
                }
            }
        }
        (takers, next_level)
    }

    /// Counts one partition as taken.
    fn take(&mut self, share: usize, taker: &Taker) {
        let (cohort, room) = &mut self.shares[share][taker.place];
        *room -= 1;
        if let Some(waiting) = self.waiting.get_mut(cohort) {
            waiting.remove(&(Reverse(taker.takes), taker.member));
            if taker.takes > 1 {
                waiting.insert((Reverse(taker.takes - 1), taker.member));
            }
        }
    }
}

/// A member that takes a partition.
struct Taker {
    /// Its cohort's place in the share.
    place: usize,
    member: usize,
    /// How much it takes, this one included.
    takes: i64,
}
