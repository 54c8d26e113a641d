//! What ConfigMaps and Secrets put into files.

use super::*;

fn files_of(volume: &str) -> Result<Vec<(String, String, u32)>, String> {
    let text = format!(
        r#"{{"metadata":{{"name":"p","namespace":"ns","labels":{{"a":"1","b":"2"}}}},
            "spec":{{"containers":[{{"name":"c"}}],"volumes":[{volume}]}}}}"#
    );
    let pod: Pod = serde_json::from_str(&text).unwrap();
    let volume = &pod.spec.volumes[0];
    let entries = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect())
    };
    let found = Found::from([
        ("configmap/m".to_owned(), entries(&[("x", "1"), ("y", "2")])),
        ("secret/s".to_owned(), entries(&[("../up", "1")])),
    ]);
    let tokens = Tokens::from([((String::new(), 3607), "T".to_owned())]);
    let files = files(&pod, volume, &Facts::default(), &found, &tokens)?.unwrap_or_default();
    let text = |file: File| (String::from_utf8(file.content).unwrap(), file.mode);
    Ok(files
        .into_iter()
        .map(|(path, file)| (path, text(file)))
        .map(|(p, (c, m))| (p, c, m))
        .collect())
}

fn file(path: &str, content: &str, mode: u32) -> (String, String, u32) {
    (path.to_owned(), content.to_owned(), mode)
}

#[test]
fn a_config_map_is_its_entries_or_the_chosen_ones() {
    let all = files_of(r#"{"name":"v","configMap":{"name":"m"}}"#);
    assert_eq!(all, Ok(vec![file("x", "1", 0o644), file("y", "2", 0o644)]));
    let one = r#"{"name":"v","configMap":{"name":"m","defaultMode":256,"items":[{"key":"x","path":"d/f"}]}}"#;
    assert_eq!(files_of(one), Ok(vec![file("d/f", "1", 0o400)]));
}

#[test]
fn what_is_missing_or_leads_out_is_refused() {
    for (volume, said) in [
        (r#"{"name":"v","configMap":{"name":"gone"}}"#, "configmap \"gone\" not found"),
        (
            r#"{"name":"v","configMap":{"name":"m","items":[{"key":"q","path":"f"}]}}"#,
            "references non-existent configmap key: q",
        ),
        (r#"{"name":"v","secret":{"secretName":"s"}}"#, "'../up' is no path inside a volume"),
        (
            r#"{"name":"v","configMap":{"name":"m","items":[{"key":"x","path":"/etc/x"}]}}"#,
            "'/etc/x' is no path inside a volume",
        ),
    ] {
        assert_eq!(files_of(volume), Err(said.to_owned()));
    }
    assert_eq!(files_of(r#"{"name":"v","configMap":{"name":"gone","optional":true}}"#), Ok(vec![]));
}

#[test]
fn a_token_is_for_the_only_user_or_the_group_or_for_everyone() {
    let volume: Volume = serde_json::from_str(
            r#"{"name":"v","projected":{"defaultMode":292,"sources":[{"serviceAccountToken":{"path":"t"}}]}}"#,
        )
        .unwrap();
    let tokens = Tokens::from([((String::new(), TOKEN_LIFE), "T".to_owned())]);
    for (spec, mode, owner) in [
        (r#"{"containers":[{}]}"#, 0o444, None),
        (r#"{"containers":[{}],"securityContext":{"fsGroup":7}}"#, 0o600, None),
        (r#"{"containers":[{},{}],"securityContext":{"runAsUser":5}}"#, 0o600, Some(5)),
        (
            r#"{"containers":[{},{"securityContext":{"runAsUser":6}}],"securityContext":{"runAsUser":5}}"#,
            0o444,
            None,
        ),
    ] {
        let pod: Pod = serde_json::from_str(&format!(r#"{{"spec":{spec}}}"#)).unwrap();
        let found = Found::new();
        let files = files(&pod, &volume, &Facts::default(), &found, &tokens).unwrap().unwrap();
        assert_eq!((files["t"].mode, files["t"].owner), (mode, owner), "{spec}");
    }
}

#[test]
fn of_two_files_of_one_path_the_later_counts() {
    let volume = r#"{"name":"v","projected":{"sources":[
            {"configMap":{"name":"m","items":[{"key":"x","path":"f"}]}},
            {"configMap":{"name":"m","items":[{"key":"y","path":"f","mode":256}]}},
            {"configMap":{"name":"gone","optional":true}},
            {"configMap":{"name":"m","optional":true,"items":[{"key":"q","path":"g"}]}}]}}"#;
    assert_eq!(files_of(volume), Ok(vec![file("f", "2", 0o400)]));
}

#[test]
fn a_projected_volume_has_all_its_sources() {
    let volume = r#"{"name":"v","projected":{"sources":[
            {"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},
            {"configMap":{"name":"m","items":[{"key":"x","path":"ca.crt"}]}},
            {"downwardAPI":{"items":[{"path":"labels","fieldRef":{"fieldPath":"metadata.labels"}}]}}]}}"#;
    let expected = vec![
        file("ca.crt", "1", 0o644),
        file("labels", "a=\"1\"\nb=\"2\"", 0o644),
        file("token", "T", 0o644),
    ];
    assert_eq!(files_of(volume), Ok(expected));
}
