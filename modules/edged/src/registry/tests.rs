//! Credentials, and the images that they are for.

use super::*;

#[test]
fn the_credentials_of_the_images_registry_are_found() {
    let auth = BASE64.encode(b"user:pa:ss");
    let text = format!(
        r#"{{"auths":{{"registry.example:5000":{{"auth":"{auth}"}},
            "https://index.docker.io/v1/":{{"username":"hub","password":"x"}}}}}}"#
    );
    let secret = Entries::from([(".dockerconfigjson".to_owned(), text.into_bytes())]);
    let user = |image| {
        let found = credentials(&secret, image);
        found.first().map(|it| (it.username.clone(), it.password.clone()))
    };
    let pair = |user: &str, word: &str| Some((user.to_owned(), word.to_owned()));
    assert_eq!(user("registry.example:5000/a/b:1"), pair("user", "pa:ss"));
    assert_eq!(user("library/busybox"), pair("hub", "x"));
    assert_eq!(user("busybox@sha256:0"), pair("hub", "x"));
    assert_eq!(user("other.example/a"), None);
}

#[test]
fn names_of_images_are_known_from_others() {
    let sum = "0".repeat(64);
    for good in [
        "busybox",
        "busybox:1.36",
        "a/b/c:latest",
        "registry.example:5000/a_b/c-d.e:V1",
        "localhost/x",
        "127.0.0.1:5000/x",
        &format!("x@sha256:{sum}"),
        &format!("x:1@sha256:{sum}"),
    ] {
        assert!(is_reference(good), "{good}");
    }
    for bad in
        ["", "Busybox", "a b", "x:", "x:-1", "/x", "x/", "a//b", "x@sha256:1", "$(A)", "../x", "-x"]
    {
        assert!(!is_reference(bad), "{bad}");
    }
}

#[test]
fn places_are_matched_as_kubelet_does() {
    for (server, image, fit) in [
        ("registry.example", "registry.example/a/b:1", true),
        ("https://registry.example/v2/", "registry.example/a:1", true),
        ("registry.example", "registry.example:5000/a", false),
        ("registry.example:5000", "registry.example:5000/a", true),
        ("*.example", "registry.example/a", true),
        ("*.example", "a.registry.example/a", false),
        ("reg?stry.ex*e", "registry.example/a", true),
        ("registry.example/team", "registry.example/team/a", true),
        ("registry.example/team", "registry.example/other/a", false),
        ("registry.example/v2/team", "registry.example/team/a", true),
        ("docker.io", "busybox", true),
        ("docker.io/library", "busybox:1", true),
        ("localhost:1", "localhost:1/a", true),
    ] {
        assert_eq!(fits(&place(server), &repository(image)), fit, "{server} {image}");
    }
}

#[test]
fn the_longest_place_comes_first_and_broken_secrets_have_none() {
    let text = br#"{"r.example":{"username":"a"},"r.example/x":{"username":"b"}}"#.to_vec();
    let secret = Entries::from([(".dockercfg".to_owned(), text)]);
    let users: Vec<_> =
        credentials(&secret, "r.example/x/y").into_iter().map(|it| it.username).collect();
    assert_eq!(users, ["b", "a"]);
    for broken in ["", "[]", "{\"auths\":{\"r.example\":{\"auth\":\"%\"}}}"] {
        let secret = Entries::from([(".dockerconfigjson".to_owned(), broken.into())]);
        assert_eq!(credentials(&secret, "r.example/x"), []);
    }
}

#[test]
fn a_place_of_many_stars_is_compared_at_once() {
    let (place, host) = ("*a".repeat(64) + "b", "a".repeat(255));
    assert!(!fits(&place, &format!("{host}/x")));
    assert!(fits(&"*a".repeat(64), &format!("{host}/x")));
    assert!(fits("**", "x/y"));
    assert!(!fits("?*x", "x/y"));
}
