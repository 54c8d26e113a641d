//! `chaos --seconds N --seed S`: breaks modules of the shipped binary at random under load. With
//! `--pods N` it is edged alone that is killed, every second, while so many pods come and go. Ends
//! with 0 when every promise held, 1 when one did not, 2 on wrong usage.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgecore_tests::chaos::{Options, pods, run};

/// How long a run takes when nobody says.
const SECONDS: u64 = 30;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]
fn main() -> ExitCode {
    let (options, pods) = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(reason) => {
            eprintln!("chaos: {reason}; usage: chaos [--seconds N] [--seed S] [--pods N]");
            return ExitCode::from(2);
        }
    };
    println!("chaos: {} s with seed {}", options.time.as_secs(), options.seed);
    let told = match pods {
        None => run(options).map(|summary| (summary.to_string(), summary.breaches.is_empty())),
        Some(pods) => pods::run(options, pods).map(|summary| match summary {
            Some(summary) => (summary.to_string(), summary.breaches.is_empty()),
            None => ("chaos: this machine cannot run pods\n".to_owned(), true),
        }),
    };
    match told {
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

/// Reads the arguments; the seed is drawn from the clock when none is given.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Options, Option<usize>), String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut options = Options { time: Duration::from_secs(SECONDS), seed: since.as_secs() };
    let mut pods = None;
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
        let number: u64 =
            value.parse().map_err(|_| format!("{argument} is '{value}', expected a number"))?;
        match argument.as_str() {
            "--seconds" => options.time = Duration::from_secs(number),
            "--seed" => options.seed = number,
            "--pods" => pods = Some(usize::try_from(number).map_err(|error| error.to_string())?),
            other => return Err(format!("unknown argument '{other}'")),
        }
    }
    Ok((options, pods))
}
