//! Owns what is wrong with each link of the simulated network, and why: several faults may want something of the same link,
//! and one that is over must not heal what another one still breaks. Never decides what happens.

use std::collections::BTreeMap;
use std::time::Duration;

use turmoil::Sim;

/// Names a fault for as long as it lasts.
pub(crate) type Cause = u64;

/// What may be wrong with one direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// What is sent is lost; nobody is told.
    Lost,
    /// What is sent waits, and arrives together when this is over. Both directions of a link wait, or none.
    Held,
    /// What is sent takes up to so long.
    Slow(Duration),
}

/// The causes of what is wrong, by direction.
#[derive(Debug, Default)]
pub(crate) struct Links {
    wrongs: BTreeMap<(String, String), BTreeMap<Cause, Wrong>>,
    /// As every link is while nothing is wrong.
    longest_latency: Duration,
}

/// What the network was told of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Told {
    lost: bool,
    lost_back: bool,
    held: bool,
    slow: Option<Duration>,
}

impl Links {
    pub(crate) fn new(longest_latency: Duration) -> Self {
        Self { wrongs: BTreeMap::new(), longest_latency }
    }

    /// From now on this is wrong with the way `from` one host `to` another.
    pub(crate) fn begin(
        &mut self,
        sim: &Sim<'static>,
        (from, to): (&str, &str),
        cause: Cause,
        wrong: Wrong,
    ) {
        let before = self.told(from, to);
        let way = (from.to_owned(), to.to_owned());
        self.wrongs.entry(way).or_default().insert(cause, wrong);
        self.tell(sim, (from, to), before);
    }

    /// Nothing is wrong any more because of this.
    pub(crate) fn end(&mut self, sim: &Sim<'static>, cause: Cause) {
        let of_it = self.wrongs.iter().filter(|(_, causes)| causes.contains_key(&cause));
        let ways: Vec<(String, String)> = of_it.map(|(way, _)| way.clone()).collect();
        for (from, to) in ways {
            let before = self.told(&from, &to);
            let way = (from.clone(), to.clone());
            let left = self.wrongs.get_mut(&way).map(|causes| {
                causes.remove(&cause);
                causes.len()
            });
            if left == Some(0) {
                self.wrongs.remove(&way);
            }
            self.tell(sim, (&from, &to), before);
        }
    }

    fn wrongs(&self, from: &str, to: &str) -> impl Iterator<Item = Wrong> + '_ {
        let way = (from.to_owned(), to.to_owned());
        self.wrongs.get(&way).into_iter().flat_map(|causes| causes.values().copied())
    }

    fn told(&self, from: &str, to: &str) -> Told {
        let is = |from: &str, to: &str, wrong| self.wrongs(from, to).any(|it| it == wrong);
        let (lost, lost_back) = (is(from, to, Wrong::Lost), is(to, from, Wrong::Lost));
        let both = self.wrongs(from, to).chain(self.wrongs(to, from));
        let slow = both.filter_map(|it| match it {
            Wrong::Slow(longest) => Some(longest),
            Wrong::Lost | Wrong::Held => None,
        });
        let held = is(from, to, Wrong::Held) || is(to, from, Wrong::Held);
        Told { lost, lost_back, held: held && !lost && !lost_back, slow: slow.max() }
    }

    fn tell(&self, sim: &Sim<'static>, (from, to): (&str, &str), before: Told) {
        let now = self.told(from, to);
        if before.held && !now.held {
            sim.release(from, to);
        }
        for (was, is, from, to) in
            [(before.lost, now.lost, from, to), (before.lost_back, now.lost_back, to, from)]
        {
            match (was, is) {
                (false, true) => sim.partition_oneway(from, to),
                (true, false) => sim.repair_oneway(from, to),
                _ => {}
            }
        }
        if now.held && !before.held {
            sim.hold(from, to);
        }
        if now.slow != before.slow {
            let longest = now.slow.unwrap_or(self.longest_latency);
            sim.set_link_max_message_latency(from, to, longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_hosts() -> Sim<'static> {
        let mut sim = turmoil::Builder::new().build();
        for name in ["a", "b"] {
            sim.host(name, || async { Ok(()) });
        }
        sim
    }

    #[test]
    fn a_link_is_whole_only_when_no_fault_breaks_it_any_more() {
        let sim = two_hosts();
        let mut links = Links::new(Duration::from_millis(5));
        links.begin(&sim, ("a", "b"), 1, Wrong::Lost);
        links.begin(&sim, ("a", "b"), 2, Wrong::Lost);
        links.begin(&sim, ("b", "a"), 2, Wrong::Held);
        links.end(&sim, 1);
        assert_eq!(links.told("a", "b"), Told { lost: true, ..Told::default() });
        links.end(&sim, 2);
        assert_eq!(links.told("a", "b"), Told::default());
        assert!(links.wrongs.is_empty());
    }

    #[test]
    fn what_is_held_waits_on_when_a_cut_is_over() {
        let sim = two_hosts();
        let mut links = Links::new(Duration::from_millis(5));
        links.begin(&sim, ("a", "b"), 1, Wrong::Held);
        links.begin(&sim, ("b", "a"), 2, Wrong::Lost);
        assert!(!links.told("a", "b").held);
        links.end(&sim, 2);
        assert!(links.told("a", "b").held);
    }
}
