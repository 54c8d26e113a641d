//! What a run of chaos came to, for people.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use ipc_proto::Module;

use super::Options;
use crate::traffic::Tally;

/// How often each module died.
pub type Deaths = BTreeMap<Module, u64>;

/// How long modules were away, in microseconds, by kind of death.
pub type Recoveries = BTreeMap<&'static str, Histogram<u64>>;

/// What a run came to.
#[derive(Debug)]
pub struct Summary {
    /// What was asked for.
    pub options: Options,
    /// How often each module was made to die.
    pub deaths: Deaths,
    /// Blows that fell.
    pub blows: u64,
    /// Blows that did not, because their victim was down already.
    pub passed_over: u64,
    /// From the blow to the next process being ready, the time to notice the death included.
    pub recoveries: Recoveries,
    /// The messages.
    pub tally: Tally,
    /// Promises that did not hold.
    pub breaches: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { options, deaths, blows, passed_over, recoveries, tally, breaches } = self;
        let Options { time, seed } = options;
        writeln!(f, "chaos: {} s, seed {seed}", time.as_secs())?;
        writeln!(f, "blows: {blows}, passed over {passed_over} on modules that were down")?;
        let total: u64 = deaths.values().sum();
        write!(f, "kills: {total}")?;
        for (module, count) in deaths {
            write!(f, ", {module} {count}")?;
        }
        writeln!(f)?;
        recoveries.iter().try_for_each(|(kind, took)| recovery(f, kind, took))?;
        let Tally { sent, settled, arrived, repeated, lost, out_of_order, double, .. } = tally;
        writeln!(
            f,
            "messages: sent={sent} arrived={arrived} settled={settled} repeated={repeated} \
             lost={lost} out-of-order={out_of_order} double={double} refused={}",
            tally.refused
        )?;
        let Tally { asked, answered, unanswered, .. } = tally;
        writeln!(f, "requests: sent={asked} answered={answered} ended with a reason={unanswered}")?;
        for breach in breaches {
            writeln!(f, "BREACH: {breach}")?;
        }
        if !breaches.is_empty() {
            let seconds = time.as_secs();
            writeln!(f, "again: cargo xtask chaos --seconds {seconds} --seed {seed}")?;
        }
        Ok(())
    }
}

/// Writes the line of one kind of death.
fn recovery(f: &mut fmt::Formatter<'_>, kind: &str, took: &Histogram<u64>) -> fmt::Result {
    let millis = |quantile| {
        let micros = took.value_at_quantile(quantile);
        format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
    };
    let (half, most, all) = (millis(0.5), millis(0.99), millis(1.0));
    writeln!(f, "{kind} to ready: p50 {half}, p99 {most}, max {all} ({} times)", took.len())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_breach_is_told_with_the_way_to_repeat_it() {
        let mut crashes = Histogram::new(3).expect("3 digits are allowed");
        crashes.record(12_345).expect("the histogram grows");
        let summary = Summary {
            options: Options { time: Duration::from_secs(30), seed: 7 },
            deaths: Deaths::from([(Module::Edged, 3)]),
            blows: 4,
            passed_over: 1,
            recoveries: Recoveries::from([("crash", crashes)]),
            tally: Tally { sent: 10, lost: 1, ..Tally::default() },
            breaches: vec!["lost".into()],
        };
        let text = summary.to_string();
        for part in [
            "kills: 3, edged 3",
            "crash to ready: p50 12.3 ms",
            "sent=10",
            "lost=1",
            "cargo xtask chaos --seconds 30 --seed 7",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
