//! Bytes that are not what was written are never given out, and never believed at start: the error names file and place.

use bytes::Bytes;
use waymark_node::mutants;
use waymark_node::storage::disk::{Disk, OpenMode};
use waymark_node::storage::shard_store::{ShardStore, Store, StoreError};
use waymark_tests::disk::SimDisk;

use crate::model::{Logs, open, read_all, simulated};

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
    let _bug = mutants::plant("skip-read-crc");
    assert!(serves_rot());
}

/// Whether a store opens although a segment below its checkpoint rotted.
fn starts_on_rot(number: usize) -> bool {
    simulated(async {
        let disk = SimDisk::new(1);
        drop(stored(&disk).await);
        let rotten = segments(&disk)[number].clone();
        disk.rot(&rotten, FRAME + 100..2 * FRAME, 1);
        match open(&disk).await {
            Ok(_) => true,
            Err(StoreError::Damaged { path, offset: FRAME, .. }) if path == rotten => false,
            Err(other) => panic!("{other}"),
        }
    })
}

#[test]
fn damage_below_the_checkpoint_refuses_to_start_and_names_file_and_offset() {
    let _sound = mutants::seclude();
    assert!(!starts_on_rot(0), "in a sealed segment");
    assert!(!starts_on_rot(1), "in the one that grows");
}

#[test]
fn a_start_that_skips_the_checksum_is_caught() {
    let _bug = mutants::plant("skip-read-crc");
    assert!(starts_on_rot(0));
}

#[test]
fn a_segment_that_is_shorter_than_its_checkpoint_says_refuses_to_start() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk = SimDisk::new(1);
        drop(stored(&disk).await);
        let short = segments(&disk)[1].clone();
        let file = disk.attach().open(&short, OpenMode::Write).await.unwrap();
        file.set_len(2 * FRAME + 7).await.unwrap();
        let Err(StoreError::Damaged { path, offset, .. }) = open(&disk).await else {
            panic!("a short segment was believed")
        };
        assert_eq!((path, offset), (short, 2 * FRAME + 7));
    });
}

#[test]
fn a_segment_that_is_missing_refuses_to_start_and_is_still_missing_afterwards() {
    let _sound = mutants::seclude();
    simulated(async {
        let disk = SimDisk::new(1);
        drop(stored(&disk).await);
        let missing = segments(&disk)[1].clone();
        disk.attach().remove(&missing).await.unwrap();
        let Err(StoreError::Damaged { path, offset: 0, what }) = open(&disk).await else {
            panic!("a missing segment was believed")
        };
        assert_eq!(path, missing);
        assert!(what.contains("missing"), "{what}");
        assert!(!segments(&disk).contains(&missing), "what is missing was made");
    });
}

#[test]
fn a_damaged_checkpoint_refuses_to_start() {
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
