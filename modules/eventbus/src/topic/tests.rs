//! Topics, filters, and which match.

use proptest::prelude::*;

use super::*;

#[test]
fn filters_take_what_the_standard_says() {
    let taken = [
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("#", "a/b"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("$hw/events/device/+/+/twin/+", "$hw/events/device/default/sensor1/twin/update"),
        ("+/user/#", "default/user/up"),
    ];
    for (filter, topic) in taken {
        assert!(is_filter(filter) && matches(filter, topic), "{filter} {topic}");
    }
    let not_taken = [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("#", "$SYS/monitor"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("$hw/events/device/+/+/twin/+", "$hw/events/device/d/s/twin/update/result"),
    ];
    for (filter, topic) in not_taken {
        assert!(!matches(filter, topic), "{filter} {topic}");
    }
    for filter in ["", "a/#/b", "a#", "a/b+", "\0", &"a/".repeat(200)] {
        assert!(!is_filter(filter), "{filter}");
    }
    for topic in ["", "a/+", "#", "a\0"] {
        assert!(!is_topic(topic), "{topic}");
    }
}

#[test]
fn device_and_node_topics_are_the_twins() {
    assert_eq!(way("$hw/events/device/default/sensor1/twin/get"), Way::Twin);
    assert_eq!(way("$hw/events/node/edge1/membership/get"), Way::Twin);
    for topic in ["$hw/events/upload/x", "SYS/dis/upload_records", "default/up", "$hw/events"] {
        assert_eq!(way(topic), Way::Cloud, "{topic}");
    }
}

proptest! {
    #[test]
    fn a_topic_is_taken_by_itself_and_by_its_wildcards(
        levels in prop::collection::vec("[a-z$]{0,2}", 1..6),
        at in any::<prop::sample::Index>(),
    ) {
        let topic = levels.join("/");
        prop_assume!(is_topic(&topic));
        prop_assert!(matches(&topic, &topic));
        let at = at.index(levels.len());
        let with_plus = levels.iter().enumerate().map(|(place, level)| {
            if place == at { "+" } else { level.as_str() }
        }).collect::<Vec<_>>().join("/");
        let hidden = topic.starts_with('$') && at == 0;
        prop_assert_eq!(matches(&with_plus, &topic), !hidden);
        let with_hash = levels[..at].iter().map(String::as_str).chain(["#"]).collect::<Vec<_>>();
        prop_assert_eq!(matches(&with_hash.join("/"), &topic), !hidden);
    }

    #[test]
    fn a_filter_that_covers_another_takes_what_that_takes(
        wide in "([ab+]/){0,3}([ab+#])", narrow in "([ab+]/){0,3}([ab+#])",
        topic in "([ab]/){0,3}[ab]",
    ) {
        if covers(&wide, &narrow) && matches(&narrow, &topic) {
            prop_assert!(matches(&wide, &topic));
        }
    }

    #[test]
    fn any_two_texts_can_be_compared(filter in ".{0,40}", topic in ".{0,40}") {
        let _either = matches(&filter, &topic);
        let _way = way(&topic);
    }
}
