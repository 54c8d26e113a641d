//! `chaos --seconds N --seed S`: breaks modules of the shipped binary at random under load. With
//! `--pods N` it is edged alone that is killed, every second, while so many pods come and go; with
//! `--devices` it is whatever devices and messages pass through; with `--whole` it is everything, on a
//! node in use. Ends with 0 when every promise held, 1 when one did not, 2 on wrong usage.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use edgecore_tests::chaos::{Options, devices, pods, run, whole};

/// How long a run takes when nobody says.
const SECONDS: u64 = 30;

/// What is said where the runtime is missing.
const NO_PODS: &str = "chaos: this machine cannot run pods\n";

/// What is broken.
#[derive(Clone, Copy, Debug)]
enum Among {
    Modules,
    Pods(usize),
    Devices,
    Whole,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [play, mapper, socket, edge, device] = &*arguments
        && (play.as_str(), mapper.as_str()) == ("play", "mapper")
    {
        let played = devices::play(Path::new(socket), Path::new(edge), device);
        return ExitCode::from(u8::from(played.is_err()));
    }
    let (options, among) = match parse(arguments.into_iter()) {
        Ok(options) => options,
        Err(reason) => {
            eprintln!(
                "chaos: {reason}; usage: chaos [--seconds N] [--seed S] [--pods N | --devices | --whole]"
            );
            return ExitCode::from(2);
        }
    };
    println!("chaos: {} s with seed {}", options.time.as_secs(), options.seed);
    match among.run(options) {
        Ok((summary, held)) => {
            print!("{summary}");
            ExitCode::from(u8::from(!held))
        }
        Err(error) => {
            eprintln!("chaos: {error:#}; the seed was {}", options.seed);
            ExitCode::FAILURE
        }
    }
}

impl Among {
    /// Runs it; returns what to say, and whether every promise held.
    fn run(self, options: Options) -> Result<(String, bool)> {
        Ok(match self {
            Self::Modules => {
                let summary = run(options)?;
                (summary.to_string(), summary.breaches.is_empty())
            }
            Self::Devices => {
                let own = std::env::current_exe().context("cannot find the running program")?;
                let summary = devices::run(options, &own)?;
                (summary.to_string(), summary.breaches.is_empty())
            }
            Self::Pods(pods) => match pods::run(options, pods)? {
                Some(summary) => (summary.to_string(), summary.breaches.is_empty()),
                None => (NO_PODS.to_owned(), true),
            },
            Self::Whole => match whole::run(options)? {
                Some(summary) => (summary.to_string(), summary.breaches.is_empty()),
                None => (NO_PODS.to_owned(), true),
            },
        })
    }
}

/// Reads the arguments; the seed is drawn from the clock when none is given.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Options, Among), String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut options = Options { time: Duration::from_secs(SECONDS), seed: since.as_secs() };
    let mut among = Among::Modules;
    while let Some(argument) = arguments.next() {
        let chosen = match argument.as_str() {
            "--devices" => Some(Among::Devices),
            "--whole" => Some(Among::Whole),
            _ => None,
        };
        if let Some(chosen) = chosen {
            among = chosen;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
        let number: u64 =
            value.parse().map_err(|_| format!("{argument} is '{value}', expected a number"))?;
        match argument.as_str() {
            "--seconds" => options.time = Duration::from_secs(number),
            "--seed" => options.seed = number,
            "--pods" => {
                among = Among::Pods(usize::try_from(number).map_err(|error| error.to_string())?);
            }
            other => return Err(format!("unknown argument '{other}'")),
        }
    }
    Ok((options, among))
}
