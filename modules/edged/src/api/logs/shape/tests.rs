//! Lines in the runtime's form, cut and chosen.

use proptest::prelude::*;

use super::*;

const LOG: &str = "2026-11-23T04:00:00.5Z stdout F one\n\
        2026-11-23T04:00:01.000000001Z stderr F two\n\
        rubbish\n\
        2026-11-23T04:00:02Z stdout P par\n\
        2026-11-23T04:00:02.1Z stdout F tial\n\
        2026-11-23T04:00:03Z stdout F \n";

fn shaped(options: Options) -> String {
    let (mut shape, mut out) = (Shape::new(options), Vec::new());
    for line in LOG.split_inclusive('\n') {
        shape.take(line.as_bytes(), &mut out);
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn parts_of_a_line_come_as_one() {
    assert_eq!(shaped(Options::default()), "one\ntwo\npartial\n\n");
    let stamped = shaped(Options { timestamps: true, ..Options::default() });
    assert_eq!(
        stamped,
        "2026-11-23T04:00:00.500000000Z one\n2026-11-23T04:00:01.000000001Z two\n\
             2026-11-23T04:00:02.000000000Z partial\n2026-11-23T04:00:03.000000000Z \n"
    );
}

#[test]
fn bounds_and_choices_hold() {
    let since = nanos("2026-11-23T04:00:01Z");
    assert_eq!(shaped(Options { since, ..Options::default() }), "two\npartial\n\n");
    let stream = Some("stderr");
    assert_eq!(shaped(Options { stream, ..Options::default() }), "two\n");
    assert_eq!(shaped(Options { bytes: Some(6), ..Options::default() }), "one\ntw");
    assert_eq!(shaped(Options { tail: Some(1), ..Options::default() }), "one\n");
    assert_eq!(shaped(Options { tail: Some(0), ..Options::default() }), "");
}

proptest! {
    #[test]
    fn no_line_breaks_the_reader_nor_its_bounds(
        lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..8),
        time in "[0-9TZ:.+-]{18,36}", tail in 0..4_u64, bytes in 1..64_usize,
    ) {
        let wanted = Options { timestamps: true, tail: Some(tail), bytes: Some(bytes), ..Options::default() };
        let (mut shape, mut out) = (Shape::new(wanted), Vec::new());
        for line in lines {
            let whole = [time.as_bytes(), b" stdout P:x ", &line, b"\n"].concat();
            shape.take(&line, &mut out);
            shape.take(&whole, &mut out);
        }
        prop_assert!(out.len() <= bytes);
    }
}
