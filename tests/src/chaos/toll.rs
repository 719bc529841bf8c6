//! What harm did that is to be noticed: bits flipped in so many files, and so many damaged places that nodes then told of. Owns
//! the sums of a run, and whether damage went by unseen; repair is what the course waits for.

use std::collections::BTreeMap;
use std::fmt;

use super::harm::Rotten;
use super::metrics::{page, value};
use super::rot::Kind;
use super::site::Site;

/// Damaged places that a node found since it was started: in segments and checkpoints, and in its journal.
const FOUND: [&str; 2] = ["waymark_damaged_ranges_total", "waymark_journal_damaged_parts_total"];

/// Of a whole run.
#[derive(Debug, Default)]
pub(super) struct Toll {
    flipped: BTreeMap<Kind, usize>,
    /// Strikes at segments, and those of them after which no node had found anything.
    strikes: usize,
    unseen: usize,
    found: u64,
}

/// What each node had found at some moment.
#[derive(Debug)]
pub(super) struct Before(BTreeMap<u32, u64>);

/// Asks all nodes; one that gives no answer has found nothing.
async fn found(site: &Site) -> BTreeMap<u32, u64> {
    let mut found = BTreeMap::new();
    for node in site.nodes() {
        let page = page(site.metrics(node)).await.unwrap_or_default();
        found.insert(node, FOUND.iter().filter_map(|name| value(&page, name)).sum());
    }
    found
}

impl Before {
    pub(super) async fn look(site: &Site) -> Self {
        Self(found(site).await)
    }
}

impl Toll {
    /// Bits flipped after that moment, and everything is whole again.
    pub(super) async fn take(&mut self, site: &Site, before: &Before, rotten: &Rotten) {
        let now = found(site).await;
        // A node that was killed meanwhile counts from zero.
        let more = |(node, now): (&u32, &u64)| {
            let before = before.0.get(node).copied().unwrap_or(0);
            now.checked_sub(before).unwrap_or(*now)
        };
        self.note(rotten, now.iter().map(more).sum());
    }

    fn note(&mut self, rotten: &Rotten, found: u64) {
        self.found += found;
        let mut segments = 0;
        for (kind, files) in rotten.0.values().flatten() {
            *self.flipped.entry(*kind).or_default() += files;
            segments += if *kind == Kind::Segments { *files } else { 0 };
        }
        if segments > 0 {
            self.strikes += 1;
            self.unseen += usize::from(found == 0);
        }
    }

    /// Bits of segments flipped, and nobody ever found any of them. Of single strikes that may be: what was hurt may be written
    /// again from the journal, or given up, before anyone reads it.
    pub(super) fn unseen_damage(&self) -> Option<String> {
        let all = self.strikes > 0 && self.unseen == self.strikes;
        all.then(|| format!("no node found any damage: {self}"))
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bits flipped in ")?;
        for (kind, files) in &self.flipped {
            write!(f, "{files} {}, ", kind.name())?;
        }
        let Self { found, strikes, unseen, .. } = self;
        write!(f, "{found} damaged places found; ")?;
        write!(f, "after {} of {strikes} strikes at segments", strikes - unseen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotten(kind: Kind) -> Rotten {
        Rotten([(1, [(kind, 2)].into())].into())
    }

    #[test]
    fn damage_to_segments_that_nobody_ever_found_is_told() {
        let mut toll = Toll::default();
        assert_eq!(toll.unseen_damage(), None);
        toll.note(&rotten(Kind::Checkpoints), 0);
        assert_eq!(toll.unseen_damage(), None);
        toll.note(&rotten(Kind::Segments), 0);
        let told = toll.unseen_damage().unwrap();
        assert!(told.contains("2 segments, 2 checkpoints, 0 damaged places"), "{told}");
        toll.note(&rotten(Kind::Segments), 3);
        assert_eq!(toll.unseen_damage(), None);
        assert!(
            toll.to_string().ends_with("3 damaged places found; after 1 of 2 strikes at segments")
        );
    }
}
