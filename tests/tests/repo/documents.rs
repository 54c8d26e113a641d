//! Checks of everything that is read by people.

use std::collections::BTreeSet;

use super::{Complaints, File};

/// What was recorded from others, or is a program's output or a law's text, is left as it is.
fn is_ours(file: &File) -> bool {
    let recorded = ["/fixtures/", "/seeds/"].iter().any(|part| file.path.contains(part));
    let made = ["Cargo.lock", "LICENSE"].iter().any(|name| file.path.ends_with(name));
    !recorded && !made
}

fn complain(file: &File, wrong: impl Fn(&str) -> Option<String>) -> Complaints {
    if !is_ours(file) {
        return Vec::new();
    }
    let lines = (1..).zip(file.text.lines());
    lines
        .filter_map(|(number, line)| Some(format!("{}:{number}: {}", file.path, wrong(line)?)))
        .collect()
}

/// Work that is left to do stands in no file.
pub fn no_leftovers(file: &File) -> Complaints {
    // in two parts, so that this file passes its own check
    const MARKS: [[&str; 2]; 3] = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]];
    let marks = MARKS.map(|halves| halves.concat());
    complain(file, |line| {
        let word = |mark: &&String| {
            line.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == mark.as_str())
        };
        marks.iter().find(word).map(|mark| format!("{mark}: do it, or leave it out"))
    })
}

/// No text names the machine that it was written on.
pub fn no_machine(file: &File) -> Complaints {
    const FOLDERS: [[&str; 2]; 5] =
        [["/wo", "rk/"], ["/ho", "me/"], ["/ro", "ot/"], ["/Us", "ers/"], ["arti", "factory"]];
    let folders = FOLDERS.map(|halves| halves.concat());
    complain(file, |line| {
        let names = |folder: &&String| line.contains(folder.as_str());
        folders.iter().find(names).map(|folder| format!("{folder} is of one machine: leave it out"))
    })
}

/// No text needs a ticket to be understood. A reference to another project's, which has the
/// project's name before it, is none of ours.
pub fn no_ticket(file: &File) -> Complaints {
    let digits = |text: &str| text.starts_with(|letter: char| letter.is_ascii_digit());
    let word = ["iss", "ue "].concat();
    complain(file, |line| {
        let small = line.to_lowercase();
        let hash = line.match_indices('#').any(|(at, _)| {
            let before = line[..at].chars().next_back();
            digits(&line[at + 1..]) && before.is_none_or(|letter| " ([".contains(letter))
        });
        let named = small.match_indices(&word).any(|(at, _)| digits(&small[at + word.len()..]));
        (hash || named).then(|| "a ticket's number: say what it is about instead".to_owned())
    })
}

/// The tables whose rows are claims that tests hold: where each stands, and its heading.
const CLAIMS: [(&str, &str); 5] = [
    ("docs/architecture.md", "Invariants"),
    ("docs/operations.md", "What the loss of a part means"),
    ("docs/commands.md", "Commands"),
    ("docs/security.md", "Promises"),
    ("docs/security.md", "Findings of others"),
];

/// Every row of these tables names tests at its end, as `file.rs::function`, that exist.
pub fn claims(files: &[File]) -> Complaints {
    CLAIMS.into_iter().flat_map(|(path, heading)| table(path, heading, files)).collect()
}

fn table(path: &str, heading: &str, files: &[File]) -> Complaints {
    let text = files.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let section = text.split("\n## ").find(|section| section.starts_with(heading));
    let rows = section.unwrap_or_default().lines().filter(|line| line.starts_with('|')).skip(2);
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return vec![format!("{path}: no table under '## {heading}'")];
    }
    rows.flat_map(|row| claim(path, row, files)).collect()
}

fn claim(path: &str, row: &str, files: &[File]) -> Complaints {
    let tests = named(row);
    if tests.is_empty() {
        return vec![format!("{path}: no 'file.rs::function' at the end of: {row}")];
    }
    missing(path, tests, files)
}

/// Where Kubernetes' specs are listed.
const CONFORMANCE: &str = "docs/conformance.md";

/// The tests that the list of Kubernetes' specs names exist.
pub fn conformance(files: &[File]) -> Complaints {
    let text = files.iter().find(|file| file.path == CONFORMANCE).map_or("", |file| &file.text);
    let rows = text.lines().filter(|line| line.starts_with('|'));
    missing(CONFORMANCE, rows.flat_map(named).collect(), files)
}

/// Returns the tests that the last column of a row names, by file and function.
fn named(row: &str) -> Vec<(String, String)> {
    let last = row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or_default();
    let named = |word: &str| {
        let (file, function) = word.trim_matches('`').split_once("::")?;
        file.ends_with(".rs").then(|| (file.to_owned(), function.to_owned()))
    };
    last.split(|letter: char| letter.is_whitespace() || letter == ',').filter_map(named).collect()
}

fn missing(document: &str, tests: Vec<(String, String)>, files: &[File]) -> Complaints {
    tests
        .into_iter()
        .filter(|(name, function)| !exists(files, name, function))
        .map(|(name, function)| format!("{document}: there is no test {name}::{function}"))
        .collect()
}

fn exists(files: &[File], name: &str, function: &str) -> bool {
    let function = function.rsplit("::").next().unwrap_or(function);
    let wanted = format!("fn {function}(");
    files.iter().any(|file| {
        let here = file.path == name || file.path.ends_with(&format!("/{name}"));
        here && file.text.contains(&wanted)
    })
}

/// Where the fields of log lines are documented, and the line before their table.
const FIELDS: (&str, &str) = ("docs/observability.md", "The fields that an operator meets:");

/// Every field of log lines that is documented stands in a line that some module writes.
pub fn log_fields(files: &[File]) -> Complaints {
    let (path, before) = FIELDS;
    let text = files.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let table = text.split_once(before).map_or("", |(_, table)| table);
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let names: Vec<_> = rows.flat_map(|row| quoted(row.split('|').nth(1).unwrap_or(""))).collect();
    if names.is_empty() {
        return vec![format!("{path}: no table behind '{before}'")];
    }
    let modules = files.iter().filter(|file| file.path.starts_with("modules/"));
    let written: BTreeSet<_> = modules.filter(|it| !it.is_test()).flat_map(fields_of).collect();
    names
        .into_iter()
        .filter(|name| !written.contains(*name))
        .map(|name| format!("{path}: no line of a log has a field {name}"))
        .collect()
}

/// Returns what stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the fields of the log lines that a file writes: what stands before the text of each.
fn fields_of(file: &File) -> Vec<&str> {
    let mut fields = Vec::new();
    for level in ["error!(", "warn!(", "info!(", "debug!(", "trace!("] {
        for (at, _) in file.text.match_indices(level) {
            let rest = &file.text[at + level.len()..];
            let head = rest.split('"').next().unwrap_or_default();
            fields.extend(head.split(',').map(|part| {
                let part = part.split('=').next().unwrap_or_default().trim();
                part.trim_start_matches(['%', '?'])
            }));
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> File {
        File::new("docs/x.md", line)
    }

    #[test]
    fn leftovers_are_found_as_words() {
        let mark = ["TO", "DO"].concat();
        assert_eq!(no_leftovers(&text(&format!("// {mark}: later"))).len(), 1);
        assert_eq!(no_leftovers(&text(&format!("{mark}NE"))), [""; 0]);
    }

    #[test]
    fn folders_of_a_machine_are_found() {
        let folder = ["/ho", "me/"].concat();
        assert_eq!(no_machine(&text(&format!("see {folder}ann/edge"))).len(), 1);
        assert_eq!(no_machine(&text("see /etc/kubeedge")), [""; 0]);
        let recorded = File::new("tests/fixtures/x.json", &folder);
        assert_eq!(no_machine(&recorded), [""; 0]);
    }

    #[test]
    fn tickets_are_found_and_other_projects_and_tables_are_not() {
        let hash = '#';
        for line in [format!("see {hash}12"), format!("({hash}3)"), ["see Iss", "ue 4"].concat()] {
            assert_eq!(no_ticket(&text(&line)).len(), 1, "{line}");
        }
        for line in [format!("postcard{hash}223"), format!("| {hash} | what |"), "## 3".to_owned()]
        {
            assert_eq!(no_ticket(&text(&line)), [""; 0], "{line}");
        }
    }

    #[test]
    fn a_claim_without_a_test_that_exists_is_found() {
        let look = |row: &str| {
            let (path, heading) = CLAIMS[0];
            let text = format!("# A\n\n## {heading}\n\n| # | what | test |\n|---|---|---|\n{row}");
            let test = File::new("tests/tests/kill.rs", "#[test]\nfn it_lives() {}\n");
            table(path, heading, &[File::new(path, &text), test])
        };
        assert_eq!(look("| 1 | it lives | `kill.rs::it_lives` |\n"), [""; 0]);
        assert_eq!(
            look("| 1 | it lives | `tests/kill.rs::it_lives`, `kill.rs::it_lives` |"),
            [""; 0]
        );
        assert_eq!(look("| 1 | it lives | `kill.rs::it_dies` |").len(), 1);
        assert_eq!(look("| 1 | it lives | by hand |").len(), 1);
        assert_eq!(look("").len(), 1);
    }

    #[test]
    fn a_field_that_no_line_has_is_found() {
        let look = |name: &str| {
            let (path, before) = FIELDS;
            let text =
                format!("{before}\n\n| name | what |\n|---|---|\n| `peer`, `{name}` | x |\n");
            let code = "warn!(peer = %it, ?pod, \"a line with fields\");";
            log_fields(&[File::new(path, &text), File::new("modules/x/src/lib.rs", code)])
        };
        assert_eq!(look("pod"), [""; 0]);
        assert_eq!(look("line").len(), 1);
        assert_eq!(log_fields(&[]).len(), 1);
    }
}
