//! The demonstration: a node in a temporary folder whose modules are broken one after another,
//! while the kernel's process ids show that the others never notice.

mod interrupt;
mod node;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Usage;
use crate::screen::Screen;
use crate::workspace::Workspace;
use interrupt::{Interrupt, Interrupted};
use node::{Node, Seen};

/// Time to read what was just shown.
const PAUSE: Duration = Duration::from_secs(2);

/// Between two looks at the node; also how exactly a recovery is timed.
const LOOK: Duration = Duration::from_millis(20);

/// More than any fault takes to be found and mended: the demonstration's patience with a silent
/// module is 2 s.
const LIMIT: Duration = Duration::from_secs(20);

/// A fault in one module, and what to tell about it.
struct Scene {
    module: &'static str,
    fault: &'static str,
    heading: &'static str,
}

const SCENES: [Scene; 5] = [
    Scene { module: "edged", fault: "kill", heading: "edged is killed (SIGKILL)" },
    Scene { module: "eventbus", fault: "panic", heading: "eventbus breaks an invariant (panic)" },
    Scene {
        module: "metamanager",
        fault: "stop",
        heading: "metamanager freezes (SIGSTOP): found by its missing beats",
    },
    Scene { module: "devicetwin", fault: "oom", heading: "devicetwin takes all the memory it may" },
    Scene {
        module: "edgehub",
        fault: "kill",
        heading: "edgehub, the cloud link itself, is killed",
    },
];

/// Runs the demonstration; Ctrl-C ends it cleanly at any point.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let stay = match arguments {
        [] => false,
        [option] if option == "--stay" => true,
        [other, ..] => bail!(Usage(format!("unknown argument '{other}', expected --stay"))),
    };
    workspace.screen.heading("build what is shipped");
    workspace.build_shipped()?;
    let interrupt = Interrupt::listen()?;
    let node = Node::start(&workspace.release())?;
    let told = tell(workspace.screen, &node, &interrupt, stay);
    let ended = end(workspace.screen, node);
    match told {
        Err(error) if error.is::<Interrupted>() => ended,
        told => told.and(ended),
    }?;
    what_next(workspace.screen);
    Ok(())
}

fn tell(screen: Screen, node: &Node, interrupt: &Interrupt, stay: bool) -> Result<()> {
    screen.heading("the node starts: a supervisor and ten modules, a process each");
    screen.command(node.command_line());
    let begin = Instant::now();
    let all_run = |seen: &[Seen]| seen.iter().all(Seen::runs);
    let first = wait(node, interrupt, "all modules to run", all_run)?;
    screen.line(&format!("all ten run after {}\n", shown(begin.elapsed())));
    show_status(screen, node)?;
    let up = Instant::now();
    let mut before = first;
    for (number, scene) in (1..).zip(&SCENES) {
        interrupt.pause(PAUSE)?;
        screen.heading(&format!("{number}. {}", scene.heading));
        before = play(screen, node, interrupt, scene, &before, up)?;
    }
    interrupt.pause(PAUSE)?;
    screen.heading("what the operator sees");
    show_status(screen, node)?;
    if stay {
        screen.heading("the node stays until Ctrl-C; in another terminal:");
        screen.line(&format!("  {} status -w", node.edgectl_line()));
        screen.line(&format!("  {} tap", node.edgectl_line()));
        interrupt.wait()?;
    }
    Ok(())
}

/// Breaks one module, waits until it is back, and shows that nobody else changed.
fn play(
    screen: Screen,
    node: &Node,
    interrupt: &Interrupt,
    scene: &Scene,
    before: &[Seen],
    up: Instant,
) -> Result<Vec<Seen>> {
    screen.command(&format!("edgectl fault {} {}", scene.fault, scene.module));
    let broken = of(before, scene.module)?;
    let begin = Instant::now();
    node.edgectl(&["fault", scene.fault, scene.module])?;
    let what = format!("{} to be back", scene.module);
    let after = wait(node, interrupt, &what, |seen| {
        of(seen, scene.module).is_ok_and(|now| now.runs() && now.pid != broken.pid)
    })?;
    let took = begin.elapsed();
    let back = of(&after, scene.module)?;
    screen.line(&format!(
        "  {:<12} process {} ended ({}); {} is ready {} after the fault",
        screen.bad(scene.module),
        broken.shown_pid(),
        back.last_exit.as_deref().unwrap_or("no reason known"),
        screen.good(&format!("process {}", back.shown_pid())),
        shown(took),
    ));
    let others = after.iter().filter(|now| now.name != scene.module);
    let mut line = String::from(" ");
    for now in others {
        let then = of(before, &now.name)?;
        if now.pid != then.pid {
            bail!("{} changed too: process {:?}, then {:?}", now.name, then.pid, now.pid);
        }
        line.push_str(&format!(" {} {}", now.name, now.shown_pid()));
    }
    screen.line(&format!(
        "  {}, up {}:",
        screen.good("the same processes as before"),
        shown(up.elapsed())
    ));
    screen.line(&screen.faint(&line));
    Ok(after)
}

fn of<'a>(seen: &'a [Seen], module: &str) -> Result<&'a Seen> {
    seen.iter()
        .find(|one| one.name == module)
        .with_context(|| format!("edgectl status does not show {module}"))
}

/// Looks at the node until it is as wanted.
fn wait(
    node: &Node,
    interrupt: &Interrupt,
    what: &str,
    wanted: impl Fn(&[Seen]) -> bool,
) -> Result<Vec<Seen>> {
    let end = Instant::now() + LIMIT;
    loop {
        let outcome = node.look();
        match outcome {
            Ok(seen) if wanted(&seen) => return Ok(seen),
            Ok(_) | Err(_) if Instant::now() < end => {}
            Ok(_) => bail!("waited {} for {what}{}", shown(LIMIT), node.last_words()),
            Err(error) => {
                let context = format!("waited {} for {what}{}", shown(LIMIT), node.last_words());
                return Err(error.context(context));
            }
        }
        interrupt.pause(LOOK)?;
    }
}

fn show_status(screen: Screen, node: &Node) -> Result<()> {
    screen.command("edgectl status");
    node.show(&["status"])
}

fn end(screen: Screen, node: Node) -> Result<()> {
    screen.heading("the node ends");
    let begin = Instant::now();
    node.stop()?;
    screen.line(&format!("SIGTERM: every process gone after {}", shown(begin.elapsed())));
    Ok(())
}

fn what_next(screen: Screen) {
    screen.heading("what to try next");
    screen.line(
        "  cargo xtask demo --stay       the same, and the node stays for edgectl's other commands:
                                status -w, tap, logs, restart, sandbox, fault
  cargo xtask chaos --seconds 30 --seed 7
                                modules killed at random under load: lost=0
  cargo xtask ci                everything that must hold before a change goes in
  docs/architecture.md          how it works",
    );
}

/// Writes a duration with the digits that matter.
fn shown(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
