//! The demonstration: a node in a temporary folder that runs a pod of a cloud's and has a device, and whose modules
//! are broken one after another, while process ids and the pod's page show that nothing else notices.

pub(crate) mod cloud;
mod interrupt;
mod node;
mod pod;
mod thermometer;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use private_containerd::{Containerd, Lack};

use crate::screen::Screen;
use crate::workspace::Workspace;
use crate::{Usage, install};
use cloud::Cloud;
use interrupt::{Interrupt, Interrupted};
use node::{Node, Seen};
use pod::Pod;

/// Time to read what was just shown.
const PAUSE: Duration = Duration::from_secs(2);

/// Between two looks at the node; also how exactly a recovery is timed.
const LOOK: Duration = Duration::from_millis(20);

/// More than any fault takes to be found and mended: the demonstration's patience with a silent
/// module is 2 s.
const LIMIT: Duration = Duration::from_secs(20);

/// More than the machine needs to start a pod or to end it.
const LONG_LIMIT: Duration = Duration::from_secs(60);

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
    let screen = workspace.screen;
    screen.heading("build what is shipped, and a cloud");
    workspace.build_shipped()?;
    workspace.run(&mut workspace.cargo("build --release --package minicloud"))?;
    let containerd = containerd(workspace)?;
    let interrupt = Interrupt::listen()?;
    let folder = tempfile::tempdir().context("cannot make a folder for the cloud")?;
    let cloud = Cloud::start(&workspace.release().join("minicloud"), folder.path())?;
    let pods = containerd.as_ref().map(Containerd::path);
    let node = Node::start(&workspace.release(), &cloud, pods)?;
    let stage = Stage { screen, cloud, containerd, node, interrupt };
    let told = stage.tell(stay);
    let ended = end(screen, stage.node);
    match told {
        Err(error) if error.is::<Interrupted>() => ended,
        told => told.and(ended),
    }?;
    what_next(screen);
    Ok(())
}

/// Starts a containerd of the demonstration's own; installs what that needs where it can, and says
/// what is missing where it cannot.
fn containerd(workspace: &Workspace) -> Result<Option<Containerd>> {
    let screen = workspace.screen;
    screen.heading("a private containerd; the host's own is not touched");
    let lacks_program = |lack: &Lack| matches!(lack, Lack::Program(..));
    let mut lacks = private_containerd::lacks();
    if lacks.iter().any(lacks_program) && !lacks.contains(&Lack::Root) {
        install::packages(workspace)?;
        lacks = private_containerd::lacks();
    }
    if !lacks.is_empty() {
        for lack in lacks {
            screen.line(&screen.bad(&format!("this machine lacks {lack}")));
        }
        screen.line("the demonstration goes on without a pod");
        return Ok(None);
    }
    let containerd = Containerd::start()?;
    screen.line(&format!("it listens on {}", containerd.socket().display()));
    Ok(Some(containerd))
}

/// All that takes part.
struct Stage {
    screen: Screen,
    cloud: Cloud,
    containerd: Option<Containerd>,
    node: Node,
    interrupt: Interrupt,
}

impl Stage {
    fn tell(&self, stay: bool) -> Result<()> {
        let Self { screen, cloud, containerd, node, interrupt } = self;
        screen.heading("the node starts: a supervisor and ten modules, a process each");
        screen.command(node.command_line());
        let begin = Instant::now();
        let all_run = |seen: &[Seen]| seen.iter().all(Seen::runs);
        let seen = wait(node, interrupt, "all modules to run", all_run)?;
        screen.line(&format!("all ten run after {}\n", shown(begin.elapsed())));
        show(*screen, node, &["status"])?;
        let pod = match containerd {
            Some(_) => Some(pod::deploy(*screen, cloud, node, interrupt)?),
            None => None,
        };
        thermometer::work(*screen, cloud, node, interrupt)?;
        self.break_modules(seen, pod.as_ref())?;
        screen.heading("the thermometer after all that");
        thermometer::reads(*screen, cloud, (node, interrupt), "26")?;
        interrupt.pause(PAUSE)?;
        screen.heading("what the operator sees");
        show(*screen, node, &["status"])?;
        screen.line("");
        show(*screen, node, &["status", "eventbus"])?;
        if stay {
            screen.heading("the node stays until Ctrl-C; in another terminal:");
            screen.line(&format!("  {} status -w", node.edgectl_line()));
            screen.line(&format!("  {} tap", node.edgectl_line()));
            screen.line(&format!("  curl http://{}/objects?kind=pod", cloud.control));
            interrupt.wait()?;
        }
        match containerd {
            Some(containerd) => pod::delete(*screen, (cloud, containerd), node, interrupt),
            None => Ok(()),
        }
    }

    fn break_modules(&self, mut seen: Vec<Seen>, pod: Option<&Pod>) -> Result<()> {
        let Self { screen, cloud, node, interrupt, .. } = self;
        for (number, scene) in (1..).zip(&SCENES) {
            interrupt.pause(PAUSE)?;
            screen.heading(&format!("{number}. {}", scene.heading));
            let after = play(*screen, node, interrupt, scene, &seen)?;
            seen = others_never_noticed(*screen, scene, &seen, after)?;
            if let Some(pod) = pod {
                pod::untouched(*screen, cloud, pod)?;
            }
        }
        Ok(())
    }
}

/// Breaks one module and waits until it is back.
fn play(
    screen: Screen,
    node: &Node,
    interrupt: &Interrupt,
    scene: &Scene,
    before: &[Seen],
) -> Result<Vec<Seen>> {
    let Scene { module, fault, .. } = scene;
    let broken = of(before, module)?;
    screen.command(&format!("edgectl fault {fault} {module}"));
    let begin = Instant::now();
    node.edgectl(&["fault", fault, module])?;
    let after = wait(node, interrupt, &format!("{module} to be back"), |seen| {
        of(seen, module).is_ok_and(|now| now.runs() && now.pid != broken.pid)
    })?;
    let back = of(&after, module)?;
    screen.line(&format!(
        "  {module}: process {} {}; {} {} after the fault",
        broken.shown_pid(),
        screen.bad(&format!("ended ({})", back.last_exit.as_deref().unwrap_or("no reason known"))),
        screen.good(&format!("process {} is ready", back.shown_pid())),
        shown(begin.elapsed()),
    ));
    Ok(after)
}

/// Shows that all but the scene's module are the processes that they were, with their age. Returns
/// the modules with that age.
fn others_never_noticed(
    screen: Screen,
    scene: &Scene,
    before: &[Seen],
    mut after: Vec<Seen>,
) -> Result<Vec<Seen>> {
    let mut others = Vec::new();
    for now in after.iter_mut().filter(|now| now.name != scene.module) {
        let then = of(before, &now.name)?;
        if now.pid != then.pid {
            bail!("{} changed too: process {:?}, then {:?}", now.name, then.pid, now.pid);
        }
        now.first_seen = then.first_seen;
        let age = now.first_seen.elapsed().as_secs();
        others.push(format!("{:<11} {:>7} {:>4}", now.name, now.shown_pid(), format!("{age}s")));
    }
    screen.line(&format!("  {}, by process id and age:", screen.good("the others never noticed")));
    for line in others.chunks(3) {
        screen.line(&screen.faint(&format!("    {}", line.join("    "))));
    }
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

/// Looks again and again until there is something.
fn wait_for<T>(
    node: &Node,
    interrupt: &Interrupt,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + LONG_LIMIT;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {} for {what}{}", shown(LONG_LIMIT), node.last_words());
        }
        interrupt.pause(LOOK)?;
    }
}

/// Runs edgectl before the user's eyes.
fn show(screen: Screen, node: &Node, arguments: &[&str]) -> Result<()> {
    screen.command(&format!("edgectl {}", arguments.join(" ")));
    node.show(arguments)
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
