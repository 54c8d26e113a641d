//! `edgectl takeover` and `edgectl rollback`: exchange KubeEdge's own edgecore and this one on a node
//! that works, without its containers noticing.
//!
//! The way is a loop: look, take the next step that [`course`] names, note that it is done. The
//! journal is on the disk before each step; a command that was killed is run again and goes on, or
//! `rollback` goes back from there.

mod checks;
mod containers;
mod course;
mod journal;
mod keeper;
mod place;
mod prepare;
mod rights;
mod verify;

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::cli::{CourseArguments, TakeoverArguments};
use crate::client::Client;
use crate::failure::Failure;
use crate::screen::Screen;
use checks::Checked;
use course::{Agent, Course, Seen, Step};
use journal::{Folder, Journal, Site};

/// Takes a node over.
pub(crate) fn takeover(
    arguments: &TakeoverArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    if arguments.check {
        return check(arguments, client, screen).map(drop);
    }
    let folder = Folder::take(&arguments.course.backup)?;
    let journal = match folder.read()? {
        Some(journal) if !journal.course.reached => {
            writeln!(screen, "going on with what was interrupted")?;
            journal
        }
        Some(Journal { course: Course { wanted: Agent::Ours, .. }, .. }) => {
            let done = "this node was taken over already; 'edgectl rollback' goes back";
            return Err(Failure::Failed(done.to_owned()));
        }
        Some(_) | None => begin(Agent::Ours, check(arguments, client, screen)?)?,
    };
    go(journal, Agent::Ours, &folder, &arguments.course, client, screen)
}

/// Gives a node back that was taken over, or whose takeover was interrupted.
pub(crate) fn rollback(
    arguments: &CourseArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let path = &arguments.backup;
    let none = || Failure::Failed(format!("{} tells of no takeover", path.display()));
    if !path.exists() {
        return Err(none());
    }
    let folder = Folder::take(path)?;
    let journal = folder.read()?.ok_or_else(none)?;
    let journal = match (journal.course.wanted, journal.course.reached) {
        (Agent::Kubeedge, true) => return Err(none()),
        // On the way back already.
        (Agent::Kubeedge, false) => journal,
        (Agent::Ours, true) => begin(Agent::Kubeedge, journal.site)?,
        (Agent::Ours, false) => Journal { course: Course::to(Agent::Kubeedge), ..journal },
    };
    go(journal, Agent::Kubeedge, &folder, arguments, client, screen)
}

/// Says what was found, and fails when something stands in the way.
fn check(
    arguments: &TakeoverArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<Site, Failure> {
    let mut found = Checked::default();
    let site = checks::site(arguments, &mut found)?;
    checks::all(&site, client, &mut found);
    for remark in &found.remarks {
        writeln!(screen, "note: {remark}")?;
    }
    if found.errors.is_empty() {
        return Ok(site);
    }
    Err(Failure::Failed(format!("nothing was changed:\n{}", found.errors.join("\n"))))
}

/// Looks at what runs, for the comparison in the end.
fn begin(wanted: Agent, site: Site) -> Result<Journal, Failure> {
    let all = containers::running(&site.config).map_err(Failure::Failed)?;
    let containers = containers::steady(all);
    Ok(Journal { course: Course::to(wanted), site, containers, boot: verify::boot() })
}

/// Takes steps until there is an end. `asked` is who was to have the node.
fn go(
    mut journal: Journal,
    asked: Agent,
    folder: &Folder,
    arguments: &CourseArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let patience = Duration::from_secs(arguments.timeout.into());
    loop {
        folder.write(&journal)?;
        let Some(step) = journal.course.next(seen(&journal.site)) else { break };
        writeln!(screen, "{}", said(step, &journal))?;
        match take(step, &journal, folder, client, patience) {
            Ok(()) => journal.course.done(step),
            Err(Failure::ReaderGone) => return Err(Failure::ReaderGone),
            Err(failure) => {
                let reason = failure.to_string();
                if !journal.course.failed(step, &reason) {
                    return Err(stuck(&journal, &reason));
                }
                writeln!(screen, "{reason}: going back")?;
            }
        }
    }
    end(&journal, asked, folder, screen)
}

fn seen(site: &Site) -> Seen {
    let program = site.program.holder();
    Seen { program, unit: site.unit.as_ref().and_then(place::Place::holder) }
}

fn take(
    step: Step,
    journal: &Journal,
    folder: &Folder,
    client: &Client,
    patience: Duration,
) -> Result<(), Failure> {
    let site = &journal.site;
    let give = |place: &place::Place, agent| {
        place.give(agent).map_err(|error| {
            Failure::Failed(format!("cannot exchange {}: {error}", place.path.display()))
        })
    };
    match step {
        Step::Prepare => prepare::prepare(folder, site),
        Step::Program(agent) => give(&site.program, agent),
        Step::Unit(agent) => site.unit.as_ref().map_or(Ok(()), |unit| give(unit, agent)),
        Step::Restart => site.keeper.restart(&folder.file("service.log")),
        Step::Verify => verify::verify(journal, client, patience),
    }
}

/// Says what is about to be done.
fn said(step: Step, journal: &Journal) -> String {
    let name = |agent: Agent| agent.name();
    let shown = |path: &Path| path.display().to_string();
    match step {
        Step::Prepare => "copying the database, the configuration and the certificates".to_owned(),
        Step::Program(agent) => {
            format!("{} becomes {}", shown(&journal.site.program.path), name(agent))
        }
        Step::Unit(agent) => {
            let path = journal.site.unit.as_ref().map(|unit| shown(&unit.path));
            let verb = if agent == Agent::Ours { "gives way to the unit" } else { "is again that" };
            format!("{} {verb} of {}", path.unwrap_or_default(), name(agent))
        }
        Step::Restart => "restarting the service".to_owned(),
        Step::Verify => format!("waiting until {} works", name(journal.course.wanted)),
    }
}

/// Neither agent was seen to work.
fn stuck(journal: &Journal, reason: &str) -> Failure {
    let first = journal.course.turned.as_deref().unwrap_or_default();
    let name = journal.course.wanted.name();
    Failure::Failed(format!(
        "{first}; then {reason}. The service starts {name}; run this command again to go on waiting \
         for it"
    ))
}

/// Says what came of it.
fn end(
    journal: &Journal,
    asked: Agent,
    folder: &Folder,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let course = &journal.course;
    if course.wanted == Agent::Kubeedge {
        prepare::undo(&journal.site)?;
    }
    if course.wanted != asked {
        let (reason, name) =
            (course.turned.as_deref().unwrap_or("as asked before"), course.wanted.name());
        return Err(Failure::Failed(format!("{reason}; the node runs {name} as before")));
    }
    let count = journal.containers.len();
    writeln!(screen, "the node runs {}; {count} containers ran on", course.wanted.name())?;
    if course.wanted == Agent::Ours {
        let database = folder.file("edgecore.db");
        writeln!(screen, "copies are beside {}; 'edgectl rollback' goes back", database.display())?;
    }
    Ok(())
}
