//! Checks of everything that is read by people.

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

/// Where the invariants stand.
const ARCHITECTURE: &str = "docs/architecture.md";

/// Every row of the table under "Invariants" names tests, as `file.rs::function`, that exist.
pub fn invariants(files: &[File]) -> Complaints {
    let text = files.iter().find(|file| file.path == ARCHITECTURE).map_or("", |file| &file.text);
    let section = text.split("\n## ").find(|section| section.starts_with("Invariants"));
    let rows = section.unwrap_or_default().lines().filter(|line| line.starts_with('|')).skip(2);
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return vec![format!("{ARCHITECTURE}: no table of invariants under '## Invariants'")];
    }
    rows.flat_map(|row| invariant(row, files)).collect()
}

fn invariant(row: &str, files: &[File]) -> Complaints {
    let last = row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or_default();
    let named = |word: &str| {
        let (file, function) = word.trim_matches('`').split_once("::")?;
        file.ends_with(".rs").then(|| (file.to_owned(), function.to_owned()))
    };
    let tests: Vec<_> = last
        .split(|letter: char| letter.is_whitespace() || letter == ',')
        .filter_map(named)
        .collect();
    if tests.is_empty() {
        return vec![format!("{ARCHITECTURE}: no 'file.rs::function' at the end of: {row}")];
    }
    tests
        .into_iter()
        .filter(|(name, function)| !exists(files, name, function))
        .map(|(name, function)| format!("{ARCHITECTURE}: there is no test {name}::{function}"))
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
    fn an_invariant_without_a_test_that_exists_is_found() {
        let look = |row: &str| {
            let table =
                format!("# A\n\n## Invariants\n\n| # | what | test |\n|---|---|---|\n{row}");
            let test = File::new("tests/tests/kill.rs", "#[test]\nfn it_lives() {}\n");
            invariants(&[File::new(ARCHITECTURE, &table), test])
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
}
