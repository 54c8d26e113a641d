//! Places and notes of volumes.

use super::*;

fn spot(root: &Path, uid: &str, name: &str, handle: &str, is_device: bool) -> Spot {
    Spot::new((root, uid), (name, "d.org", handle), is_device)
}

#[test]
fn names_are_kubelets() {
    let name = attachment("vol", "driver", "node");
    assert_eq!(name, format!("csi-{}", sum("voldrivernode")));
    assert_eq!(sum(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let mounted = spot(Path::new("/r"), "u", "pv", "h", false);
    let staged = mounted.staged.display().to_string();
    assert!(staged.starts_with("/r/plugins/kubernetes.io/csi/d.org/"), "{staged}");
    assert!(staged.ends_with("/globalmount"), "{staged}");
    let published = "/r/pods/u/volumes/kubernetes.io~csi/pv/mount";
    assert_eq!(mounted.target, Path::new(published));
    let device = spot(Path::new("/r"), "u", "pv", "h", true);
    let all = "/r/plugins/kubernetes.io/csi/volumeDevices";
    assert_eq!(device.staged, Path::new(&format!("{all}/staging/pv")));
    assert_eq!(device.target, Path::new(&format!("{all}/publish/pv/u")));
    assert_eq!(device.noted, Path::new(&format!("{all}/pv/data")));
}

#[test]
fn who_else_has_a_volume_is_known_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let of = |handle: &str| Note {
        handle: handle.to_owned(),
        driver: "d.org".to_owned(),
        ..Note::default()
    };
    for (is_device, handle) in [(false, "h"), (true, "i")] {
        let [one, two, three] = ["one", "two", "three"].map(|it| format!("{it}-{handle}"));
        let note = of(handle);
        let others = |uid: &str| has_others(root, uid, &note).unwrap();
        spot(root, &one, "pv", handle, is_device).note(&note).unwrap();
        spot(root, &two, "other", "j", is_device).note(&of("j")).unwrap();
        assert_eq!(of_pod(root, &one).unwrap().remove(0).1, note);
        assert!(!others(&one));
        let third = spot(root, &three, "pv", handle, is_device);
        third.note(&note).unwrap();
        assert!(others(&one));
        third.remove().unwrap();
        assert_eq!(of_pod(root, &three).unwrap(), []);
        assert!(others(&three), "the first has it still");
        for (spot, _) in of_pod(root, &one).unwrap() {
            spot.remove().unwrap();
            spot.remove_shared().unwrap();
        }
        assert!(!others(&three));
    }
    assert_eq!(of_pod(root, "none").unwrap(), []);
}
