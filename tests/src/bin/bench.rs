//! `bench [PART...] [-o json|markdown]`: numbers of the shipped binary and of messages between two processes.
//! They mean something in a release build only.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use edgecore_tests::bench::{Part, play, run};

#[expect(clippy::print_stderr, reason = "a program for a terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["play", role, folder] => play(role, Path::new(folder)),
        ref arguments => match parse(arguments) {
            Ok((parts, form)) => measure(&parts, form),
            Err(error) => {
                eprintln!("bench: {error:#}");
                return ExitCode::from(2);
            }
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How the numbers are told.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    Json,
    Markdown,
}

/// Reads the arguments: which parts, and in which form.
fn parse(arguments: &[&str]) -> Result<(Vec<Part>, Form)> {
    let mut parts = Vec::new();
    let mut form = Form::Text;
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        match argument {
            "-o" => match arguments.next() {
                Some(&"json") => form = Form::Json,
                Some(&"text") => form = Form::Text,
                Some(&"markdown") => form = Form::Markdown,
                other => bail!("-o {}, expected text, json or markdown", other.unwrap_or(&"")),
            },
            name => {
                let found = Part::ALL.into_iter().find(|part| part.name() == name);
                let names = Part::ALL.map(Part::name).join(", ");
                parts.push(found.with_context(|| {
                    format!(
                        "unknown part '{name}', expected some of {names}, and -o json or markdown"
                    )
                })?);
            }
        }
    }
    Ok((if parts.is_empty() { Part::ALL.to_vec() } else { parts }, form))
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]
fn measure(parts: &[Part], form: Form) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("bench: this is no release build, its numbers mean little");
    }
    let report = run(parts)?;
    match form {
        Form::Text => print!("{report}"),
        Form::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Form::Markdown => print!("{}", report.to_markdown()),
    }
    Ok(())
}
