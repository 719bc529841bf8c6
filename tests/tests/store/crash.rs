//! Whatever the power cut leaves, a restart finds exactly one of the checkpoints that were asked for, not older than the
//! last one acknowledged, and every byte that it names; the journal's replay on top of it gives the rest back.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::timeout;
use waymark_node::mutants;
use waymark_node::storage::disk::Disk;
use waymark_node::storage::shard_store::{ShardStore, Store};
use waymark_node::storage::tables::MemoryTables;
use waymark_tests::disk::{Faults, SimDisk};

use crate::model::{KEY, Logs, Op, die, open, options, simulated};

/// A cut that was asked for, and what was applied between it and the next.
struct Asked {
    logs: Logs,
    then: Vec<Op>,
}

struct Run {
    disk: SimDisk,
    rng: StdRng,
    /// Since the last restart; the first one is what was found then.
    asked: Vec<Asked>,
    first_index: u64,
    acknowledged: u64,
    sync_errors: f64,
}

impl Run {
    fn new(seed: u64, sync_errors: f64) -> Self {
        Self {
            disk: SimDisk::new(seed),
            rng: StdRng::seed_from_u64(seed),
            asked: vec![Asked { logs: Logs::default(), then: Vec::new() }],
            first_index: 0,
            acknowledged: 0,
            sync_errors,
        }
    }

    /// Applies and checkpoints until the power goes.
    async fn live(&mut self, shard: &ShardStore, mut now: Logs) -> Result<(), String> {
        let power = self.disk.attach();
        self.disk.power_off_after(self.rng.random_range(5..160));
        let sync_errors = self.sync_errors;
        self.disk.set_faults(Faults { sync_errors, ..Faults::default() });
        for _ in 0..self.rng.random_range(1..150) {
            match self.rng.random_range(0..20) {
                0..2 => {
                    self.asked.push(Asked { logs: now.clone(), then: Vec::new() });
                    let index = self.first_index + self.asked.len() as u64 - 1;
                    if shard.write_checkpoint(now.cut(index)).await.is_ok() {
                        self.acknowledged = index;
                        if !power.is_off() {
                            now.check_space(shard, &self.disk)?;
                        }
                    }
                }
                2 => tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..20))).await,
                _ => {
                    let op = now.any_op(&mut self.rng);
                    let room = timeout(Duration::from_millis(50), shard.make_room());
                    if room.await.is_err() {
                        break;
                    }
                    now.apply(shard, op);
                    self.asked.last_mut().unwrap().then.push(op);
                }
            }
        }
        let read = now.check(shard).await;
        if power.is_off() { Ok(()) } else { read }
    }

    /// What a restart finds, and, when the journal kept it, what was applied after it.
    async fn restart(&mut self, shard: &ShardStore) -> Result<Logs, String> {
        let found = shard.checkpoint().map_or(0, |it| it.applied.index);
        if found < self.acknowledged {
            return Err(format!("found {found}, acknowledged {}", self.acknowledged));
        }
        let place = usize::try_from(found - self.first_index).unwrap();
        if place >= self.asked.len() {
            return Err(format!("found {found}, never asked for"));
        }
        let mut later = self.asked.split_off(place);
        let logs = later[0].logs.clone();
        logs.check(shard).await?;
        logs.check_space(shard, &self.disk)?;
        let kept = self.rng.random_bool(0.5);
        let then: Vec<Op> = later.drain(..).flat_map(|it| it.then).filter(|_| kept).collect();
        let mut now = logs.clone();
        for op in &then {
            shard.make_room().await;
            now.apply(shard, *op);
        }
        now.check(shard).await.map_err(|error| format!("after the replay: {error}"))?;
        (self.asked, self.first_index) = (vec![Asked { logs, then }], found);
        self.acknowledged = found;
        Ok(now)
    }
}

fn search(seeds: u64, sync_errors: f64) -> Result<(), String> {
    for seed in 0..seeds {
        let outcome = simulated(async {
            let mut run = Run::new(seed, sync_errors);
            for life in 0..5 {
                let told = |error: String| format!("seed {seed}, life {life}: {error}");
                run.disk.set_faults(Faults::default());
                let (store, shard) = open(&run.disk).await.map_err(|it| told(it.to_string()))?;
                let now = run.restart(&shard).await.map_err(told)?;
                run.live(&shard, now).await.map_err(told)?;
                die(&run.disk, &mut run.rng);
                store.shutdown().await;
            }
            Ok::<_, String>(())
        });
        outcome?;
    }
    Ok(())
}

#[test]
fn a_restart_finds_a_checkpoint_that_was_asked_for_and_all_that_it_names() {
    let _sound = mutants::seclude();
    search(300, 0.0).unwrap();
}

#[test]
fn a_sync_that_failed_is_never_believed_by_a_later_checkpoint() {
    let _sound = mutants::seclude();
    search(300, 0.05).unwrap();
}

#[test]
fn a_start_that_believes_a_checkpoint_without_a_durable_name_is_caught() {
    let _planted = mutants::plant("found-name-not-synced");
    search(300, 0.0).unwrap_err();
}

#[test]
fn a_checkpoint_that_does_not_sync_segments_is_caught() {
    let _bug = mutants::plant("checkpoint-without-sync");
    search(300, 0.0).unwrap_err();
}

#[test]
fn files_that_go_before_the_checkpoint_that_forgets_them_are_caught() {
    let _bug = mutants::plant("unlink-before-checkpoint");
    search(300, 0.0).unwrap_err();
}

#[test]
fn bytes_above_the_checkpoint_that_are_believed_are_caught() {
    let _bug = mutants::plant("trust-above-checkpoint");
    search(300, 0.0).unwrap_err();
}

#[test]
fn space_that_is_never_given_back_is_caught() {
    let _bug = mutants::plant("never-unlink");
    let found = search(300, 0.0).unwrap_err();
    assert!(found.contains("segment"), "{found}");
}

#[test]
fn the_disk_is_let_go_with_the_last_handle_of_the_store() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let tables = Arc::new(MemoryTables::default());
        let store = Store::open(Arc::clone(&disk), tables, options()).await.unwrap();
        let shard = store.open_shard(KEY).await.unwrap();
        shard.append(Logs::default().0[0].append(1, 10));
        assert!(store.pending_bytes() > 0);
        drop(shard);
        assert_eq!(store.pending_bytes(), 0, "a replica that left holds no room");
        drop(store);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&disk), 1);
    });
}

/// The system tells a failure to one sync of a file, and the next sync of it passes.
#[test]
fn a_sync_that_failed_ahead_of_a_checkpoint_forbids_it() {
    let _secluded = mutants::seclude();
    simulated(async {
        let disk = SimDisk::new(1);
        let (_store, shard) = open(&disk).await.unwrap();
        let mut logs = Logs::default();
        disk.set_faults(Faults { sync_errors: 1.0, ..Faults::default() });
        logs.apply(&shard, Op::Append { number: 0, fill: 7, body: 700 });
        let failing = timeout(Duration::from_secs(1), shard.until_sync_fails());
        failing.await.expect("long runs are synced without a checkpoint");
        disk.set_faults(Faults::default());
        shard.write_checkpoint(logs.cut(1)).await.unwrap_err();
    });
}
