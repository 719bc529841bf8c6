//! The course of a run: birth, load, faults, calm, and reading everything back. Which faults happen is the profile's business,
//! what was promised is the oracle's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::caretaker;
use crate::cluster::{Broken, Cluster};
use crate::context::around;
use crate::cut_catalogs;
use crate::doubtful_journals;
use crate::full_disks;
use crate::group::Tale;
use crate::history::History;
use crate::interrupted_pulls;
use crate::lost_disks;
use crate::lying_disks;
use crate::oracle::{Violation, judge, judge_unfinished};
use crate::plan::Plan;
use crate::profile::Profile;
use crate::readers::{Names, Tasted, taste};
use crate::reading_back::settle;
use crate::states::compare_all;
use crate::storm::{CALM_WITHIN, FaultClass, Storm};
use crate::subject::{Clients, Subject};
use crate::tally::Tally;
use crate::workload::{Load, Pace, Preparation, SETTLE};

/// All damage is known once everything was read, and repaired this much later.
const REPAIRED_WITHIN: Duration = Duration::from_secs(60);
/// In a storm, between two things that happen to members of a group at most.
const LONGEST_REST_MS: u64 = 2_500;

/// What a run came to.
#[derive(Debug)]
pub struct Verdict {
    /// Appends acknowledged: a run without any proves nothing.
    pub acknowledged: usize,
    /// Records that readers were given, and whoever read everything back.
    pub read: usize,
    /// Promises broken.
    pub violations: Vec<Violation>,
    /// Why it ended early, beside what is broken.
    pub broken: Option<Broken>,
    /// What happened around the first of them.
    pub around: Vec<String>,
    /// Simulated time.
    pub elapsed: Duration,
}

/// Runs a plan on a subject. Call it inside [`crate::det::run`].
///
/// # Errors
/// When a node fell over, or the cluster did not serve again after the faults.
pub fn run(plan: &Plan, subject: &Arc<dyn Subject>, tally: &Tally) -> Result<Verdict, Broken> {
    let mut cluster = Cluster::start(Arc::clone(subject), plan.nodes(), plan.seed);
    let history = History::default();
    let played = play(plan, &mut cluster, subject, (&history, tally));
    let mut broken = None;
    let mut violations = match played {
        Ok(reached) => {
            let mut violations = judge(&history.snapshot());
            match compare_all(&mut cluster, subject) {
                Ok(differ) => violations.extend(differ),
                Err(why) => broken = Some(why),
            }
            if !reached && violations.is_empty() {
                let why = "the group does not come to the end of what it reads";
                broken = Some(Broken(why.to_owned()));
            }
            violations
        }
        Err(why) => {
            broken = Some(why);
            judge_unfinished(&history.snapshot())
        }
    };
    let view = cluster.view();
    if !view.found().is_empty() {
        // What is seen from above ends a run at once.
        broken = None;
    }
    violations.splice(0..0, view.found().iter().cloned());
    violations.extend(view.diverged().iter().cloned());
    let broken = match broken {
        Some(why) if violations.is_empty() => return Err(why),
        broken => broken,
    };
    let first = violations.first().map(|it| around(&history.stamped(), &it.evidence));
    let around = first.unwrap_or_default();
    let (acknowledged, read) = (history.acknowledged(), history.read());
    let elapsed = cluster.elapsed();
    Ok(Verdict { acknowledged, read, violations, broken, around, elapsed })
}

/// Everything up to the reading back; tells whether the group, if there is one, came to the end of what it reads.
fn play(
    plan: &Plan,
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    (history, tally): (&History, &Tally),
) -> Result<bool, Broken> {
    let profile = plan.profile;
    let (before, under_load) = profile.faults();
    let preparation = Preparation::start(cluster, subject);
    before.strike(cluster, subject, history)?;
    preparation.finish(cluster)?;
    let story = profile.of_a_group();
    let pace = if story.is_some() { Pace::STEADY } else { Pace::BUSY };
    let clients: Arc<dyn Clients> = Arc::<dyn Subject>::clone(subject);
    let load = Load::start(cluster, &clients, history, pace);
    cluster.run_for(Duration::from_secs(1))?;
    let mut tale = None;
    if let Some(story) = story {
        let told = Tale::begin(cluster, subject, (history, tally))?;
        tale.insert(told).tell(cluster, story)?;
    }
    under_load.strike(cluster, subject, history)?;
    if profile == Profile::DiskFull {
        full_disks::tell(cluster, subject, history)?;
    }
    if profile == Profile::DiskReplaced {
        lost_disks::tell(cluster, subject, history)?;
    }
    if profile == Profile::DiskLies {
        lying_disks::tell(cluster, subject, (history, tally))?;
    }
    if profile == Profile::JournalDoubt {
        doubtful_journals::tell(cluster, subject, (history, tally))?;
    }
    if profile == Profile::PullInterrupted {
        interrupted_pulls::tell(cluster, subject, (history, tally))?;
    }
    if profile == Profile::CatalogCut {
        cut_catalogs::tell(cluster, subject, (history, load.names()))?;
    }
    if profile == Profile::Swarm {
        if plan.has_group() {
            tale = Some(Tale::begin(cluster, subject, (history, tally))?);
        }
        storm(plan, cluster, (subject, &mut tale), (history, load.names(), tally))?;
    }
    cluster.run_for(Duration::from_secs(2))?;
    load.stop(cluster)?;
    settle(cluster, subject, history)?;
    if !cluster.run_until(REPAIRED_WITHIN, || subject.open_damage() == 0)? {
        return Err(Broken(format!("{REPAIRED_WITHIN:?} after all was read, damage is left")));
    }
    tale.map_or(Ok(true), |tale| tale.end(cluster))
}

/// Faults of several classes at once; then, with a minority still frozen, everything must be served.
fn storm(
    plan: &Plan,
    cluster: &mut Cluster,
    (subject, tale): (&Arc<dyn Subject>, &mut Option<Tale>),
    (history, names, tally): (&History, &Names, &Tally),
) -> Result<(), Broken> {
    let caretaker = caretaker::start(cluster, subject, (history, names, tally));
    let seen = (history, tally);
    let mut storm = Storm::new(plan, cluster, subject, seen);
    let end = cluster.elapsed() + Duration::from_secs(plan.seconds);
    if let Some(tale) = tale {
        tale.expect_outages();
        while cluster.elapsed() < end {
            let pause = Duration::from_millis(cluster.draw(200, LONGEST_REST_MS));
            storm.rage(cluster, pause.min(end.saturating_sub(cluster.elapsed())))?;
            tale.stir(cluster);
        }
        tale.heal(cluster);
    } else {
        storm.rage(cluster, Duration::from_secs(plan.seconds))?;
    }
    storm.abate(cluster);
    let all: Vec<u32> = cluster.nodes().collect();
    // With another node frozen, nothing could be committed for as long as a sync of one of the others hangs on.
    if !cluster.run_until(SETTLE, || !all.iter().any(|node| subject.hangs(*node)))? {
        return Err(Broken(format!("{SETTLE:?} after the storm a sync hangs")));
    }
    if plan.classes().contains(&FaultClass::Rot) {
        // What rotted on one node may be on its way to another; without the third neither could have it.
        until_level(cluster, subject)?;
    }
    let frozen = storm.freeze(cluster);
    let when = format!("after the storm, with nodes {frozen:?} frozen");
    served_again(cluster, subject, history, &when)?;
    storm.pass(cluster)?;
    if let Some(tale) = tale {
        tale.wait_until_moved(cluster)?;
    }
    caretaker.store(true, Ordering::SeqCst);
    Ok(())
}

fn until_level(cluster: &mut Cluster, subject: &Arc<dyn Subject>) -> Result<(), Broken> {
    if cluster.run_until(SETTLE, || subject.is_level())? {
        return Ok(());
    }
    Err(Broken(format!("{SETTLE:?} after the storm some replica lacks what its leader has")))
}

/// Every partition takes records again soon, and gives some of them.
pub(crate) fn served_again(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    history: &History,
    when: &str,
) -> Result<(), Broken> {
    let before = history.last_acknowledged();
    let all = subject.partitions();
    let (reader, tasted) = (subject.client(cluster.draw(0, u64::MAX)), Tasted::default());
    cluster.client(taste(reader, all, history.clone(), tasted.clone()));
    let left = || unserved(all, (&before, &history.last_acknowledged()), &tasted.given());
    let served = cluster.run_until(CALM_WITHIN, || left().is_none())?;
    tasted.end();
    let left = if served { None } else { left() };
    let Some(left) = left else { return Ok(()) };
    let waiting = history.unanswered();
    let oldest = waiting.first().map(|(at, partition, value)| {
        format!(
            "; {} appends wait, the oldest, {value:#x} to partition {partition}, since {at:?}",
            waiting.len()
        )
    });
    let oldest = oldest.unwrap_or_default();
    Err(Broken(format!("within {CALM_WITHIN:?} {when}, {left} at {:?}{oldest}", cluster.elapsed())))
}

/// Offset and value of the record that each partition took last.
type Newest = BTreeMap<u32, (u64, u64)>;

/// Which of the partitions have taken nothing since, or given nothing of it; `None`: each has done both.
fn unserved(all: u32, (before, now): (&Newest, &Newest), given: &BTreeSet<u32>) -> Option<String> {
    let took = |partition: &u32| now.get(partition) != before.get(partition);
    let silent: Vec<u32> = (0..all).filter(|partition| !took(partition)).collect();
    if !silent.is_empty() {
        return Some(format!("partitions {silent:?} take no records"));
    }
    let unread: Vec<u32> = (0..all).filter(|partition| !given.contains(partition)).collect();
    (!unread.is_empty()).then(|| format!("partitions {unread:?} do not give what they took"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_takes_nothing_or_gives_nothing_of_it_is_not_served() {
        let newest = |values: [u64; 2]| (0..).zip(values.map(|value| (value, value))).collect();
        let (before, now): (Newest, Newest) = (newest([1, 1]), newest([2, 2]));
        let left =
            |now, given: &[u32]| unserved(2, (&before, now), &given.iter().copied().collect());
        assert_eq!(left(&now, &[0, 1]), None);
        assert!(left(&now, &[1]).is_some_and(|it| it.contains("[0] do not give")));
        let stuck = newest([2, 1]);
        assert!(left(&stuck, &[0, 1]).is_some_and(|it| it.contains("[1] take no")));
    }
}
