//! Which pods end when, and in how much time: kubelet's order. Pure.

use std::sync::Arc;

use serde::Deserialize;

use crate::pod::spec::Pod;

/// The pods of a priority and above, up to the next turn's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Turn {
    pub(crate) priority: i32,
    /// How long they have.
    #[serde(rename = "shutdownGracePeriodSeconds")]
    pub(crate) seconds: u64,
}

/// The priority of pods that the system cannot do without.
const CRITICAL: i32 = 2_000_000_000;

/// Returns the turns that two periods come to: of ordinary pods, and then of critical ones.
pub(crate) fn turns_of(all: u64, critical: u64) -> Vec<Turn> {
    if all == 0 {
        return Vec::new();
    }
    let ordinary = all.saturating_sub(critical);
    vec![
        Turn { priority: 0, seconds: ordinary },
        Turn { priority: CRITICAL, seconds: critical.min(all) },
    ]
}

/// Pods with the seconds that each may take.
type Ends = Vec<(Arc<Pod>, i64)>;

/// Returns the pods of each turn that has some, with the turn's seconds. `turns` rise.
pub(crate) fn ends(turns: &[Turn], pods: &[Arc<Pod>]) -> Vec<(u64, Ends)> {
    let place = |pod: &Pod| {
        let priority = pod.spec.priority.unwrap_or(0);
        turns.iter().rposition(|turn| turn.priority <= priority).unwrap_or(0)
    };
    let of = |(at, turn): (usize, &Turn)| {
        let most = i64::try_from(turn.seconds).unwrap_or(i64::MAX);
        let own = |pod: &Arc<Pod>| {
            let own = pod.spec.termination_grace_period_seconds.unwrap_or(most);
            (Arc::clone(pod), own.min(most))
        };
        let ends: Ends = pods.iter().filter(|pod| place(pod) == at).map(own).collect();
        (turn.seconds, ends)
    };
    turns.iter().enumerate().map(of).filter(|(_, ends)| !ends.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: Option<i32>, grace: Option<i64>) -> Arc<Pod> {
        let spec = json!({"priority": priority, "terminationGracePeriodSeconds": grace});
        let pod = json!({"metadata": {"name": name}, "spec": spec});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn order(turns: &[Turn], pods: &[Arc<Pod>]) -> Vec<(u64, Vec<(String, i64)>)> {
        let named = |(pod, grace): (Arc<Pod>, i64)| (pod.metadata.name.clone(), grace);
        let all = ends(turns, pods).into_iter();
        all.map(|(seconds, ends)| (seconds, ends.into_iter().map(named).collect())).collect()
    }

    #[test]
    fn ordinary_pods_end_before_critical_ones_and_no_pod_has_more_than_its_own_time() {
        let pods = [
            pod("dns", Some(CRITICAL + 1000), Some(30)),
            pod("web", None, Some(5)),
            pod("batch", Some(-5), Some(600)),
            pod("silent", Some(7), None),
        ];
        let of = |name: &str, grace| (name.to_owned(), grace);
        let expected = vec![
            (20, vec![of("web", 5), of("batch", 20), of("silent", 20)]),
            (10, vec![of("dns", 10)]),
        ];
        assert_eq!(order(&turns_of(30, 10), &pods), expected);
        assert_eq!(turns_of(0, 0), []);
    }

    #[test]
    fn a_pod_ends_in_the_turn_of_its_priority_or_the_one_below() {
        let turn = |priority, seconds| Turn { priority, seconds };
        let turns = [turn(10, 1), turn(1000, 2), turn(100_000, 3)];
        let turn_of = |priority| ends(&turns, &[pod("p", Some(priority), None)])[0].0;
        let all: Vec<_> = [-1, 10, 999, 1000, 99_999, 100_000, i32::MAX].map(turn_of).into();
        assert_eq!(all, [1, 1, 1, 2, 2, 3, 3]);
    }
}
