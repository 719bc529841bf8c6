//! Makes a failing run smaller: without the classes of faults that it does not need, then shorter, as long as it still fails
//! in the same way. Owns the order of attempts; a run is a pure function of its plan, so that each attempt counts once.

use crate::outcome::Outcome;
use crate::plan::Plan;

/// The shortest storm that is tried, simulated seconds.
const SHORTEST: u64 = 1;

/// The smallest plan found that fails as this one does.
pub fn shrink(plan: &Plan, signature: &str, mut run: impl FnMut(&Plan) -> Outcome) -> Plan {
    let mut smallest = plan.clone();
    let mut fails = |plan: &Plan| run(plan).signature().as_deref() == Some(signature);
    for class in plan.classes() {
        let mut smaller = smallest.clone();
        smaller.without.insert(class);
        if !smaller.classes().is_empty() && fails(&smaller) {
            smallest = smaller;
        }
    }
    while smallest.seconds > SHORTEST && !smallest.classes().is_empty() {
        let smaller = Plan { seconds: (smallest.seconds / 2).max(SHORTEST), ..smallest.clone() };
        if !fails(&smaller) {
            break;
        }
        smallest = smaller;
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    /// Fails while its first class strikes for ten seconds or more.
    fn outcome(plan: &Plan, needed: crate::storm::FaultClass) -> Outcome {
        let fails = plan.classes().contains(&needed) && plan.seconds >= 10;
        let violations = fails.then(|| "G1: gone".to_owned()).into_iter().collect();
        Outcome { violations, ..Outcome::default() }
    }

    #[test]
    fn what_a_failure_does_not_need_is_left_out() {
        let plan = Plan::new(Profile::Swarm, 3);
        let needed = plan.classes()[0];
        let smallest = shrink(&plan, "G1", |plan| outcome(plan, needed));
        assert_eq!(smallest.classes(), [needed]);
        assert_eq!(smallest.seconds, 15);
    }

    #[test]
    fn another_failure_is_not_taken_for_this_one() {
        let plan = Plan::new(Profile::Swarm, 3);
        let needed = plan.classes()[0];
        assert_eq!(shrink(&plan, "G2", |plan| outcome(plan, needed)), plan);
    }
}
