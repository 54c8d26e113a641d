//! Topics and filters: what may be one, and which go together.

/// The longest topic or filter, in bytes: what a packet can carry.
const MAX: usize = 65_535;

/// Levels of a filter or topic, at most: matching costs as much.
const MAX_LEVELS: usize = 128;

/// Tells whether a text can be published on.
#[must_use]
pub fn is_topic(text: &str) -> bool {
    fits(text) && !text.contains(['+', '#'])
}

/// Tells whether a text can be subscribed to: `+` stands alone in its level, `#` alone in the last.
#[must_use]
pub fn is_filter(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    let mut good = fits(text);
    while let Some(level) = levels.next() {
        good &= match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            level => !level.contains(['+', '#']),
        };
    }
    good
}

fn fits(text: &str) -> bool {
    (1..=MAX).contains(&text.len())
        && !text.contains('\0')
        && text.bytes().filter(|byte| *byte == b'/').count() < MAX_LEVELS
}

/// Tells whether a filter takes a topic. Wildcards at the start take no topic that begins with `$`.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            // `a/#` takes `a` too.
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Tells whether `wide` takes every topic that `narrow` takes.
#[must_use]
pub fn covers(wide: &str, narrow: &str) -> bool {
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Where a message goes that the node itself takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To devicetwin.
    Twin,
    /// To the cloud's router.
    Cloud,
}

/// The filters that the node itself subscribes to, at any time (WIRE.md §8.1).
pub const OWN: [&str; 6] = [
    "$hw/events/upload/#",
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/node/+/membership/get",
    "SYS/dis/upload_records",
    "+/user/#",
];

/// Chooses the way of a message that came by one of the node's subscriptions.
#[must_use]
pub fn way(topic: &str) -> Way {
    let mut levels = topic.split('/');
    match (levels.next(), levels.next(), levels.next(), levels.next()) {
        (Some("$hw"), Some("events"), Some("device" | "node"), Some(_)) => Way::Twin,
        _ => Way::Cloud,
    }
}

#[cfg(test)]
mod tests {
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
}
