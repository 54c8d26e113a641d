//! `edgectl doctor`: looks at all that a node needs, and says what to do about what is wrong.

mod checks;
mod facts;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::path::Path;

pub(crate) use checks::{Finding, Level};

use crate::cli::DoctorArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::screen::{Paint, Screen, harmless};

/// Looks, and fails when something is wrong.
pub(crate) fn run(
    arguments: &DoctorArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let findings = findings(&arguments.file.config, client);
    if arguments.json() {
        screen.json(&serde_json::json!({ "findings": findings }))?;
    } else {
        for finding in &findings {
            show(finding, screen)?;
        }
    }
    match findings.iter().filter(|finding| finding.level == Level::Error).count() {
        0 => Ok(()),
        1 => Err(Failure::Failed("one thing is wrong".to_owned())),
        count => Err(Failure::Failed(format!("{count} things are wrong"))),
    }
}

/// Looks at everything, and judges it.
pub(crate) fn findings(config: &Path, client: &Client) -> Vec<Finding> {
    checks::all(&facts::gather(config, client))
}

fn show(finding: &Finding, screen: &mut Screen) -> Result<(), Failure> {
    let (paint, word) = match finding.level {
        Level::Ok => (Paint::Good, "ok     "),
        Level::Warning => (Paint::Fair, "warning"),
        Level::Error => (Paint::Bad, "error  "),
    };
    let word = screen.style().paint(paint, word).into_owned();
    writeln!(screen, "{word}  {}: {}", finding.check, harmless(&finding.found))?;
    if !finding.advice.is_empty() {
        writeln!(screen, "         {}", finding.advice)?;
    }
    Ok(())
}
