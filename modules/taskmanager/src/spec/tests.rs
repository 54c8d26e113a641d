//! What is taken of a specification, and what is refused of it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn name(api: &str, kind: &str) -> Name {
    let resource = format!("operations.kubeedge.io/{api}/{kind}/j/node/n");
    Name::parse(&resource, "n").unwrap()
}

fn read(api: &str, kind: &str, action: Action, spec: &Value) -> Result<Spec, String> {
    Spec::read(&name(api, kind), action, &spec.to_string())
}

fn upgrade_of(spec: &Value) -> Result<Upgrade, String> {
    let Spec::Upgrade(upgrade) = read("v1alpha2", "nodeupgradejob", Action::Check, spec)? else {
        panic!("no upgrade")
    };
    Ok(upgrade)
}

#[test]
fn an_upgrade_is_read_as_the_cloud_writes_it() {
    let spec = json!({
        "version": "v1.23.1", "timeoutSeconds": 60, "nodeNames": ["n"],
        "image": "kubeedge/installation-package", "imageDigestGatter": {},
        "checkItems": ["cpu", "mem", "disk"], "failureTolerate": "0.1", "concurrency": 1,
        "requireConfirmation": true,
    });
    let upgrade = upgrade_of(&spec).unwrap();
    assert_eq!(upgrade.image, "kubeedge/installation-package:v1.23.1");
    assert_eq!((upgrade.digest, upgrade.confirm, upgrade.patience), (None, true, 30));
    assert_eq!(upgrade.items, [Item::Cpu, Item::Memory, Item::Disk]);
    let digest = format!("sha256:{}", "a1".repeat(32));
    let digests = json!({"amd64": digest, "arm64": digest, "arm": digest});
    let upgrade = upgrade_of(&json!({"version": "v1.0.0", "imageDigestGatter": digests})).unwrap();
    assert_eq!(upgrade.digest, Some(digest));
    let other = json!({"version": "v1.0.0", "imageDigestGatter": {"riscv": "sha256:00"}});
    assert!(upgrade_of(&other).unwrap_err().contains("no digest for"));
}

#[test]
fn an_order_of_the_older_api_is_read_as_the_cloud_writes_it() {
    let order = json!({
        "TaskID": "u", "Type": "upgrade", "State": "Init",
        "Item": {"UpgradeID": "u", "HistoryID": "h", "Version": "v1.20.0", "UpgradeTool": "",
            "Image": "registry.example:5000/kubeedge/installation-package:v1.20.0",
            "ImageDigest": "", "RequireConfirmation": true},
    });
    let Spec::Upgrade(upgrade) = read("v1alpha1", "nodeupgradejob", Action::Init, &order).unwrap()
    else {
        panic!("no upgrade")
    };
    assert_eq!(upgrade.image, "registry.example:5000/kubeedge/installation-package:v1.20.0");
    assert!(upgrade.confirm);
    let look = json!({"State": "Checking", "Item": {"CheckItem": ["mem"]}});
    let look = read("v1alpha1", "imageprepulljob", Action::Check, &look).unwrap();
    assert_eq!(look, Spec::Look(vec![Item::Memory]));
    let pull = json!({"State": "Pulling", "Item": {
        "Images": ["busybox"], "NodeName": "n", "Secret": "default/s", "RetryTimes": 3, "CheckItems": null,
    }});
    let Spec::Prepull(pull) = read("v1alpha1", "imageprepulljob", Action::Pull, &pull).unwrap()
    else {
        panic!("no images")
    };
    assert_eq!(pull.secret, Some(("default".to_owned(), "s".to_owned())));
    assert_eq!((pull.images, pull.retries), (vec!["busybox".to_owned()], 3));
}

/// Texts that a shell, a path or an argument list would make something of (CVE-2026-62371, -62182).
const HOSTILE: &[&str] = &[
    "$(touch /pwned)",
    "`id`",
    "a;reboot",
    "a|sh",
    "a&&b",
    "a\nb",
    "a b",
    "--help",
    "-o",
    "../../etc/passwd",
    "/etc/passwd",
    "a>b",
    "a'b",
    "a\"b",
    "a\\b",
    "a\u{0}b",
    "a\u{202e}b",
    "*",
    "~",
    "",
];

#[test]
fn versions_and_images_that_a_shell_would_run_are_refused() {
    for hostile in HOSTILE {
        for version in
            [(*hostile).to_owned(), format!("v1.2.3{hostile}"), format!("v1.2.3-{hostile}")]
        {
            if version == "v1.2.3" || version == "v1.2.3-o" {
                // These are versions.
                continue;
            }
            let spec = json!({"version": version});
            assert!(upgrade_of(&spec).is_err(), "{version:?}");
            let order = json!({"Item": {"UpgradeID": "u", "Version": version, "Image": "a/b"}});
            let old = read("v1alpha1", "nodeupgradejob", Action::Init, &order);
            assert!(old.is_err(), "{version:?}");
        }
        for image in [(*hostile).to_owned(), format!("a/b{hostile}"), format!("{hostile}/a")] {
            if ["", "a/b", "a/b-o", "a/b--help", "a/b/etc/passwd"].contains(&image.as_str()) {
                // These are none at all, or images.
                continue;
            }
            let spec = json!({"version": "v1.2.3", "image": image});
            assert!(upgrade_of(&spec).is_err(), "{image:?}");
            let order = json!({"Item": {"UpgradeID": "u", "Version": "v1.2.3", "Image": image}});
            let old = read("v1alpha1", "nodeupgradejob", Action::Init, &order);
            assert!(old.is_err(), "{image:?}");
        }
        let sum = json!({"version": "v1.2.3", "imageDigestGatter": {"amd64": hostile, "arm64": hostile, "arm": hostile}});
        assert!(hostile.is_empty() || upgrade_of(&sum).is_err(), "{hostile:?}");
        let secret = json!({"imagePrePullTemplate": {"images": ["a"], "imageSecrets": format!("a/{hostile}")}});
        let secret = read("v1alpha2", "imageprepulljob", Action::Check, &secret);
        assert!(
            secret.is_err() || hostile.bytes().all(|byte| b"-o.help".contains(&byte)),
            "{hostile:?}"
        );
    }
    assert!(upgrade_of(&json!({"version": "v1.2.3", "image": "a/b:v1"})).is_err());
}

fn config_of(fields: &Value) -> Result<Spec, String> {
    read("v1alpha2", "configupdatejob", Action::Check, &json!({"updateFields": fields}))
}

#[test]
fn keys_are_words_and_values_are_one_line() {
    for hostile in HOSTILE {
        let key = format!("modules.edgeHub.{hostile}");
        assert!(config_of(&json!({key: "1"})).is_err(), "{hostile:?}");
    }
    // A value is a text, whatever is in it: it goes to our own program as one argument.
    assert!(config_of(&json!({"modules.edgeHub.token": "$(reboot)"})).is_ok());
    for value in ["a\nb", "a\u{0}b", "a\u{1b}[2J"] {
        assert!(config_of(&json!({"modules.edgeHub.token": value})).is_err(), "{value:?}");
    }
    for own in
        ["modules.taskManager.enable", "modules.TASKMANAGER", "database.dataSource", "modules"]
    {
        assert!(config_of(&json!({own: "1"})).is_err(), "{own}");
    }
    assert!(config_of(&json!({})).is_err());
}

proptest! {
    #[test]
    fn what_is_taken_can_be_nothing_but_what_it_is(version in ".{0,24}", image in ".{0,40}") {
        if let Ok(upgrade) = upgrade_of(&json!({"version": version, "image": image})) {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/@[]".contains(&byte);
            prop_assert!(upgrade.image.bytes().all(plain));
            prop_assert!(!upgrade.image.starts_with('-') && !upgrade.version.starts_with('-'));
            prop_assert!(!upgrade.image.split('/').any(|part| part == ".."));
        }
    }

    #[test]
    fn no_specification_is_too_much(json in ".{0,200}") {
        for api in ["v1alpha1", "v1alpha2"] {
            for (_, kind) in Kind::ALL {
                for action in [Action::Check, Action::Init, Action::Pull] {
                    drop(Spec::read(&name(api, kind), action, &json));
                }
            }
        }
    }
}
