//! The table of confinement, to the letter.

use super::*;
use crate::testing::status;

#[test]
fn the_table_shows_what_is_in_force() {
    let expected = "\
NAME      UID  NO-NEW-PRIVS  SECCOMP  LANDLOCK  MEMORY MAX    OPEN FILES  CGROUP           CAPABILITIES
edgehub   996  yes           yes      no        -             1024        -                none
edged     0    yes           yes      no        64M (cgroup)  1024        /edgecore/edged  all
eventbus  -    -             -        -         -             -           -                -
edgemesh  -    -             -        -         -             -           -                -

Not in force:
  no control groups
  edged: the kernel has no Landlock
";
    assert_eq!(text(&status(), Style::PLAIN), expected);
}

#[test]
fn capabilities_have_names() {
    assert_eq!(capabilities(0), "none");
    assert_eq!(capabilities(1 << 10 | 1 << 12), "net_bind_service,net_admin");
    assert_eq!(capabilities(1 << 63), "63");
    assert_eq!(capabilities((1 << 41) - 1), "all");
    assert_eq!(capabilities(((1 << 41) - 1) & !(1 << 24)), "all but sys_resource");
}

#[test]
fn programs_get_a_list_of_names() {
    let sandbox = serde_json::to_value(Sandbox::of(&status())).unwrap();
    let edgehub = &sandbox["modules"][0];
    assert_eq!(edgehub["uid"], 996);
    assert_eq!(edgehub["capabilities"], serde_json::json!([]));
    assert_eq!(sandbox["modules"][2]["capabilities"], serde_json::Value::Null);
    assert_eq!(sandbox["modules"][1]["notInForce"][0], "the kernel has no Landlock");
}
