//! The story of nodes that are cut off from their peers while a topic grows and goes (S14): clients still reach them, and one
//! of those knows no other node. It is told what is so by now, or nothing. Owns who is cut off and what changes meanwhile;
//! what was promised is the oracle's business.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::calls::{Call, Span, spans};
use crate::caretaker::Caretaker;
use crate::cluster::{Broken, Cluster};
use crate::group_history::GroupEvent;
use crate::history::History;
use crate::readers::{Names, doubt};
use crate::subject::Subject;
use crate::workload::SETTLE;

/// Cuts in a run, each of another node.
const CUTS: u64 = 3;
/// Until what a majority has is everywhere.
const SPREAD: Duration = Duration::from_secs(1);
/// Whoever waits for the cut looks this often.
const LOOKS_AGAIN: Duration = Duration::from_millis(20);
/// How long each change can be believed not to have been, milliseconds.
const BELIEVED_MS: (u64, u64) = (100, 1_500);

/// Cuts one node off after the other.
pub(crate) fn tell(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    (history, names): (&History, &Names),
) -> Result<(), Broken> {
    let nodes = cluster.nodes().count() as u64;
    let first = cluster.draw(0, nodes);
    for turn in 0..CUTS {
        let node = u32::try_from((first + turn) % nodes + 1).unwrap_or(1);
        history.note(GroupEvent::NodeFault);
        cut_off(cluster, subject, (history, names), node)?;
    }
    let calls = spans(&history.snapshot());
    let told = |it: &&Span| matches!(it.what, Call::LookUpTopic { .. }) && it.answer().is_some();
    match calls.iter().filter(told).count() {
        0 => Err(Broken("nobody was told anything of a topic".to_owned())),
        _ => Ok(()),
    }
}

/// How far the topic and the node are.
#[derive(Debug, Default)]
struct Course {
    /// The topic is there.
    is_made: AtomicBool,
    /// The node is cut off.
    is_cut: AtomicBool,
    /// The topic is gone, or left as it was when something failed.
    is_over: AtomicBool,
}

fn cut_off(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    (history, names): (&History, &Names),
    node: u32,
) -> Result<(), Broken> {
    let (topic, course) = (names.next(), Arc::new(Course::default()));
    let client = subject.client(cluster.draw(0, u64::MAX));
    let caretaker = Caretaker { client, history: history.clone(), names: names.clone() };
    let believed = Duration::from_millis(cluster.draw(BELIEVED_MS.0, BELIEVED_MS.1));
    cluster.client(change(caretaker, (topic, believed), Arc::clone(&course)));
    until(cluster, "make a topic", || is(&course.is_made) || is(&course.is_over))?;
    cluster.run_for(SPREAD)?;
    let stop = Arc::new(AtomicBool::new(false));
    let client = subject.client_at(node, cluster.draw(0, u64::MAX));
    cluster.client(doubt(client, topic, history.clone(), Arc::clone(&stop)));
    tracing::info!(node, topic, "a node is cut off from its peers while a topic changes");
    cluster.cut_from_peers(node);
    course.is_cut.store(true, Ordering::SeqCst);
    until(cluster, "grow and delete a topic", || is(&course.is_over))?;
    cluster.run_for(believed)?;
    cluster.heal(node);
    cluster.run_for(SPREAD)?;
    stop.store(true, Ordering::SeqCst);
    Ok(())
}

/// A topic is made; when the node is cut off it grows, is looked at for a while as it is, and goes.
async fn change(mut by: Caretaker, (topic, believed): (u32, Duration), course: Arc<Course>) {
    let done: io::Result<()> = async {
        by.make(topic, 1).await?;
        course.is_made.store(true, Ordering::SeqCst);
        while !is(&course.is_cut) {
            sleep(LOOKS_AGAIN).await;
        }
        by.grow(topic, 3).await?;
        sleep(believed).await;
        by.delete(topic).await
    }
    .await;
    if let Err(error) = done {
        tracing::debug!(%error, topic, "a topic is left as it is");
    }
    course.is_over.store(true, Ordering::SeqCst);
}

fn is(told: &AtomicBool) -> bool {
    told.load(Ordering::SeqCst)
}

fn until(cluster: &mut Cluster, what: &str, reached: impl Fn() -> bool) -> Result<(), Broken> {
    match cluster.run_until(SETTLE, reached)? {
        true => Ok(()),
        false => Err(Broken(format!("within {SETTLE:?} nobody could {what}"))),
    }
}
