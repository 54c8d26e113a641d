//! The way on a machine that exists in memory only: killed and booted between any two things.

use proptest::prelude::*;

use super::*;

/// A node: what stands in the two places, what runs, and which agent works when it runs.
#[derive(Clone, Debug)]
struct Machine {
    program: Agent,
    unit: Option<Agent>,
    runs: Agent,
    ours_work: bool,
    theirs_work: bool,
}

/// What comes between.
#[derive(Clone, Copy, Debug)]
enum Blow {
    None,
    /// The command is killed after it has noted a step and before it has done it.
    Before,
    /// The command is killed after it has done a step and before it has noted that.
    After,
    /// As `After`, and the machine boots.
    Boot,
}

impl Machine {
    const fn new(has_unit: bool, ours_work: bool, theirs_work: bool) -> Self {
        let unit = if has_unit { Some(Agent::Kubeedge) } else { None };
        Self { program: Agent::Kubeedge, unit, runs: Agent::Kubeedge, ours_work, theirs_work }
    }

    const fn seen(&self) -> Seen {
        Seen { program: Some(self.program), unit: self.unit }
    }

    /// What the service starts: our unit names our program, any other unit the place.
    fn starts(&self) -> Agent {
        if self.unit == Some(Agent::Ours) { Agent::Ours } else { self.program }
    }

    const fn works(&self, agent: Agent) -> bool {
        match agent {
            Agent::Kubeedge => self.theirs_work,
            Agent::Ours => self.ours_work,
        }
    }

    fn step(&mut self, step: Step, wanted: Agent) -> Result<(), String> {
        match step {
            Step::Prepare => {}
            Step::Program(agent) => self.program = agent,
            Step::Unit(agent) => self.unit = Some(agent),
            Step::Restart => self.runs = self.starts(),
            Step::Verify => {
                if self.runs != wanted || !self.works(wanted) {
                    return Err("it does not work".to_owned());
                }
            }
        }
        Ok(())
    }
}

/// Goes one step; tells whether it goes on.
fn go(machine: &mut Machine, course: &mut Course, blow: Blow) -> bool {
    let Some(step) = course.next(machine.seen()) else { return false };
    if matches!(blow, Blow::Before) {
        return true;
    }
    let done = machine.step(step, course.wanted);
    match blow {
        Blow::After => return true,
        Blow::Boot => {
            machine.runs = machine.starts();
            return true;
        }
        Blow::None | Blow::Before => {}
    }
    match done {
        Ok(()) => course.done(step),
        Err(reason) => return course.failed(step, &reason),
    }
    true
}

/// A way has eight steps and can be turned once; a blow costs a step at most.
const ENOUGH: usize = 32;

fn blows() -> impl Strategy<Value = Vec<Blow>> {
    let blow = prop_oneof![
        3 => Just(Blow::None),
        1 => Just(Blow::Before),
        1 => Just(Blow::After),
        1 => Just(Blow::Boot),
    ];
    prop::collection::vec(blow, 0..ENOUGH)
}

proptest! {
    #[test]
    fn whatever_is_killed_when_the_node_ends_with_an_agent_that_works(
        has_unit: bool, ours_work: bool, blows in blows(),
    ) {
        let mut machine = Machine::new(has_unit, ours_work, true);
        let mut course = Course::to(Agent::Ours);
        for blow in blows.iter().copied().chain([Blow::None; ENOUGH]) {
            if !go(&mut machine, &mut course, blow) {
                break;
            }
            if course.reached {
                prop_assert!(machine.works(machine.runs), "{machine:?}");
            }
        }
        let expected = if ours_work { Agent::Ours } else { Agent::Kubeedge };
        prop_assert!(course.reached, "{course:?}");
        prop_assert_eq!(course.turned.is_some(), !ours_work);
        prop_assert_eq!((course.wanted, machine.runs, machine.starts()), (expected, expected, expected));
        prop_assert_eq!(machine.program, expected);
        prop_assert_eq!(machine.unit, has_unit.then_some(expected));
    }

    #[test]
    fn the_way_back_from_any_point_leads_to_where_it_began(
        has_unit: bool, before in blows(), after in blows(),
    ) {
        let mut machine = Machine::new(has_unit, true, true);
        let mut course = Course::to(Agent::Ours);
        for blow in before {
            go(&mut machine, &mut course, blow);
        }
        course = Course::to(Agent::Kubeedge);
        for blow in after.iter().copied().chain([Blow::None; ENOUGH]) {
            go(&mut machine, &mut course, blow);
        }
        prop_assert!(course.reached && course.turned.is_none(), "{course:?}");
        let there = (machine.runs, machine.program, machine.unit);
        prop_assert_eq!(there, (Agent::Kubeedge, Agent::Kubeedge, has_unit.then_some(Agent::Kubeedge)));
    }
}

#[test]
fn a_way_back_that_fails_is_turned_round_and_the_node_keeps_what_works() {
    let mut machine = Machine::new(true, true, false);
    let mut course = Course::to(Agent::Ours);
    while go(&mut machine, &mut course, Blow::None) {}
    assert_eq!((machine.runs, course.reached), (Agent::Ours, true));
    course = Course::to(Agent::Kubeedge);
    while go(&mut machine, &mut course, Blow::None) {}
    assert_eq!((machine.runs, machine.program), (Agent::Ours, Agent::Ours));
    assert!(course.reached && course.turned.is_some());
}

#[test]
fn where_neither_works_it_ends_and_says_so() {
    let mut machine = Machine::new(false, false, false);
    let mut course = Course::to(Agent::Ours);
    let steps = (0..ENOUGH).take_while(|_| go(&mut machine, &mut course, Blow::None)).count();
    assert!(steps < ENOUGH);
    assert_eq!((machine.runs, course.reached), (Agent::Kubeedge, false));
}

#[test]
fn what_fails_before_anything_was_changed_stops_nothing() {
    let mut course = Course::to(Agent::Ours);
    assert!(course.failed(Step::Prepare, "the disk is full"));
    assert!(course.reached && course.wanted == Agent::Kubeedge);
}
