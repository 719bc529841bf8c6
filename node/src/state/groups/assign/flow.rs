//! Owns flows of least cost: a network of arcs with capacities and costs, filled from [`SOURCE`] to [`SINK`] with as much
//! as passes, and of all such flows with one that costs least. Exact: it always fills along the cheapest ways left
//! (successive shortest paths, by potentials), all ways of one cost at a time (Dinic). Knows nothing of groups.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Where flow comes from.
pub(super) const SOURCE: usize = 0;
/// Where flow goes.
pub(super) const SINK: usize = 1;

const UNREACHED: usize = usize::MAX;

/// A network and the flow in it.
pub(super) struct Flow {
    /// An arc and its reverse stand side by side: the other of `i` is `i ^ 1`.
    arcs: Vec<Arc>,
    leaving: Vec<Vec<usize>>,
    /// Prices of nodes under which no arc with room left costs less than nothing.
    potential: Vec<i64>,
}

struct Arc {
    to: usize,
    left: i64,
    cost: i64,
}

impl Flow {
    /// A network of nothing but the two ends.
    pub(super) fn new() -> Self {
        Self { arcs: Vec::new(), leaving: vec![Vec::new(); 2], potential: vec![0; 2] }
    }

    /// Adds a node.
    pub(super) fn node(&mut self) -> usize {
        self.leaving.push(Vec::new());
        self.potential.push(0);
        self.leaving.len() - 1
    }

    /// Adds an arc. The cost is never negative.
    pub(super) fn arc(&mut self, from: usize, to: usize, capacity: i64, cost: i64) -> usize {
        let arc = self.arcs.len();
        self.arcs.push(Arc { to, left: capacity, cost });
        self.arcs.push(Arc { to: from, left: 0, cost: -cost });
        self.leaving[from].push(arc);
        self.leaving[to].push(arc + 1);
        arc
    }

    /// Sends an amount through an arc before anything is filled. What enters a node must leave it, and only arcs without
    /// cost may be taken: then the flow is of least cost for what it carries, and filling goes on from it.
    pub(super) fn preload(&mut self, arc: usize, amount: i64) {
        self.arcs[arc].left -= amount;
        self.arcs[arc ^ 1].left += amount;
    }

    /// Gives an arc more room. Only for networks without costs, in which any flow is a cheapest one.
    pub(super) fn widen(&mut self, arc: usize, by: i64) {
        self.arcs[arc].left += by;
    }

    /// What an arc carries.
    pub(super) fn carried(&self, arc: usize) -> i64 {
        self.arcs[arc ^ 1].left
    }

    /// Sends as much as passes, the cheapest ways first. Returns how much was added.
    pub(super) fn fill(&mut self) -> i64 {
        let mut added = 0;
        while self.reprice() {
            loop {
                let levels = self.levels(Self::is_cheapest);
                if levels[SINK] == UNREACHED {
                    break;
                }
                added += self.fill_levels(&levels);
            }
        }
        added
    }

    /// Which nodes more flow could still get to.
    pub(super) fn reached(&self) -> Vec<bool> {
        let levels = self.levels(|_, _, arc| arc.left > 0);
        levels.into_iter().map(|level| level != UNREACHED).collect()
    }

    fn reduced_cost(&self, from: usize, arc: &Arc) -> i64 {
        arc.cost + self.potential[from] - self.potential[arc.to]
    }

    fn is_cheapest(&self, from: usize, arc: &Arc) -> bool {
        arc.left > 0 && self.reduced_cost(from, arc) == 0
    }

    /// Raises the prices by the distances from the source (Dijkstra), so that the cheapest ways to the sink cost nothing.
    /// Returns whether there is a way.
    fn reprice(&mut self) -> bool {
        let mut distance = vec![i64::MAX; self.leaving.len()];
        distance[SOURCE] = 0;
        let mut nearest = BinaryHeap::from([Reverse((0, SOURCE))]);
        while let Some(Reverse((far, node))) = nearest.pop() {
            if node == SINK {
                break;
            }
            if far > distance[node] {
                continue;
            }
            for arc in self.leaving[node].iter().map(|arc| &self.arcs[*arc]) {
                let farther = far + self.reduced_cost(node, arc);
                if arc.left > 0 && farther < distance[arc.to] {
                    distance[arc.to] = farther;
                    nearest.push(Reverse((farther, arc.to)));
                }
            }
        }
        let to_sink = distance[SINK];
        if to_sink == i64::MAX {
            return false;
        }
        // Nodes beyond the sink were not looked at; the sink's distance is the price that keeps every arc's cost legal.
        for (price, distance) in self.potential.iter_mut().zip(distance) {
            *price += distance.min(to_sink);
        }
        true
    }

    /// How many arcs each node is away from the source, over arcs that pass the test.
    fn levels(&self, passes: impl Fn(&Self, usize, &Arc) -> bool) -> Vec<usize> {
        let mut levels = vec![UNREACHED; self.leaving.len()];
        levels[SOURCE] = 0;
        let mut queue = VecDeque::from([SOURCE]);
        while let Some(node) = queue.pop_front() {
            for arc in self.leaving[node].iter().map(|arc| &self.arcs[*arc]) {
                if levels[arc.to] == UNREACHED && passes(self, node, arc) {
                    levels[arc.to] = levels[node] + 1;
                    queue.push_back(arc.to);
                }
            }
        }
        levels
    }

    /// Sends flow along the cheapest ways that go up one level with every arc, until none of them has room. Walks
    /// without recursion: a way may be as long as the network is large, a stack is not.
    fn fill_levels(&mut self, levels: &[usize]) -> i64 {
        let mut next = vec![0; self.leaving.len()];
        let mut way: Vec<usize> = Vec::new();
        let mut at = SOURCE;
        let mut added = 0;
        loop {
            if at == SINK {
                added += self.send(&way);
                let full = way.iter().position(|arc| self.arcs[*arc].left == 0).unwrap_or_default();
                at = self.arcs[way[full] ^ 1].to;
                way.truncate(full);
            } else if let Some(arc) = self.step(at, levels, &mut next[at]) {
                way.push(arc);
                at = self.arcs[arc].to;
            } else if let Some(arc) = way.pop() {
                at = self.arcs[arc ^ 1].to;
                next[at] += 1;
            } else {
                return added;
            }
        }
    }

    /// The first arc, from the `next` on, that leads one level up.
    fn step(&self, at: usize, levels: &[usize], next: &mut usize) -> Option<usize> {
        while let Some(arc) = self.leaving[at].get(*next) {
            let leads = &self.arcs[*arc];
            if levels[leads.to] == levels[at] + 1 && self.is_cheapest(at, leads) {
                return Some(*arc);
            }
            *next += 1;
        }
        None
    }

    /// Sends what the narrowest arc of a way lets through.
    fn send(&mut self, way: &[usize]) -> i64 {
        let amount = way.iter().map(|arc| self.arcs[*arc].left).min().unwrap_or_default();
        for arc in way {
            self.preload(*arc, amount);
        }
        amount
    }
}
