//! The table of numbers.

use std::fmt;

use serde::Serialize;

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
}

/// One thing that was measured several times.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What.
    pub name: String,
    /// In which unit.
    pub unit: &'static str,
    /// The least value.
    pub min: f64,
    /// The value in the middle.
    pub median: f64,
    /// The greatest value.
    pub max: f64,
    /// What it should be, where that was said.
    pub target: Option<&'static str>,
    /// What KubeEdge's own edgecore took on a machine like this, where that was measured.
    pub go: Option<&'static str>,
}

impl Row {
    /// Sums up values, of which there has to be one at least.
    pub(super) fn of(name: impl Into<String>, unit: &'static str, values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (median, max) = (at(sorted.len() / 2), at(sorted.len().saturating_sub(1)));
        Self { name: name.into(), unit, min: at(0), median, max, target: None, go: None }
    }

    /// Says what it should be.
    pub(super) fn target(self, target: &'static str) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Says what KubeEdge's own edgecore took.
    pub(super) fn go(self, go: &'static str) -> Self {
        Self { go: Some(go), ..self }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let heading = ["min", "median", "max"];
        writeln!(f, "{:width$} {:>11} {:>11} {:>11}", "", heading[0], heading[1], heading[2])?;
        for Row { name, unit, min, median: middle, max, target, go } in &self.rows {
            let [min, median, max] = [min, middle, max].map(|value| number(*value));
            write!(f, "{name:width$} {min:>11} {median:>11} {max:>11} {unit}")?;
            if let Some(target) = target {
                write!(f, " (target {target}{})", verdict(*middle, target).unwrap_or_default())?;
            }
            if let Some(go) = go {
                write!(f, " (Go: {go})")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Report {
    /// Writes it as a table for a document.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = String::from(
            "| what | promised | min | median | max | | holds | Go's edgecore |\n|---|---|---|---|---|---|---|---|\n",
        );
        for Row { name, unit, min, median: middle, max, target, go } in &self.rows {
            let [min, median, max] = [min, middle, max].map(|value| number(*value));
            let (promised, go) = (target.unwrap_or_default(), go.unwrap_or_default());
            let holds = match target.map(|target| verdict(*middle, target)) {
                Some(None) => "yes".to_owned(),
                Some(Some(missed)) => format!("no{missed}"),
                None => String::new(),
            };
            text += &format!(
                "| {name} | {promised} | {min} | {median} | {max} | {unit} | {holds} | {go} |\n"
            );
        }
        text
    }
}

/// Tells by how much the value in the middle misses its target, `≤ N`, `≥ N` or `N`; `None` where
/// it holds.
fn verdict(middle: f64, target: &str) -> Option<String> {
    let bound = |text: &str| text.trim().parse::<f64>().unwrap_or(f64::NAN);
    let (holds, bound) = match target.split_once(' ') {
        Some(("≤", rest)) => (middle <= bound(rest), bound(rest)),
        Some(("≥", rest)) => (middle >= bound(rest), bound(rest)),
        _ => ((middle - bound(target)).abs() < f64::EPSILON, bound(target)),
    };
    let percent = (middle / bound - 1.0).abs() * 100.0;
    (!holds).then(|| {
        if percent.is_finite() {
            format!(", missed by {percent:.0} %")
        } else {
            ", missed".to_owned()
        }
    })
}

/// Writes a value with as many digits as say something.
fn number(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_least_middle_and_greatest() {
        let row = Row::of("x", "ms", &[3.0, 1.0, 2.0]);
        assert_eq!([row.min, row.median, row.max], [1.0, 2.0, 3.0]);
        let text = Report { rows: vec![row.target("≤ 5").go("30 ms")] }.to_string();
        assert!(
            text.ends_with("x        1.00        2.00        3.00 ms (target ≤ 5) (Go: 30 ms)\n"),
            "{text}"
        );
    }

    #[test]
    fn a_target_that_is_missed_says_by_how_much() {
        let row = |values: &[f64], target| Row::of("x", "ms", values).target(target);
        let rows = vec![row(&[6.0], "≤ 5"), row(&[0.9], "≥ 0.75"), row(&[1.0], "0")];
        let text = Report { rows }.to_markdown();
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(lines[0], "| x | ≤ 5 | 6.00 | 6.00 | 6.00 | ms | no, missed by 20 % |  |");
        assert_eq!(lines[1], "| x | ≥ 0.75 | 0.90 | 0.90 | 0.90 | ms | yes |  |");
        assert_eq!(lines[2], "| x | 0 | 1.00 | 1.00 | 1.00 | ms | no, missed |  |");
    }
}
