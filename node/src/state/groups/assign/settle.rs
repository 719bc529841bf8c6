//! Owns how much everybody in a block keeps: the most that even loads allow, over any chain of moves. Never names the
//! member of a partition that is not kept.
//!
//! It is a flow of least cost. A partition flows from its topic either straight to the owner, free of cost, or at the
//! cost of one move into its pool, to a cohort, to a member. Each member takes the block's mean, and one more at a cost
//! that no number of moves outweighs. So the least cost is the fewest moves among even loads.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::blocks::{Block, Share};
use super::claims::Claim;
use super::classes::Classes;
use super::flow::{Flow, SINK, SOURCE};

/// What a block still has to hand out: how much, not which.
pub(super) struct Vacancies {
    /// Cohort and amount, for each of the block's shares.
    pub(super) shares: Vec<Vec<(usize, i64)>>,
    /// By cohort: its members and what each of them still takes.
    pub(super) members: BTreeMap<usize, Vec<(usize, i64)>>,
}

/// Marks in the claims of a block how much is kept, and returns who gets how much more. Claims are in the order of shares,
/// one list for each, and each list in the order of topics.
pub(super) fn settle(classes: &Classes<'_>, block: &Block, claims: &mut [Vec<Claim>]) -> Vacancies {
    let mut network = Network::of_members(classes, block, claims);
    let shares: Vec<Vec<(usize, usize)>> = block
        .shares
        .iter()
        .zip(claims.iter())
        .map(|(share, claims)| network.add_share(classes, share, claims))
        .collect();
    network.preload(classes, block, claims);
    network.flow.fill();
    let flow = network.flow;
    for (claim, route) in claims.iter_mut().flatten().zip(network.routes) {
        claim.kept = usize::try_from(flow.carried(route.kept)).unwrap_or_default();
    }
    let carried = |arcs: Vec<(usize, usize)>| {
        arcs.into_iter().map(|(to, arc)| (to, flow.carried(arc))).collect::<Vec<_>>()
    };
    Vacancies {
        shares: shares.into_iter().map(carried).collect(),
        members: network.vacant.into_iter().map(|(cohort, arcs)| (cohort, carried(arcs))).collect(),
    }
}

struct Network {
    flow: Flow,
    /// What each member takes before any takes one more.
    mean: i64,
    cohort_nodes: BTreeMap<usize, usize>,
    /// By member, its node and its arc to the sink.
    members: BTreeMap<usize, (usize, usize)>,
    /// By cohort, members and the arcs from their cohort to them.
    vacant: BTreeMap<usize, Vec<(usize, usize)>>,
    /// For each claim.
    routes: Vec<Route>,
}

/// The arcs of a claim.
#[derive(Clone, Copy)]
struct Route {
    from_source: usize,
    kept: usize,
}

impl Network {
    fn of_members(classes: &Classes<'_>, block: &Block, claims: &[Vec<Claim>]) -> Self {
        let partitions = block.partitions(classes);
        let size = i64::try_from(block.members(classes)).unwrap_or(i64::MAX).max(1);
        let mean = partitions / size;
        let claims = i64::try_from(claims.iter().map(Vec::len).sum::<usize>()).unwrap_or_default();
        // A way passes each topic at most once, and only leaving or entering a topic costs anything.
        let more_than_any_way = 2 * claims + 3;
        let mut network = Self {
            flow: Flow::new(),
            mean,
            cohort_nodes: BTreeMap::new(),
            members: BTreeMap::new(),
            vacant: BTreeMap::new(),
            routes: Vec::new(),
        };
        let flow = &mut network.flow;
        for cohort in &block.cohorts {
            let cohort_node = flow.node();
            network.cohort_nodes.insert(*cohort, cohort_node);
            let arcs = network.vacant.entry(*cohort).or_default();
            for member in &classes.cohorts[*cohort] {
                let node = flow.node();
                let take = flow.arc(node, SINK, mean, 0);
                if partitions % size > 0 {
                    flow.arc(node, SINK, 1, more_than_any_way);
                }
                network.members.insert(*member, (node, take));
                arcs.push((*member, flow.arc(cohort_node, node, mean + 1, 0)));
            }
        }
        network
    }

    /// Adds the topics of a share. Those that nobody claims are alike and need no node of their own. Returns cohorts and
    /// the arcs to them.
    fn add_share(
        &mut self,
        classes: &Classes<'_>,
        share: &Share,
        claims: &[Claim],
    ) -> Vec<(usize, usize)> {
        let flow = &mut self.flow;
        let pool = flow.node();
        let supply = classes.pools[share.pool].partitions;
        let mut unclaimed = supply;
        for of_topic in claims.chunk_by(|a, b| a.topic == b.topic) {
            let node = flow.node();
            let partitions =
                of_topic.first().map_or(0, |claim| i64::from(classes.partitions[claim.topic]));
            unclaimed -= partitions;
            let from_source = flow.arc(SOURCE, node, partitions, 0);
            for claim in of_topic {
                if let Some((member, _)) = self.members.get(&claim.member) {
                    let kept = flow.arc(node, *member, amount(claim), 0);
                    self.routes.push(Route { from_source, kept });
                }
            }
            flow.arc(node, pool, partitions, 1);
        }
        flow.arc(SOURCE, pool, unclaimed, 0);
        let nodes = &self.cohort_nodes;
        share
            .cohorts
            .iter()
            .filter_map(|it| nodes.get(it).map(|node| (*it, flow.arc(pool, *node, supply, 0))))
            .collect()
    }

    /// Lets everybody keep what it claims up to the mean: a cheapest flow to begin with. Who claims more keeps what is
    /// left after giving up, one by one, of the topic of which it has the most beyond an even share: so a topic does not
    /// stay with one member while another topic leaves it as a whole.
    fn preload(&mut self, classes: &Classes<'_>, block: &Block, claims: &[Vec<Claim>]) {
        let mut of_member: BTreeMap<usize, Vec<(i64, i64, Route)>> = BTreeMap::new();
        let mut routes = self.routes.iter();
        for (share, claims) in block.shares.iter().zip(claims) {
            let sharers: usize = share.cohorts.iter().map(|it| classes.cohorts[*it].len()).sum();
            let sharers = i64::try_from(sharers).unwrap_or(i64::MAX).max(1);
            for (claim, route) in claims.iter().zip(&mut routes) {
                let even = i64::from(classes.partitions[claim.topic]) * FINE / sharers;
                of_member.entry(claim.member).or_default().push((amount(claim), even, *route));
            }
        }
        for (member, mut claims) in of_member {
            give_up(&mut claims, self.mean);
            for (kept, _, route) in claims {
                self.flow.preload(route.from_source, kept);
                self.flow.preload(route.kept, kept);
                if let Some((_, take)) = self.members.get(&member) {
                    self.flow.preload(*take, kept);
                }
            }
        }
    }
}

/// Even shares are fractions of a partition; this is how fine.
const FINE: i64 = 1_024;

fn amount(claim: &Claim) -> i64 {
    i64::try_from(claim.partitions.len()).unwrap_or(i64::MAX)
}

/// Lowers amounts, the one furthest above its even share first, until their sum is at most a limit.
fn give_up(claims: &mut [(i64, i64, Route)], limit: i64) {
    let mut sum: i64 = claims.iter().map(|(amount, ..)| amount).sum();
    let mut excess: BinaryHeap<(i64, Reverse<usize>)> = claims
        .iter()
        .enumerate()
        .map(|(place, (amount, even, _))| (amount * FINE - even, Reverse(place)))
        .collect();
    while sum > limit
        && let Some((above, Reverse(place))) = excess.pop()
    {
        claims[place].0 -= 1;
        sum -= 1;
        if claims[place].0 > 0 {
            excess.push((above - FINE, Reverse(place)));
        }
    }
}
