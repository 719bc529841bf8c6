//! Stories of one consumer group: who joins, leaves, dies, hangs and is cut off, what strikes its coordinator, and when
//! offsets are moved. Owns the order of things; members do what the product's client does, and the oracle judges.
//!
//! - `seam` is what a story needs of the cluster under test.
//! - `crowd` is who is there; `life` is what each of them does.
//! - `office` asks about the group, as an operator; `desk` moves its offsets, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::crowd::Crowd;
pub(crate) use self::desk::MOVES;
use self::desk::{Desk, Order};
use self::office::Office;
use crate::cluster::{Broken, Cluster};
use crate::faults::Fault;
use crate::group_history::GroupEvent;
use crate::history::{Event, History};
use crate::reading_back::note_log_starts;
use crate::subject::Subject;
use crate::tally::Tally;
use crate::workload::SETTLE;

mod crowd;
mod desk;
mod life;
mod office;
pub mod seam;

/// The group, in histories.
pub const GROUP: u32 = 2;
/// The shortest session there is: without a word for so long, the group goes on without a member.
pub const SESSION: Duration = Duration::from_secs(6);
/// The longest work on the records of one call: longer, and the group goes on without the member. Above two operations of a
/// member's client, so that a commit and a call that both run into their deadlines are not taken for work.
pub const LONGEST_WORK: Duration = Duration::from_secs(11);
/// Members when a story begins.
const MEMBERS: usize = 3;
/// Most members at a time: one more than there are partitions.
const MOST: usize = 6;
/// For a coordinator and a member that count the same time, in whole steps of the simulation.
const STEP: Duration = Duration::from_millis(2);

/// What happens to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// Members join and leave as they should.
    Planned,
    /// The coordinator is cut off and joined again.
    CoordinatorCut,
    /// The coordinator's node dies and comes back.
    CoordinatorCrash,
    /// Members are cut off, hang, and die.
    MembersLost,
    /// Offsets are moved while everyone reads.
    Reset,
    /// Anything.
    Chaos,
}

/// A group under a story.
pub(crate) struct Tale {
    crowd: Crowd,
    office: Office,
    /// Nobody sits there before there is something to move.
    desk: Option<Desk>,
    subject: Arc<dyn Subject>,
    history: History,
    tally: Tally,
    /// Where a member is cut off.
    cut: Option<usize>,
    /// Where one hangs.
    stuck: Option<usize>,
}

/// How a member is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    CutOff,
    Hangs,
    Dies,
}

impl Tale {
    /// The first members join.
    pub(crate) fn begin(
        cluster: &mut Cluster,
        subject: &Arc<dyn Subject>,
        (history, tally): (&History, &Tally),
    ) -> Result<Self, Broken> {
        let mut tale = Self {
            crowd: Crowd::new(subject, history),
            office: Office::new(subject, history),
            desk: None,
            subject: Arc::clone(subject),
            history: history.clone(),
            tally: tally.clone(),
            cut: None,
            stuck: None,
        };
        for _ in 0..MEMBERS {
            tale.crowd.join(cluster);
        }
        tale.office.wait_until_stable(cluster, MEMBERS)?;
        Ok(tale)
    }

    pub(crate) fn tell(&mut self, cluster: &mut Cluster, story: Story) -> Result<(), Broken> {
        match story {
            Story::Planned => self.planned(cluster),
            Story::CoordinatorCut => {
                let cuts = [Fault::LeaderAlone, Fault::LeaderDeposed, Fault::LeaderMute];
                self.strike_coordinator(cluster, &cuts)
            }
            Story::CoordinatorCrash => {
                self.strike_coordinator(cluster, &[Fault::Crash, Fault::PowerLoss])
            }
            Story::MembersLost => self.members_lost(cluster),
            Story::Reset => self.resets(cluster),
            Story::Chaos => self.chaos(cluster),
        }
    }

    /// After everything: those who are there read to the end, leave, and the books are closed. Tells whether they got there.
    pub(crate) fn end(mut self, cluster: &mut Cluster) -> Result<bool, Broken> {
        if self.crowd.present().is_empty() {
            self.crowd.join(cluster);
        }
        let ends: BTreeMap<u32, u64> = self.history.snapshot().iter().filter_map(end).collect();
        let reached = cluster.run_until(SETTLE, || self.crowd.has_reached(&ends))?;
        note_log_starts(cluster, &self.subject, &self.history)?;
        self.crowd.disperse(cluster)?;
        self.office.close_the_books(cluster)?;
        Ok(reached)
    }

    fn planned(&mut self, cluster: &mut Cluster) -> Result<(), Broken> {
        for _ in 0..10 {
            pause(cluster, 1_200)?;
            self.join_or_leave(cluster);
        }
        Ok(())
    }

    fn join_or_leave(&mut self, cluster: &mut Cluster) {
        let present = self.crowd.present().len();
        if present <= 1 || (present < MOST && cluster.draw(0, 2) == 0) {
            self.crowd.join(cluster);
        } else if let Some(place) = self.crowd.any(cluster) {
            self.crowd.tell_to_leave(place);
        }
    }

    fn strike_coordinator(
        &mut self,
        cluster: &mut Cluster,
        faults: &[Fault],
    ) -> Result<(), Broken> {
        for strikes_again in [true, false] {
            pause(cluster, 1_000)?;
            let drawn = usize::try_from(cluster.draw(0, faults.len() as u64)).unwrap_or(0);
            cluster.run_until(SETTLE, || self.subject.coordinator().is_some())?;
            let node = self.subject.coordinator();
            let node = node.ok_or_else(|| Broken("nobody coordinates the group".to_owned()))?;
            faults[drawn].strike_node(cluster, node, &self.history)?;
            // Whoever is thrown out for this is thrown out by the end.
            let watched =
                if strikes_again { SESSION / 4 } else { SESSION + Duration::from_secs(1) };
            cluster.run_for(watched)?;
            self.office.wait_until_stable(cluster, MEMBERS)?;
        }
        Ok(())
    }

    fn members_lost(&mut self, cluster: &mut Cluster) -> Result<(), Broken> {
        for loss in [Loss::CutOff, Loss::Hangs, Loss::Dies] {
            pause(cluster, 1_000)?;
            let Some(place) = self.crowd.any(cluster) else { continue };
            match loss {
                Loss::Dies => {
                    self.crowd.crash(cluster, place);
                    self.office.wait_until_stable(cluster, MEMBERS - 1)?;
                    self.crowd.join(cluster);
                }
                Loss::Hangs => {
                    self.crowd.hang(place);
                    if !cluster.run_until(SETTLE, || self.crowd.hangs(place))? {
                        return Err(Broken("a member is given nothing to hang at".to_owned()));
                    }
                    self.office.wait_until_stable(cluster, MEMBERS - 1)?;
                    pause(cluster, 2_000)?;
                    self.crowd.wake(place);
                }
                Loss::CutOff => {
                    self.crowd.cut_off(cluster, place);
                    cluster.run_for(SESSION + STEP)?;
                    self.crowd.note_overdue(place);
                    self.office.wait_until_stable(cluster, MEMBERS - 1)?;
                    pause(cluster, 2_000)?;
                    self.crowd.heal(cluster, place);
                }
            }
            self.office.wait_until_stable(cluster, MEMBERS)?;
        }
        Ok(())
    }

    fn resets(&mut self, cluster: &mut Cluster) -> Result<(), Broken> {
        for _ in 0..5 {
            pause(cluster, 1_000)?;
            if cluster.draw(0, 3) == 0 {
                // Partitions are on their way when they are moved.
                self.join_or_leave(cluster);
                pause(cluster, 100)?;
            }
            self.reset(cluster);
            self.wait_until_moved(cluster)?;
            cluster.run_for(Duration::from_millis(150))?;
            self.office.read_ledger(cluster)?;
            if cluster.draw(0, 2) == 0 {
                self.order(cluster, Order::Undo);
                self.wait_until_moved(cluster)?;
                cluster.run_for(Duration::from_millis(150))?;
                self.office.read_ledger(cluster)?;
            }
        }
        Ok(())
    }

    /// Some partitions, to places that were read already.
    fn reset(&mut self, cluster: &mut Cluster) {
        let mut targets = Vec::new();
        for (partition, end) in self.crowd.ends() {
            if cluster.draw(0, 3) > 0 {
                targets.push((partition, cluster.draw(0, end)));
            }
        }
        if !targets.is_empty() {
            self.order(cluster, Order::Reset(targets));
        }
    }

    fn order(&mut self, cluster: &mut Cluster, order: Order) {
        let (subject, seen) = (&self.subject, (&self.history, &self.tally));
        self.desk.get_or_insert_with(|| Desk::open(cluster, subject, seen)).give(order);
    }

    /// Every move that was begun is done: while records still come, so that there is something to read wherever the group
    /// then stands.
    pub(crate) fn wait_until_moved(&self, cluster: &mut Cluster) -> Result<(), Broken> {
        match cluster.run_until(SETTLE, || self.desk.as_ref().is_none_or(Desk::is_idle))? {
            true => Ok(()),
            false => Err(Broken("the group's offsets cannot be moved".to_owned())),
        }
    }

    fn chaos(&mut self, cluster: &mut Cluster) -> Result<(), Broken> {
        self.expect_outages();
        for _ in 0..10 {
            pause(cluster, 1_500)?;
            if cluster.draw(0, 3) > 0 {
                self.stir(cluster);
            } else {
                let all = &Fault::ALL;
                let drawn = usize::try_from(cluster.draw(0, all.len() as u64)).unwrap_or(0);
                all[drawn].strike(cluster, &self.subject, &self.history)?;
            }
        }
        self.heal(cluster);
        self.wait_until_moved(cluster)
    }

    /// From now on members may lose the cluster for longer than a session.
    pub(crate) fn expect_outages(&self) {
        self.history.note(GroupEvent::Outages);
    }

    /// Somebody comes, leaves, dies, hangs, is cut off, goes on or is joined to everyone again, or offsets are moved.
    pub(crate) fn stir(&mut self, cluster: &mut Cluster) {
        match cluster.draw(0, 6) {
            0 | 1 => self.join_or_leave(cluster),
            2 => {
                if let Some(place) = self.crowd.any(cluster) {
                    self.crowd.crash(cluster, place);
                }
            }
            3 => match self.stuck.take() {
                Some(place) => self.crowd.wake(place),
                None => {
                    self.stuck = self.crowd.any(cluster);
                    self.stuck.iter().for_each(|place| self.crowd.hang(*place));
                }
            },
            4 if cluster.draw(0, 3) == 0 => self.order(cluster, Order::Undo),
            4 => self.reset(cluster),
            _ if self.cut.is_some() => self.join_again(cluster),
            _ => {
                self.cut = self.crowd.any(cluster);
                self.cut.iter().for_each(|place| self.crowd.cut_off(cluster, *place));
            }
        }
    }

    /// Who is cut off is joined to everyone again, who hangs goes on, and no move begins any more.
    pub(crate) fn heal(&mut self, cluster: &mut Cluster) {
        self.join_again(cluster);
        if let Some(place) = self.stuck.take() {
            self.crowd.wake(place);
        }
        self.desk.iter().for_each(Desk::clear);
    }

    fn join_again(&mut self, cluster: &mut Cluster) {
        if let Some(place) = self.cut.take() {
            self.crowd.heal(cluster, place);
        }
    }
}

fn pause(cluster: &mut Cluster, longest_ms: u64) -> Result<(), Broken> {
    let pause = Duration::from_millis(cluster.draw(0, longest_ms));
    cluster.run_for(pause)
}

fn end(event: &Event) -> Option<(u32, u64)> {
    let Event::Settled { partition, records } = event else { return None };
    Some((*partition, records.last().map_or(0, |(offset, _)| offset + 1)))
}
