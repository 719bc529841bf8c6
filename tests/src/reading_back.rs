//! After all faults: what every partition holds, where its log begins, and whether its replicas hold the same. Owns what is
//! asked then and how long; what may be found is the oracle's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::cluster::{Broken, Cluster};
use crate::history::{Event, History};
use crate::readers::audit;
use crate::subject::{LogClient, Subject};
use crate::workload::{SETTLE, Trouble, until_ok};

/// Reads every partition back and compares its replicas, as long as it takes, up to [`SETTLE`].
pub(crate) fn settle(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    history: &History,
) -> Result<(), Broken> {
    let client = subject.client(cluster.draw(0, u64::MAX));
    let partitions = subject.partitions();
    let (done, trouble) = (Arc::new(AtomicU32::new(0)), Trouble::default());
    let told = (Arc::clone(&done), trouble.clone());
    let each = (partitions, subject.replicas());
    cluster.client(read_back(client, each, history.clone(), told));
    match cluster.run_until(SETTLE, || done.load(Ordering::SeqCst) == partitions)? {
        true => Ok(()),
        false => Err(Broken(format!(
            "{SETTLE:?} after the last fault, partition {} cannot be read on all replicas: {}",
            done.load(Ordering::SeqCst),
            trouble.told()
        ))),
    }
}

/// Reads every partition back and compares its replicas, so many of each; `done` are so many, and that is in the way of the
/// next.
pub(crate) async fn read_back(
    mut client: Box<dyn LogClient>,
    (partitions, copies): (u32, u32),
    seen: History,
    (done, trouble): (Arc<AtomicU32>, Trouble),
) {
    for partition in 0..partitions {
        let ask = async |client: &mut Box<dyn LogClient>| {
            seen.note_damage(client.read_all(partition).await)
        };
        let records = until_ok(&mut client, &trouble, ask).await;
        seen.note(Event::Settled { partition, records: records.clone() });
        let offset = note_log_start(&mut client, (partition, &records), &seen, &trouble).await;
        let end = records.last().map_or(offset, |(offset, _)| offset + 1);
        if let Some(gone) = offset.checked_sub(1) {
            let ask = async |client: &mut Box<dyn LogClient>| {
                seen.note_damage(client.read_gone(partition, gone).await)
            };
            let records = until_ok(&mut client, &trouble, ask).await;
            seen.note(Event::ReadGone { partition, records });
        }
        audit(&mut client, &seen, partition).await;
        let ask = async |client: &mut Box<dyn LogClient>| client.digests(partition, end).await;
        let replicas = until_ok(&mut client, &trouble, ask).await;
        seen.note(Event::Compared { partition, replicas, of: copies });
        done.fetch_add(1, Ordering::SeqCst);
    }
}

/// Asks where a partition's log begins, and writes it down with how much of these records is left; returns the offset.
async fn note_log_start(
    client: &mut Box<dyn LogClient>,
    (partition, records): (u32, &[(u64, u64)]),
    seen: &History,
    trouble: &Trouble,
) -> u64 {
    let ask = async |client: &mut Box<dyn LogClient>| client.log_start(partition).await;
    let offset = until_ok(client, trouble, ask).await;
    let stored = records.iter().filter(|(at, _)| *at >= offset);
    let kept = stored.map(|(_, value)| client.stored_at_most(*value)).sum();
    seen.note(Event::LogStart { partition, offset, kept });
    offset
}

/// Writes down where the logs begin by now: retention goes on after everything was read back.
pub(crate) fn note_log_starts(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    history: &History,
) -> Result<(), Broken> {
    let mut client = subject.client(cluster.draw(0, u64::MAX));
    let (seen, trouble, done) =
        (history.clone(), Trouble::default(), Arc::new(AtomicBool::new(false)));
    let (told, ended) = (trouble.clone(), Arc::clone(&done));
    cluster.client(async move {
        for event in seen.snapshot() {
            let Event::Settled { partition, records } = event else { continue };
            note_log_start(&mut client, (partition, &records), &seen, &told).await;
        }
        ended.store(true, Ordering::SeqCst);
    });
    match cluster.run_until(SETTLE, || done.load(Ordering::SeqCst))? {
        true => Ok(()),
        false => Err(Broken(format!("nobody tells where logs begin: {}", trouble.told()))),
    }
}
