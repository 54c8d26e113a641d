//! The command line, and the words of the templates.

use super::*;
use crate::screen::Screen;

fn workspace() -> Workspace {
    Workspace::find(&Screen::of_terminal())
}

fn read(line: &str) -> Result<(Plan, bool)> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    plan(&workspace(), &words)
}

#[test]
fn without_arguments_the_release_is_built_and_packed() {
    let (plan, built) = read("").unwrap();
    assert!(!built);
    assert!(plan.programs.ends_with("release"), "{}", plan.programs.display());
    assert!(plan.folder.ends_with("dist"), "{}", plan.folder.display());
    assert_eq!(plan.revision, 1);
}

#[test]
fn programs_of_a_folder_are_not_built() {
    let (plan, built) = read("--bin-dir /a --out /b --revision 7").unwrap();
    assert!(built);
    assert_eq!((plan.programs.as_path(), plan.revision), (Path::new("/a"), 7));
    assert_eq!(plan.folder, Path::new("/b"));
}

#[test]
fn what_means_nothing_is_usage() {
    for line in ["--bin-dir", "--revision one", "--revision -1", "deb"] {
        let error = read(line).unwrap_err();
        assert!(error.is::<Usage>(), "{line}: {error}");
    }
}

#[test]
fn every_template_is_filled_to_the_end() {
    let root = workspace().root.join("packaging");
    let control = ["VERSION", "ARCHITECTURE", "SIZE", "LIBRARIES"].map(|name| (name, "x"));
    let spec = ["VERSION", "REVISION", "STAGE", "FILES", "DATE"].map(|name| (name, "x"));
    for (template, words) in [("deb/control", &control[..]), ("rpm/edgecore.spec", &spec[..])] {
        let text = filled(&root.join(template), words).unwrap();
        let left: Vec<_> = text.lines().filter(|line| line.matches('@').count() > 1).collect();
        assert!(left.is_empty(), "{template}: {left:?}");
    }
}

#[test]
fn a_licence_is_kept_but_for_the_one_that_all_share() {
    let folder = tempfile::tempdir().unwrap();
    let apache = "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION";
    for (name, text) in
        [("LICENSE-APACHE", apache), ("LICENSE-MIT", "Copyright (c) A\n"), ("README", "no")]
    {
        fs::write(folder.path().join(name), text).unwrap();
    }
    assert_eq!(parts::words(folder.path()).unwrap(), ["Copyright (c) A"]);
}

#[test]
fn the_parts_are_what_is_linked_and_each_has_a_licence() {
    let parts = parts::shipped(&workspace()).unwrap();
    let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
    assert!(names.contains(&"rusqlite") && names.contains(&"clap"), "{names:?}");
    assert!(!names.contains(&"proptest"), "only tests use it");
    let silent: Vec<_> = parts.iter().filter(|part| part.licence.is_empty()).collect();
    assert!(silent.is_empty(), "{silent:?}");
}
