//! Places that change hands, interrupted in between.

use super::*;

fn place(folder: &Path, links: bool) -> Place {
    let (path, ours) = (folder.join("edgecore"), folder.join("ours"));
    fs::write(&path, "theirs").unwrap();
    fs::write(&ours, "ours").unwrap();
    Place { path, ours: links.then_some(ours) }
}

#[test]
fn a_place_changes_hands_and_back_as_often_as_one_likes() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), true);
    let inode = place.path.metadata().unwrap().ino();
    for _ in 0..2 {
        assert_eq!(place.holder(), Some(Agent::Kubeedge));
        // interrupted before the second rename, it is begun again
        place.keep().unwrap();
        place.give(Agent::Ours).unwrap();
        assert_eq!(place.holder(), Some(Agent::Ours));
        place.give(Agent::Ours).unwrap();
        assert_eq!(fs::read_to_string(&place.path).unwrap(), "ours");
        assert_eq!(fs::read_to_string(place.aside()).unwrap(), "theirs");
        place.give(Agent::Kubeedge).unwrap();
        assert_eq!(place.path.metadata().unwrap().ino(), inode, "it is the very file");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

#[test]
fn a_unit_gives_way_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), false);
    for _ in 0..2 {
        assert_eq!(place.holder(), Some(Agent::Kubeedge));
        for _ in 0..2 {
            place.give(Agent::Ours).unwrap();
            assert_eq!((place.holder(), place.path.exists()), (Some(Agent::Ours), false));
        }
        place.give(Agent::Kubeedge).unwrap();
        assert_eq!(fs::read_to_string(&place.path).unwrap(), "theirs");
    }
}

#[test]
fn what_an_upgrade_of_kubeedge_put_there_is_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), true);
    fs::write(place.aside(), "older").unwrap();
    place.give(Agent::Ours).unwrap();
    place.give(Agent::Kubeedge).unwrap();
    assert_eq!(fs::read_to_string(&place.path).unwrap(), "theirs");
}

#[test]
fn without_kubeedge_s_file_the_place_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), true);
    place.give(Agent::Ours).unwrap();
    fs::remove_file(place.aside()).unwrap();
    assert!(place.give(Agent::Kubeedge).is_err());
    assert_eq!(place.holder(), Some(Agent::Ours));
}
