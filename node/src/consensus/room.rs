//! Owns how full this node's disk is (S19): two marks, what being below one of them means, and saying so once when that
//! changes. Never refuses anything itself.
//!
//! Below the first mark no more records are taken. What is left is for what must go on: offset commits, groups, the catalog,
//! the journal's files, and a checkpoint, without which nothing that was deleted leaves the disk. Below the last mark even
//! entries of other nodes are refused before Raft sees them: an append that fails would end the replica.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::member::Member;
use crate::mutants;
use crate::reached::reached;

/// How often the disk is asked.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A mark is passed upwards only with this part of it to spare: a disk that stands at its mark must not cross it every
/// second.
const SLACK_PART: u64 = 16;
const MIB: u64 = 1 << 20;

/// Where a disk's room ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomOptions {
    /// The data directory as configured, for messages alone.
    pub folder: String,
    /// Below so many free bytes there is no room for records.
    pub reserve_bytes: u64,
    /// Below so many there is none for entries of other nodes either. Never above `reserve_bytes`.
    pub last_reserve_bytes: u64,
}

impl Default for RoomOptions {
    fn default() -> Self {
        Self {
            folder: "waymark-data".to_owned(),
            reserve_bytes: 1 << 30,
            last_reserve_bytes: 512 << 20,
        }
    }
}

/// What a disk has room for; each less than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Records,
    /// All but records: it is below the first mark.
    Entries,
    /// Only what this node must write for itself: it is below the last mark.
    Nothing,
}

/// A node's disk, as the node told of it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRoom {
    /// The data directory as that node is configured.
    pub folder: String,
    /// Bytes that the node may still use.
    pub free_bytes: u64,
    /// The first mark.
    pub reserve_bytes: u64,
    /// The last mark.
    pub last_reserve_bytes: u64,
    /// What follows, with the levels before taken into account.
    pub level: Level,
}

impl fmt::Display for DiskRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, folder) = (Shown(self.free_bytes), &self.folder);
        write!(f, "{free} free for {folder:?}, ")?;
        match self.level {
            Level::Records => write!(f, "above {}", Shown(self.reserve_bytes)),
            Level::Entries => {
                let mark = Shown(self.reserve_bytes);
                write!(f, "below {mark} (store.reserve_bytes): it takes no records")
            }
            Level::Nothing => {
                let mark = Shown(self.last_reserve_bytes);
                let what = "it takes no records, and no entries of other nodes";
                write!(f, "below {mark} (store.last_reserve_bytes): {what}")
            }
        }
    }
}

/// As people read it; small disks are those of tests.
struct Shown(u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= MIB => write!(f, "{} MiB", bytes / MIB),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// What a disk has room for now, which was at another level before.
fn level(before: Level, free: u64, options: &RoomOptions) -> Level {
    let is_below = |mark: u64, was_below: bool| {
        let slack =
            if was_below && !mutants::planted!("room-flaps") { mark / SLACK_PART } else { 0 };
        free < mark.saturating_add(slack)
    };
    if is_below(options.last_reserve_bytes, before == Level::Nothing) {
        Level::Nothing
    } else if is_below(options.reserve_bytes, before != Level::Records) {
        Level::Entries
    } else {
        Level::Records
    }
}

/// Looks for ever.
pub(super) async fn watch(member: &Member) {
    let mut looks = interval(LOOK_AGAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answered = true;
    loop {
        looks.tick().await;
        match member.parts.env.disk.space().await {
            Ok(space) => {
                answered = true;
                note(member, space.free);
            }
            // What it said last counts on.
            Err(error) => {
                if std::mem::replace(&mut answered, false) {
                    tracing::warn!(node = %member.node, %error, "the disk does not say how full it is");
                }
            }
        }
    }
}

fn note(member: &Member, free_bytes: u64) {
    let options = &member.options.room;
    let before = member.level();
    let level = level(before, free_bytes, options);
    let disk = Arc::new(DiskRoom {
        folder: options.folder.clone(),
        free_bytes,
        reserve_bytes: options.reserve_bytes,
        last_reserve_bytes: options.last_reserve_bytes,
        level,
    });
    member.disk.send_replace(Some(Arc::clone(&disk)));
    if level == before {
        return;
    }
    tracing::warn!(node = %member.node, %disk, "the room on this node's disk has changed");
    match (before, level) {
        (Level::Records, _) => reached!("room-lost"),
        (_, Level::Records) => reached!("room-back"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(reserve_bytes: u64, last_reserve_bytes: u64) -> RoomOptions {
        RoomOptions { reserve_bytes, last_reserve_bytes, ..RoomOptions::default() }
    }

    /// Levels of a disk with so many free bytes, one after the other.
    fn levels(free: &[u64]) -> Vec<Level> {
        let marks = marks(160, 80);
        let mut now = Level::Records;
        let next = |free: &u64| {
            now = level(now, *free, &marks);
            now
        };
        free.iter().map(next).collect()
    }

    fn a_disk_at_its_mark_crosses_it_once() -> bool {
        levels(&[159, 160, 159, 160, 169]) == [Level::Entries; 5]
    }

    #[test]
    fn room_ends_at_each_mark() {
        let _sound = mutants::seclude();
        use Level::{Entries, Nothing, Records};
        assert_eq!(
            levels(&[161, 160, 159, 80, 79, 0]),
            [Records, Records, Entries, Entries, Nothing, Nothing]
        );
        assert_eq!(
            levels(&[0, 200]),
            [Nothing, Records],
            "a disk that was emptied is seen at once"
        );
    }

    #[test]
    fn room_is_back_only_with_some_to_spare() {
        let _sound = mutants::seclude();
        use Level::{Entries, Nothing, Records};
        assert!(a_disk_at_its_mark_crosses_it_once());
        assert_eq!(levels(&[159, 169, 170]), [Entries, Entries, Records]);
        assert_eq!(levels(&[79, 80, 84, 85]), [Nothing, Nothing, Nothing, Entries]);
    }

    #[test]
    fn a_planted_mark_without_slack_is_caught() {
        let _planted = mutants::plant("room-flaps");
        assert!(!a_disk_at_its_mark_crosses_it_once());
    }

    #[test]
    fn marks_of_nothing_are_never_met() {
        let _sound = mutants::seclude();
        assert_eq!(level(Level::Records, 0, &marks(0, 0)), Level::Records);
    }

    #[test]
    fn a_disk_is_told_with_its_folder_its_free_bytes_and_the_mark_that_counts() {
        let told = |level| {
            let disk = DiskRoom {
                folder: "/var/lib/waymark".to_owned(),
                free_bytes: 300 << 20,
                reserve_bytes: 1 << 30,
                last_reserve_bytes: 512 << 20,
                level,
            };
            disk.to_string()
        };
        let full = "300 MiB free for \"/var/lib/waymark\", below 512 MiB (store.last_reserve_bytes): \
                    it takes no records, and no entries of other nodes";
        assert_eq!(told(Level::Nothing), full);
        assert!(told(Level::Entries).contains("below 1024 MiB (store.reserve_bytes)"));
    }
}
