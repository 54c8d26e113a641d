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
mod tests;
