//! Files that are there whole or not at all.

use super::super::payload::File;
use super::*;

fn files(list: &[(&str, &str)]) -> Files {
    let file = |content: &str| File { content: content.into(), mode: 0o640, owner: None };
    list.iter().map(|(path, content)| ((*path).to_owned(), file(content))).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_set_changes_at_once_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("v");
    empty(&volume, None, None).unwrap();
    write(&volume, &files(&[("a", "1"), ("d/b", "2")]), None).unwrap();
    assert_eq!(fs::read_to_string(volume.join("d/b")).unwrap(), "2");
    let first = fs::read_link(volume.join(DATA)).unwrap();
    write(&volume, &files(&[("a", "1"), ("d/b", "2")]), None).unwrap();
    assert_eq!(fs::read_link(volume.join(DATA)).unwrap(), first, "nothing changed");
    write(&volume, &files(&[("a", "3")]), None).unwrap();
    assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "3");
    let second = fs::read_link(volume.join(DATA)).unwrap().display().to_string();
    assert_eq!(names(&volume), [second, DATA.to_owned(), "a".to_owned()]);
    let mode = fs::metadata(volume.join("a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn paths_of_the_host_are_what_they_have_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x/y");
    assert!(check_host_path(&path, "Directory").is_err());
    assert!(check_host_path(&path, "Nonsense").is_err());
    check_host_path(&path, "").unwrap();
    check_host_path(&path, "DirectoryOrCreate").unwrap();
    check_host_path(&path, "Directory").unwrap();
    assert!(check_host_path(&path, "File").unwrap_err().contains("is not a file"));
}

#[test]
fn a_folder_is_removed_whether_it_is_there_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let pod = folder.path().join("pod");
    empty(&pod.join("v"), None, None).unwrap();
    let outside = folder.path().join("keep");
    fs::write(&outside, "kept").unwrap();
    symlink(&outside, pod.join("v/link")).unwrap();
    remove(&pod).unwrap();
    remove(&pod).unwrap();
    assert!(outside.exists() && !pod.exists());
}
