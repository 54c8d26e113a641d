//! Tests of the decisions: how clients come and go, who gets what, and that nothing that was
//! acknowledged is lost, whenever the process dies.

#[expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of the words")]
mod behaviour;
mod clock;
#[expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of the words")]
mod histories;
#[expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of the words")]
mod world;
