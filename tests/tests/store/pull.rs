//! A laggard takes manifests over, piece by piece, while source and laggard apply, pieces arrive damaged and the power goes,
//! or the process dies, at any call: it always finds the manifest that it installed last, or a newer one whose installation
//! was under way, whole.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::yield_now;
use waymark_node::mutants;
use waymark_node::storage::shard_store::{ShardStore, StoreError};
use waymark_tests::disk::{Crash, Faults, SimDisk};

use crate::model::{Log, Logs, Op, die, open, simulated};

/// A checkpoint of the source.
#[derive(Clone)]
struct Taken {
    manifest: Bytes,
    logs: Logs,
    /// Entries applied before it.
    applied: usize,
}

struct Run {
    rng: StdRng,
    source: ShardStore,
    source_disk: SimDisk,
    disk: SimDisk,
    now: Logs,
    /// All entries ever.
    entries: Vec<Op>,
    /// By index; the first one is of an empty replica.
    taken: Vec<Taken>,
    installed: usize,
    /// The follower, and the entries that it has still to apply: its journal had them.
    local: Logs,
    to_apply: Vec<Op>,
}

impl Run {
    async fn go_on(&mut self, most: usize) {
        for _ in 0..self.rng.random_range(0..most) {
            let op = self.now.any_op(&mut self.rng);
            self.source.make_room().await;
            self.now.apply(&self.source, op);
            self.entries.push(op);
        }
    }

    async fn checkpoint(&mut self) -> Taken {
        let cut = self.now.cut(self.taken.len() as u64);
        let manifest = self.source.write_checkpoint(cut).await.unwrap().encoded;
        let (logs, applied) = (self.now.clone(), self.entries.len());
        self.taken.push(Taken { manifest, logs, applied });
        self.taken.last().unwrap().clone()
    }

    /// What a restart finds, and some of the entries that its journal had after it.
    async fn restart(&mut self, follower: &ShardStore) -> Result<(), String> {
        let found = follower.checkpoint().map_or(0, |it| it.applied.index);
        let found = usize::try_from(found).unwrap();
        if found < self.installed {
            return Err(format!("found {found}, installed {}", self.installed));
        }
        let taken = self.taken[found].clone();
        taken.logs.check(follower).await?;
        self.local = taken.logs;
        let after = self.rng.random_range(taken.applied..=self.entries.len());
        self.to_apply = self.entries[taken.applied..after].to_vec();
        self.to_apply.reverse();
        let most = self.rng.random_range(0..=self.to_apply.len());
        self.apply(follower, most).await;
        Ok(())
    }

    async fn apply(&mut self, follower: &ShardStore, most: usize) {
        for _ in 0..most {
            let room = tokio::time::timeout(Duration::from_millis(50), follower.make_room());
            // A disk that is off never has room.
            let Ok(()) = room.await else { return };
            let Some(op) = self.to_apply.pop() else { return };
            self.local.apply(follower, op);
        }
    }

    /// Pulls up to `most` pieces; `true`: nothing is missing.
    async fn pull(
        &mut self,
        follower: &ShardStore,
        manifest: &Bytes,
        (mut most, damaged): (u32, f64),
    ) -> Result<bool, StoreError> {
        if self.rng.random_bool(0.7) {
            follower.begin_pull(manifest).await?;
        }
        loop {
            let missing = follower.missing(manifest).await?;
            if missing.is_empty() || most == 0 {
                return Ok(missing.is_empty());
            }
            for mut range in missing {
                let end = range.to_byte;
                while range.from_byte < end && most > 0 {
                    let left = usize::try_from(end - range.from_byte).unwrap();
                    let len = left.min(self.rng.random_range(1..900));
                    let (at, base, from) = (range.at, range.base_offset, range.from_byte);
                    let read = self.source.read_segment(at, base, from, len).await;
                    let mut bytes = read.expect("a hold keeps what a manifest names").to_vec();
                    if self.rng.random_bool(damaged) {
                        let place = self.rng.random_range(0..bytes.len());
                        bytes[place] ^= 1;
                    }
                    range.to_byte = from + bytes.len() as u64;
                    if self.rng.random_bool(0.1) {
                        self.apply(follower, 2).await;
                    }
                    follower.write_pulled(&range, bytes.into()).await?;
                    if self.rng.random_bool(0.05) {
                        follower.settle_pulled().await?;
                    }
                    range.from_byte = range.to_byte;
                    most -= 1;
                }
            }
        }
    }

    async fn live(&mut self, follower: &ShardStore, last: bool) -> Result<(), String> {
        self.restart(follower).await?;
        self.go_on(25).await;
        let older = self.checkpoint().await;
        let _held = self.source.hold();
        self.go_on(25).await;
        let newer = self.checkpoint().await;
        let power = self.disk.attach();
        if !last {
            self.disk.power_off_after(self.rng.random_range(1..150));
        }
        let index = self.taken.len() - 1;
        let outcome = async {
            let (first, upto) = match self.rng.random_range(0..3) {
                // An older manifest is left half-way for a newer one.
                0 => (Some((older, self.rng.random_range(0..20))), (newer, index)),
                1 => (Some((newer, self.rng.random_range(0..20))), (older, index - 1)),
                _ => (None, (newer, index)),
            };
            if let Some((first, most)) = first {
                self.pull(follower, &first.manifest, (most, 0.05)).await?;
            }
            let (taken, index) = upto;
            if !self.pull(follower, &taken.manifest, (200, 0.05)).await? {
                self.pull(follower, &taken.manifest, (u32::MAX, 0.0)).await?;
            }
            follower.install(taken.manifest.clone()).await?;
            self.installed = index;
            Ok::<_, StoreError>(taken)
        };
        match outcome.await {
            Ok(taken) if !power.is_off() => {
                let found = follower.checkpoint().map(|it| it.encoded);
                if found != Some(taken.manifest) {
                    return Err("another manifest is in force".to_owned());
                }
                taken.logs.check_space(follower, &self.disk)?;
                let read = taken.logs.check(follower).await;
                if power.is_off() { Ok(()) } else { read }
            }
            Ok(_) => Ok(()),
            Err(_) if power.is_off() => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn search(seeds: u64) -> Result<(), String> {
    for seed in 0..seeds {
        let outcome = simulated(async {
            let (source_disk, disk) = (SimDisk::new(seed), SimDisk::new(!seed));
            let (_source_store, source) = open(&source_disk).await.unwrap();
            let none = Taken { manifest: Bytes::new(), logs: Logs::default(), applied: 0 };
            let rng = StdRng::seed_from_u64(seed);
            let (now, taken) = (Logs::default(), vec![none]);
            let entries = Vec::new();
            let (installed, local, to_apply) = (0, Logs::default(), Vec::new());
            let mut run = Run {
                rng,
                source,
                source_disk,
                disk,
                now,
                entries,
                taken,
                installed,
                local,
                to_apply,
            };
            for life in 0..5 {
                let told = |error: String| format!("seed {seed}, life {life}: {error}");
                run.disk.set_faults(Faults::default());
                let (store, follower) = open(&run.disk).await.map_err(|it| told(it.to_string()))?;
                run.live(&follower, life == 4).await.map_err(told)?;
                die(&run.disk, &mut run.rng);
                store.shutdown().await;
            }
            // Nobody pulls any more: what was kept for it goes.
            run.checkpoint().await;
            run.now.check_space(&run.source, &run.source_disk)
        });
        outcome?;
    }
    Ok(())
}

#[test]
fn a_laggard_finds_the_manifest_that_it_installed_whatever_the_power_does() {
    let _sound = mutants::seclude();
    search(300).unwrap();
}

#[test]
fn a_manifest_that_is_installed_unverified_is_caught() {
    let _bug = mutants::plant("install-without-verify");
    search(300).unwrap_err();
}

#[test]
fn what_an_earlier_life_pulled_without_a_durable_name_is_caught() {
    let _bug = mutants::plant("pulled-name-not-synced");
    search(1000).unwrap_err();
}

#[test]
fn a_manifest_is_not_installed_before_all_of_it_is_here() {
    let _sound = mutants::seclude();
    simulated(async {
        let (_source_store, source) = open(&SimDisk::new(1)).await.unwrap();
        let (_store, follower) = open(&SimDisk::new(2)).await.unwrap();
        let mut logs = Logs::default();
        source.append(logs.0[1].append(1, 500));
        let manifest = source.write_checkpoint(logs.cut(1)).await.unwrap().encoded;
        let refused = follower.install(manifest).await;
        assert!(matches!(refused, Err(StoreError::Damaged { offset: 0, .. })), "{refused:?}");
        assert!(follower.checkpoint().is_none());
    });
}

/// Bytes that are missing before a pull, after a part of it, and after the puller's machine lost power.
fn left_of_an_interrupted_pull() -> (u64, u64, u64) {
    simulated(async {
        let disk = SimDisk::new(2);
        let (_source_store, source) = open(&SimDisk::new(1)).await.unwrap();
        let mut logs = Logs::default();
        for fill in 0..30 {
            source.append(logs.0[usize::from(fill % 3)].append(fill, 400));
            source.make_room().await;
        }
        let manifest = source.write_checkpoint(logs.cut(1)).await.unwrap().encoded;
        let (_store, follower) = open(&disk).await.unwrap();
        let lacking = async |shard: &ShardStore| {
            let missing = shard.missing(&manifest).await.unwrap();
            let bytes = missing.iter().map(|it| it.to_byte - it.from_byte).sum::<u64>();
            (missing, bytes)
        };
        let (missing, all) = lacking(&follower).await;
        follower.begin_pull(&manifest).await.unwrap();
        for mut range in missing.into_iter().take(5) {
            let (at, base) = (range.at, range.base_offset);
            let data = source.read_segment(at, base, range.from_byte, 1500).await.unwrap();
            range.to_byte = range.from_byte + data.len() as u64;
            follower.write_pulled(&range, data).await.unwrap();
        }
        follower.settle_pulled().await.unwrap();
        let (_, part) = lacking(&follower).await;
        disk.crash(Crash::LoseAll);
        let (_store, again) = open(&disk).await.unwrap();
        assert!(again.checkpoint().is_none(), "what was pulled counts for nothing yet");
        let (missing, left) = lacking(&again).await;
        for range in missing {
            let most = usize::try_from(range.to_byte - range.from_byte).unwrap();
            let (at, base) = (range.at, range.base_offset);
            let data = source.read_segment(at, base, range.from_byte, most).await.unwrap();
            again.write_pulled(&range, data).await.unwrap();
        }
        again.install(manifest.clone()).await.unwrap();
        logs.check(&again).await.unwrap();
        logs.check_space(&again, &disk).unwrap();
        (all, part, left)
    })
}

#[test]
fn a_pull_goes_on_where_a_crash_of_the_puller_interrupted_it() {
    let _sound = mutants::seclude();
    let (all, part, left) = left_of_an_interrupted_pull();
    assert!(part < all && left == part, "{all}, {part}, {left}");
}

#[test]
fn a_pull_that_starts_over_is_caught() {
    let _bug = mutants::plant("pull-starts-over");
    let (all, part, left) = left_of_an_interrupted_pull();
    assert!(part < all && left == all, "{all}, {part}, {left}");
}

async fn digest(shard: &ShardStore, log: &Log, to: i64) -> [u8; 16] {
    shard.digest(log.at(), log.start, to).await.unwrap()
}

#[test]
fn a_digest_is_of_the_bytes_and_not_of_how_they_came() {
    let _sound = mutants::seclude();
    simulated(async {
        let (_one_store, one) = open(&SimDisk::new(1)).await.unwrap();
        let (_other_store, other) = open(&SimDisk::new(2)).await.unwrap();
        let (mut logs, mut changed) = (Logs::default(), Logs::default());
        for round in 0..12 {
            let fill = if round == 5 { 99 } else { round };
            one.append(logs.0[1].append(round, 500));
            other.append(changed.0[1].append(fill, 500));
        }
        one.write_checkpoint(logs.cut(1)).await.unwrap();
        let (left, right) = (&logs.0[1], &changed.0[1]);
        assert_eq!(digest(&one, left, 10).await, digest(&other, right, 10).await);
        assert_eq!(digest(&one, left, 11).await, digest(&other, right, 10).await, "whole batches");
        assert_ne!(digest(&one, left, 12).await, digest(&other, right, 12).await);
        assert_ne!(digest(&one, left, 24).await, digest(&other, right, 24).await);
    });
}

#[test]
fn a_digest_of_much_leaves_others_their_turns() {
    const BATCHES: u8 = 16;
    let _sound = mutants::seclude();
    simulated(async {
        let (_store, shard) = open(&SimDisk::new(1)).await.unwrap();
        let mut logs = Logs::default();
        for round in 0..BATCHES {
            shard.append(logs.0[1].append(round, 64 << 10));
        }
        let (log, mut turns) = (&logs.0[1], 0);
        let others = async {
            loop {
                turns += 1;
                yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = digest(&shard, log, log.next) => {}
            () = others => {}
        }
        assert!(turns >= u32::from(BATCHES), "{turns}");
    });
}

/// Whether a replica gives a digest of more than it has.
fn gives_a_digest_of_less() -> bool {
    simulated(async {
        let (_store, shard) = open(&SimDisk::new(1)).await.unwrap();
        let mut logs = Logs::default();
        shard.append(logs.0[1].append(1, 500));
        let (at, start) = (logs.0[1].at(), logs.0[1].start);
        shard.digest(at, start, 2).await.unwrap();
        shard.digest(logs.0[0].at(), 0, 0).await.expect("it has all of nothing");
        match shard.digest(at, start, 3).await {
            Ok(_) => true,
            Err(error) => {
                assert!(matches!(error, StoreError::OutOfRange { offset: 3, .. }), "{error}");
                false
            }
        }
    })
}

#[test]
fn a_replica_that_lags_gives_no_digest_of_what_it_has_not() {
    let _sound = mutants::seclude();
    assert!(!gives_a_digest_of_less());
}

#[test]
fn a_digest_of_less_than_was_asked_for_is_caught() {
    let _bug = mutants::plant("digest-of-less");
    assert!(gives_a_digest_of_less());
}
