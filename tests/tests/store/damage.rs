//! Bytes that are not what was written are never given out, to a reader or to another replica: they are known by file and
//! place, and put together anew from a replica that has them, whatever happens meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waymark_node::mutants;
use waymark_node::storage::disk::{Disk, OpenMode};
use waymark_node::storage::shard_store::{Rebuilt, ShardStore, Store, StoreError, StoreOptions};
use waymark_node::storage::tables::MemoryTables;
use waymark_tests::disk::{Crash, SimDisk};

use crate::model::{KEY, Logs, open, options, read_all, simulated};

const FRAME: u64 = 32 + 61 + 300;

/// Two segments of one partition below a checkpoint: five frames of 393 bytes, then three.
async fn stored(disk: &SimDisk) -> (Store, ShardStore, Logs) {
    let (store, shard) = open(disk).await.unwrap();
    let mut logs = Logs::default();
    for fill in 0..8 {
        shard.append(logs.0[0].append(fill, 300));
    }
    shard.write_checkpoint(logs.cut(1)).await.unwrap();
    (store, shard, logs)
}

/// Its segments, oldest first.
fn segments(disk: &SimDisk) -> Vec<String> {
    let files = disk.files().into_iter().map(|it| it.0);
    files.filter(|path| path.ends_with(".log")).collect()
}

/// Whether a read gives out bytes that rotted on disk.
fn serves_rot() -> bool {
    simulated(async {
        let disk = SimDisk::new(1);
        let (_store, shard, logs) = stored(&disk).await;
        let rotten = segments(&disk)[1].clone();
        disk.rot(&rotten, FRAME + 100..2 * FRAME, 1);
        match read_all(&shard, &logs.0[0]).await {
            Ok(_) => true,
            Err(StoreError::Damaged { path, offset: FRAME, .. }) if path == rotten => false,
            Err(other) => panic!("{other}"),
        }
    })
}

#[test]
fn a_read_never_gives_out_rotten_bytes() {
    let _sound = mutants::seclude();
    assert!(!serves_rot());
}

#[test]
fn a_read_that_skips_the_checksum_is_caught() {
    let _bug = mutants::plant("damage-is-served");
    assert!(serves_rot());
}

/// Puts every damaged segment together from a sound replica. Returns the bytes that it gave.
async fn repair(shard: &ShardStore, source: &ShardStore) -> Result<u64, StoreError> {
    let mut given = 0;
    while let Some(range) = shard.damaged().first().cloned() {
        let Some(mut rebuild) = shard.rebuild(range.at, range.base_offset).await? else { continue };
        while let Some(lacking) = rebuild.lacking().await? {
            let most = usize::try_from(lacking.to_byte - lacking.from_byte).unwrap().min(500);
            let (at, base, from) = (lacking.at, lacking.base_offset, lacking.from_byte);
            let bytes = source.read_segment(at, base, from, most).await?;
            assert!(!bytes.is_empty(), "a sound source has all of it");
            rebuild.take(bytes).await?;
        }
        if let Rebuilt::Whole(bytes) = rebuild.finish().await? {
            given += bytes;
        }
    }
    Ok(given)
}

async fn bytes_of(disk: &SimDisk, path: &str) -> Bytes {
    let file = disk.attach().open(path, OpenMode::Read).await.unwrap();
    file.read_at(0, 1 << 20).await.unwrap()
}

/// What happens to a file at rest.
type Harm = fn(&SimDisk, &str);

const HARMS: [(&str, Harm); 4] = [
    ("rot in a body", |disk, path| disk.rot(path, FRAME + 100..2 * FRAME, 1)),
    ("rot in a length", |disk, path| disk.rot(path, FRAME..FRAME + 4, 1)),
    ("a lost end", |disk, path| disk.truncate(path, 2 * FRAME + 7)),
    ("a lost file", |disk, path| disk.truncate(path, 0)),
];

#[test]
fn a_damaged_segment_is_known_at_start_refused_and_repaired_from_a_sound_replica() {
    let _sound = mutants::seclude();
    for (name, harm) in HARMS {
        for number in [0, 1] {
            simulated(async {
                let (disk, other) = (SimDisk::new(1), SimDisk::new(2));
                drop(stored(&disk).await);
                let (_sound, source, logs) = stored(&other).await;
                let path = segments(&disk)[number].clone();
                harm(&disk, &path);
                let (_store, shard) = open(&disk).await.unwrap();
                let known = shard.damaged();
                assert_eq!((known.len(), known[0].path.clone()), (1, path.clone()), "{name}");
                let refused = read_all(&shard, &logs.0[0]).await;
                assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{name}: {refused:?}");
                let given = repair(&shard, &source).await.unwrap();
                assert!(given >= FRAME, "{name} took {given} bytes");
                logs.check(&shard).await.unwrap();
                assert_eq!(bytes_of(&disk, &path).await, bytes_of(&other, &path).await, "{name}");
                let aside = disk.files().into_iter().filter(|it| it.0.ends_with(".damaged"));
                assert!(aside.count() <= 1, "{name}");
                disk.crash(Crash::LoseAll);
                let (_store, shard) = open(&disk).await.unwrap();
                assert_eq!(shard.damaged(), [], "{name}: what was repaired is durable");
                logs.check(&shard).await.unwrap();
            });
        }
    }
}

#[test]
fn a_start_that_skips_the_checksum_is_caught() {
    let _bug = mutants::plant("damage-is-served");
    simulated(async {
        let disk = SimDisk::new(1);
        drop(stored(&disk).await);
        disk.rot(&segments(&disk)[0].clone(), FRAME + 100..2 * FRAME, 1);
        let (_store, shard) = open(&disk).await.unwrap();
        assert_eq!(shard.damaged(), [], "the bug is gone");
    });
}

#[test]
fn a_segment_that_is_missing_is_known_and_still_missing_until_it_is_repaired() {
    let _sound = mutants::seclude();
    simulated(async {
        let (disk, other) = (SimDisk::new(1), SimDisk::new(2));
        drop(stored(&disk).await);
        let (_sound, source, logs) = stored(&other).await;
        let missing = segments(&disk)[1].clone();
        disk.attach().remove(&missing).await.unwrap();
        let (_store, shard) = open(&disk).await.unwrap();
        assert!(shard.damaged()[0].what.contains("missing"));
        assert!(!segments(&disk).contains(&missing), "what is missing was made");
        assert_eq!(repair(&shard, &source).await.unwrap(), 3 * FRAME);
        logs.check(&shard).await.unwrap();
    });
}

#[test]
fn a_repair_keeps_what_is_appended_meanwhile() {
    let _sound = mutants::seclude();
    simulated(async {
        let (disk, other) = (SimDisk::new(1), SimDisk::new(2));
        let (_store, shard, mut logs) = stored(&disk).await;
        let (_sound, source, _) = stored(&other).await;
        let path = segments(&disk)[1].clone();
        disk.rot(&path, 100..FRAME, 3);
        read_all(&shard, &logs.0[0]).await.unwrap_err();
        let range = shard.damaged()[0].clone();
        let mut rebuild = shard.rebuild(range.at, range.base_offset).await.unwrap().unwrap();
        let lacking = rebuild.lacking().await.unwrap().unwrap();
        shard.append(logs.0[0].append(9, 300));
        shard.write_checkpoint(logs.cut(2)).await.unwrap();
        shard.append(logs.0[0].append(10, 20));
        let (at, base, from) = (lacking.at, lacking.base_offset, lacking.from_byte);
        rebuild.take(source.read_segment(at, base, from, 4000).await.unwrap()).await.unwrap();
        assert_eq!(rebuild.lacking().await.unwrap(), None, "the rest is sound here");
        assert_eq!(rebuild.finish().await.unwrap(), Rebuilt::Whole(FRAME));
        logs.check(&shard).await.unwrap();
        shard.append(logs.0[0].append(11, 20));
        shard.write_checkpoint(logs.cut(3)).await.unwrap();
        disk.crash(Crash::LoseAll);
        let (_store, shard) = open(&disk).await.unwrap();
        assert_eq!(shard.damaged(), []);
        logs.check(&shard).await.unwrap();
    });
}

#[test]
fn the_power_may_go_at_any_moment_of_a_repair() {
    let _sound = mutants::seclude();
    for calls in 0..60 {
        for mode in Crash::ALL {
            simulated(async {
                let (disk, other) = (SimDisk::new(calls), SimDisk::new(2));
                let (_store, shard, mut logs) = stored(&disk).await;
                let (_sound, source, _) = stored(&other).await;
                let path = segments(&disk)[1].clone();
                disk.rot(&path, 100..FRAME, 3);
                read_all(&shard, &logs.0[0]).await.unwrap_err();
                disk.power_off_after(calls);
                let at_checkpoint = logs.clone();
                let repaired = repair(&shard, &source).await;
                shard.append(logs.0[0].append(9, 300));
                let named = shard.write_checkpoint(logs.cut(2)).await;
                disk.crash(mode);
                let (_store, again) = open(&disk).await.unwrap();
                let found = again.checkpoint().map(|it| it.applied.index);
                assert!(named.is_err() || found == Some(2));
                let whole = again.damaged().is_empty();
                assert!(whole || repaired.is_err() || named.is_err());
                let logs = if found == Some(2) { &logs } else { &at_checkpoint };
                // The source knows nothing of what came last; a repair from it must not need that.
                repair(&again, &source).await.unwrap();
                logs.check(&again).await.unwrap();
            });
        }
    }
}

/// Whether a replica gives damage to another one.
fn spreads() -> bool {
    simulated(async {
        let disk = SimDisk::new(1);
        let (_store, shard, logs) = stored(&disk).await;
        let rotten = segments(&disk)[0].clone();
        let sound = bytes_of(&disk, &rotten).await;
        disk.rot(&rotten, FRAME + 100..2 * FRAME, 1);
        let (at, end) = (logs.0[0].at(), 5 * FRAME);
        let first = shard.read_segment(at, 0, 0, 4000).await.unwrap();
        assert!(sound.starts_with(&first) || first.len() as u64 == end);
        let second = shard.read_segment(at, 0, FRAME, 4000).await;
        let after = shard.read_segment(at, 0, 3 * FRAME, 4000).await;
        assert!(after.is_err() || sound.ends_with(&after.unwrap()));
        second.is_ok()
    })
}

#[test]
fn a_replica_never_gives_damage_to_another_one() {
    let _sound = mutants::seclude();
    assert!(!spreads());
}

#[test]
fn a_source_that_does_not_verify_is_caught() {
    let _bug = mutants::plant("damage-spreads");
    assert!(spreads());
}

/// Whether a repair takes what is not right.
fn takes_anything() -> bool {
    simulated(async {
        let (disk, other) = (SimDisk::new(1), SimDisk::new(2));
        let (_store, shard, logs) = stored(&disk).await;
        drop(stored(&other).await);
        let path = segments(&disk)[0].clone();
        let mut wrong = bytes_of(&other, &path).await.to_vec();
        wrong[150] ^= 4;
        disk.truncate(&path, 0);
        read_all(&shard, &logs.0[0]).await.unwrap_err();
        let mut rebuild = shard.rebuild(logs.0[0].at(), 0).await.unwrap().unwrap();
        rebuild.lacking().await.unwrap().unwrap();
        rebuild.take(wrong.into()).await.is_ok()
    })
}

#[test]
fn a_repair_takes_only_what_was_written() {
    let _sound = mutants::seclude();
    assert!(!takes_anything());
}

#[test]
fn a_repair_that_does_not_verify_is_caught() {
    let _bug = mutants::plant("repair-unverified");
    assert!(takes_anything());
}

#[test]
fn a_scrub_finds_what_nobody_reads_and_mends_the_checkpoint_by_itself() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk = SimDisk::new(1);
        let tables = Arc::new(MemoryTables::default());
        let scrubbing = StoreOptions { scrub_bytes_per_second: 1 << 20, ..options() };
        let store = Store::open(Arc::new(disk.attach()), tables, scrubbing).await.unwrap();
        let shard = store.open_shard(KEY).await.unwrap();
        let mut logs = Logs::default();
        for fill in 0..8 {
            shard.append(logs.0[0].append(fill, 300));
        }
        shard.write_checkpoint(logs.cut(1)).await.unwrap();
        let files = disk.files();
        let (checkpoint, len) = files.iter().find(|it| it.0.ends_with("checkpoint")).unwrap();
        let written = bytes_of(&disk, checkpoint).await;
        disk.rot(checkpoint, 0..*len, 1);
        disk.rot(&segments(&disk)[0], FRAME + 100..2 * FRAME, 1);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(bytes_of(&disk, checkpoint).await, written);
        let known = shard.damaged();
        assert_eq!((known.len(), known[0].from_byte, known[0].to_byte), (1, FRAME, 2 * FRAME));
    });
}

#[test]
fn a_damaged_checkpoint_is_not_believed() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk = SimDisk::new(1);
        drop(stored(&disk).await);
        let files = disk.files();
        let (checkpoint, len) = files.iter().find(|it| it.0.ends_with("checkpoint")).unwrap();
        disk.rot(checkpoint, 0..*len, 1);
        let Err(StoreError::Damaged { path, .. }) = open(&disk).await else {
            panic!("a damaged checkpoint was believed")
        };
        assert_eq!(path, *checkpoint);
    });
}

#[test]
fn a_replica_without_a_checkpoint_takes_a_peers_and_keeps_what_it_has() {
    let _sound = mutants::seclude();
    simulated(async {
        let (disk, other) = (SimDisk::new(1), SimDisk::new(2));
        drop(stored(&disk).await);
        let (_sound, source, logs) = stored(&other).await;
        disk.rot(&segments(&disk)[0].clone(), 3 * FRAME..4 * FRAME, 2);
        let files = disk.files();
        let (checkpoint, len) = files.iter().find(|it| it.0.ends_with("checkpoint")).unwrap();
        disk.rot(checkpoint, 0..*len, 1);
        let tables = Arc::new(MemoryTables::default());
        let store = Store::open(Arc::new(disk.attach()), tables, options()).await.unwrap();
        let shard = store.open_without_checkpoint(KEY).await.unwrap();
        let manifest = source.checkpoint().unwrap().encoded;
        let missing = shard.missing(&manifest).await.unwrap();
        let bytes: u64 = missing.iter().map(|it| it.to_byte - it.from_byte).sum();
        assert_eq!((missing.len(), bytes), (1, 2 * FRAME), "the rest is here and right");
        assert!(shard.install(manifest.clone()).await.is_err());
        for range in missing {
            let (at, base) = (range.at, range.base_offset);
            let data = source.read_segment(at, base, range.from_byte, 4000).await.unwrap();
            shard.write_pulled(&range, data).await.unwrap();
        }
        shard.install(manifest).await.unwrap();
        disk.crash(Crash::LoseAll);
        let (_store, shard) = open(&disk).await.unwrap();
        assert_eq!(shard.damaged(), []);
        logs.check(&shard).await.unwrap();
        logs.check_space(&shard, &disk).unwrap();
    });
}

#[test]
fn a_frame_that_was_written_to_another_place_is_noticed_though_its_checksum_is_right() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk = SimDisk::new(1);
        let (_store, shard, logs) = stored(&disk).await;
        let path = segments(&disk)[0].clone();
        let file = disk.attach().open(&path, OpenMode::Write).await.unwrap();
        let frame: Bytes = file.read_at(0, usize::try_from(FRAME).unwrap()).await.unwrap();
        file.write_at(2 * FRAME, vec![frame]).await.unwrap();
        let Err(StoreError::Damaged { offset, .. }) = read_all(&shard, &logs.0[0]).await else {
            panic!("a frame of another place was given out")
        };
        assert_eq!(offset, 2 * FRAME);
    });
}
