//! The repository checks itself: what the house rules promise and no compiler sees.
//!
//! Each check is a function over text that returns its complaints, so each has a test that shows it
//! can fail. `the_repository_*` tests run them over the real tree.
#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a failure is the message")]

#[path = "repo/documents.rs"]
pub mod documents;
#[path = "repo/manifests.rs"]
pub mod manifests;
#[path = "repo/sources.rs"]
pub mod sources;

use std::fs;
use std::path::Path;

/// What a check found: one line each, which says where it is and what to do.
pub type Complaints = Vec<String>;

/// A file of the repository.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it stands, from the root, with slashes.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl File {
    /// Makes a file for a test of a check.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Tells whether all of the file is test code.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let tests = |part: &str| part == "tests" || part == "tests.rs";
        // the crate `tests` holds programs too, in its `src`
        let inner = self.path.strip_prefix("tests/minicloud/").or(self.path.strip_prefix("tests/"));
        inner.unwrap_or(&self.path).split('/').any(tests)
    }
}

/// Folders that no check looks into: made by programs, or not ours.
const PASSED_OVER: [&str; 5] = ["target", ".git", "corpus", "artifacts", "proptest-regressions"];

/// Reads every text of the repository, in the order of paths.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    walk(root, "", &mut files);
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let kind = entry.file_type().unwrap();
        let path = format!("{prefix}{name}");
        if kind.is_dir() && !PASSED_OVER.contains(&name.as_str()) {
            walk(&entry.path(), &format!("{path}/"), files);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            files.push(File { path, text });
        }
    }
}

/// Runs a check over all files whose path ends so.
fn check(end: &str, check: impl Fn(&File) -> Complaints) {
    let files = files();
    let chosen = files.iter().filter(|file| file.path.ends_with(end));
    refuse(&chosen.flat_map(check).collect::<Vec<_>>());
}

#[track_caller]
fn refuse(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_repository_depends_one_way() {
    check("Cargo.toml", manifests::direction);
}

#[test]
fn the_repository_says_versions_once_and_lints_everywhere() {
    check("Cargo.toml", manifests::inherits);
}

#[test]
fn the_repository_argues_for_each_dependency() {
    check("Cargo.toml", manifests::few_dependencies);
    check("Cargo.lock", manifests::few_packages);
}

#[test]
fn the_repository_keeps_ipc_proto_free_of_io() {
    check("Cargo.toml", manifests::no_io);
    check(".rs", sources::no_io);
}

#[test]
fn the_repository_has_modules_of_one_shape() {
    refuse(&sources::module_shape(&files()));
}

#[test]
fn the_repository_says_what_each_file_is_for() {
    check(".rs", sources::opening);
}

#[test]
fn the_repository_is_small_enough_to_proofread() {
    check(".rs", sources::short_files);
    check(".rs", sources::short_inline_tests);
    check(".rs", sources::short_functions);
    check("main.rs", sources::short_main);
}

#[test]
fn the_repository_has_no_unsafe() {
    check(".rs", sources::no_unsafe);
}

#[test]
fn the_repository_is_finished() {
    check("", documents::no_leftovers);
}

#[test]
fn the_repository_knows_no_machine_and_no_ticket() {
    check("", documents::no_machine);
    check("", documents::no_ticket);
}

#[test]
fn the_repository_tests_what_its_documents_claim() {
    refuse(&documents::claims(&files()));
    refuse(&documents::conformance(&files()));
}

#[test]
fn the_repository_documents_log_fields_that_there_are() {
    refuse(&documents::log_fields(&files()));
}
