//! Claims, and the volumes that they are bound to.

use super::*;

fn claimed(text: &str) -> Claimed {
    serde_json::from_str(text).unwrap()
}

#[test]
fn only_a_bound_claim_has_a_volume() {
    let bound = claimed(r#"{"spec":{"volumeName":"v"},"status":{"phase":"Bound"}}"#);
    assert_eq!(volume_of(&bound), Ok("v"));
    for text in [
        r#"{"spec":{"volumeName":"v"},"status":{"phase":"Lost"}}"#,
        r#"{"status":{"phase":"Pending"}}"#,
    ] {
        assert_eq!(volume_of(&claimed(text)), Err("PVC is not bound"));
    }
    let ending =
        r#"{"metadata":{"deletionTimestamp":"x","finalizers":[F]},"spec":{"volumeName":"v"}}"#;
    let protected = ending.replace('F', "\"kubernetes.io/pvc-protection\"");
    assert_eq!(volume_of(&claimed(&protected)), Ok("v"));
    assert_eq!(volume_of(&claimed(&ending.replace('F', ""))), Err("PVC is being deleted"));
}

#[test]
fn a_volume_outgrows_its_claim() {
    let of = |place: &str, size: &str| {
        claimed(&format!(r#"{{"{place}":{{"capacity":{{"storage":"{size}"}}}}}}"#))
    };
    for (volume, claim, size) in
        [("2Ki", "1Ki", Some(2048)), ("1Ki", "1024", None), ("1Ki", "2Ki", None)]
    {
        assert_eq!(outgrown(&of("spec", volume), &of("status", claim)), size);
    }
    assert_eq!(outgrown(&of("spec", "1Ki"), &claimed("{}")), None);
}

#[test]
fn a_volume_is_a_folder_of_this_node_that_belongs_to_the_claim() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let local = format!(r#"{{"spec":{{"local":{{"path":"{path}"}},"claimRef":{{"uid":"c"}}}}}}"#);
    assert_eq!(path_of("v", &claimed(&local)), Ok(folder.path().to_owned()));
    assert!(check("v", &claimed(&local), "d").unwrap_err().contains("another claim"));
    let host = r#"{"spec":{"hostPath":{"path":"/srv/x"}}}"#;
    assert_eq!(path_of("v", &claimed(host)), Ok("/srv/x".into()));
    for (text, said) in [
        (r#"{"spec":{"local":{"path":"/nowhere/at/all"}}}"#, "is not a directory"),
        (r#"{"spec":{"hostPath":{"path":"x"}}}"#, "expected a full path"),
        (r#"{"spec":{"nfs":{}}}"#, "neither local, hostPath nor csi"),
        (r#"{"spec":{"volumeMode":"Block","local":{"path":"/dev"}}}"#, "is not a block device"),
        (r#"{"spec":{"volumeMode":"Block","hostPath":{"path":"/dev/x"}}}"#, "is a hostPath"),
    ] {
        let why = check("v", &claimed(text), "c")
            .and_then(|()| path_of("v", &claimed(text)))
            .unwrap_err();
        assert!(why.contains(said), "{said} is missing in: {why}");
    }
}
