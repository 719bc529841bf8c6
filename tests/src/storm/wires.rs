//! Owns what classes of faults do to the links of a node: cut, one way or both, held, slow, and held while the node stands
//! still. Never decides when, or to whom.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use super::FaultClass;
use super::deeds::Deed;
use crate::cluster::Cluster;
use crate::links::Wrong;
use crate::subject::host;

/// How a cluster can be parted: where there are three nodes, and where there are more.
const SHAPES_OF_THREE: u32 = 4;
const SHAPES: u32 = 6;
/// How slow a slow link is, milliseconds.
const SLOW_LINK_MS: (u64, u64) = (30, 400);
/// How far the timers of a node jump that stood still, milliseconds: beyond the time that its links were held.
const LONGEST_JUMP_MS: u64 = 6_000;

/// Something is wrong with the links of a node, if the class is one of links.
pub(super) fn on_links(
    class: FaultClass,
    node: u32,
    cluster: &mut Cluster,
    random: &mut SmallRng,
) -> Option<Deed> {
    match class {
        FaultClass::Partition => Some(partition(node, cluster, random)),
        FaultClass::OneWay => Some(one_way(node, cluster, random)),
        FaultClass::Hold => Some(one_or_all(node, cluster, random, Wrong::Held)),
        FaultClass::SlowLink => {
            let longest = random.random_range(SLOW_LINK_MS.0..=SLOW_LINK_MS.1);
            let slow = Wrong::Slow(Duration::from_millis(longest));
            Some(one_or_all(node, cluster, random, slow))
        }
        FaultClass::Pause => {
            let cause = cluster.new_cause();
            cluster.break_off(node, Wrong::Held, cause);
            let jump = Duration::from_millis(random.random_range(1..=LONGEST_JUMP_MS));
            Some(Deed::Paused { node, cause, jump })
        }
        _ => None,
    }
}

fn partition(node: u32, cluster: &mut Cluster, random: &mut SmallRng) -> Deed {
    let others: Vec<u32> = cluster.nodes().filter(|other| *other != node).collect();
    let shapes = if others.len() < 3 { SHAPES_OF_THREE } else { SHAPES };
    let shape = random.random_range(0..shapes);
    let other = others[random.random_range(0..others.len())];
    let cause = cluster.new_cause();
    match shape {
        // Alone.
        0 => cluster.break_off(node, Wrong::Lost, cause),
        // From its peers; clients still reach it and believe it.
        1 => others.iter().for_each(|it| cluster.break_link(node, *it, Wrong::Lost, cause)),
        // One link: both ends still reach a majority.
        2 => cluster.break_link(node, other, Wrong::Lost, cause),
        // Halves: this one and another against the rest. Of three, the rest is one; of five, it is the majority.
        3 => {
            for third in others.iter().filter(|it| **it != other) {
                cluster.break_link(node, *third, Wrong::Lost, cause);
                cluster.break_link(other, *third, Wrong::Lost, cause);
            }
        }
        // A bridge: the others are two halves, and only this one reaches both.
        4 => {
            let (one, rest) = others.split_at(others.len() / 2);
            for (here, there) in one.iter().flat_map(|here| rest.iter().map(move |it| (here, it))) {
                cluster.break_link(*here, *there, Wrong::Lost, cause);
            }
        }
        // A ring: each reaches its two neighbours. Of five, those are a majority, and each has another one.
        _ => {
            let last = others.len();
            for (place, here) in others.iter().enumerate() {
                let far = others.iter().skip(place + 2);
                far.for_each(|it| cluster.break_link(*here, *it, Wrong::Lost, cause));
                if place > 0 && place + 1 < last {
                    cluster.break_link(node, *here, Wrong::Lost, cause);
                }
            }
        }
    }
    Deed::Links(cause)
}

fn one_way(node: u32, cluster: &mut Cluster, random: &mut SmallRng) -> Deed {
    let cause = cluster.new_cause();
    let (mute, one) = (random.random_bool(0.5), random.random_bool(0.3));
    let others: Vec<u32> = cluster.nodes().filter(|other| *other != node).collect();
    let chosen = random.random_range(0..others.len());
    for (place, other) in others.into_iter().enumerate() {
        if one && place != chosen {
            continue;
        }
        let (from, to) = if mute { (node, other) } else { (other, node) };
        cluster.break_way((&host(from), &host(to)), Wrong::Lost, cause);
    }
    Deed::Links(cause)
}

/// The same wrong with one link of a node, or with all.
fn one_or_all(node: u32, cluster: &mut Cluster, random: &mut SmallRng, wrong: Wrong) -> Deed {
    let cause = cluster.new_cause();
    let others: Vec<u32> = cluster.nodes().filter(|other| *other != node).collect();
    let other = others[random.random_range(0..others.len())];
    if random.random_bool(0.5) {
        cluster.break_link(node, other, wrong, cause);
    } else {
        cluster.break_off(node, wrong, cause);
    }
    Deed::Links(cause)
}
