//! What metaserver reads and hears of the rows of `meta_v2`.

use super::*;
use crate::row::{Fate, Page};

fn page(bench: &mut Bench, of: &str, after: &str, bytes: usize) -> String {
    let page = Page { of: of.into(), after: after.into(), bytes };
    match bench.ask(Question::Page(page)) {
        Ok(Answer::Array(text)) => String::from_utf8(text.into()).unwrap(),
        other => panic!("expected a page, got {other:?}"),
    }
}

#[test]
fn rows_come_in_pages_in_the_order_of_their_keys() {
    let mut bench = Bench::opened();
    let pods = ["c", "a", "b"].map(|it| put(&name(Kind::Pod, it), 1, "{}"));
    bench.commit(pods.into());
    bench.commit(vec![put(&name(Kind::ConfigMap, "a"), 1, "{}")]);
    // A stranger's hand.
    let strange = "INSERT INTO meta_v2 (key, value) VALUES ('/core/v1/pods/ns/bb', 'no JSON')";
    bench.connection().execute_batch(strange).unwrap();
    let of = "/core/v1/pods/";
    let row = |name: &str| format!(r#"["/core/v1/pods/ns/{name}",{{}}]"#);
    let whole = format!(r#"{{"rows":[{},{},{}],"more":false}}"#, row("a"), row("b"), row("c"));
    assert_eq!(page(&mut bench, of, "", 1024), whole);
    let first = format!(r#"{{"rows":[{}],"more":true}}"#, row("a"));
    assert_eq!(page(&mut bench, of, "", 1), first, "one at least");
    let second = format!(r#"{{"rows":[{}],"more":true}}"#, row("b"));
    assert_eq!(page(&mut bench, of, "/core/v1/pods/ns/a", 1), second);
    let one = format!(r#"{{"rows":[{}],"more":false}}"#, row("b"));
    assert_eq!(page(&mut bench, "/core/v1/pods/ns/b", "", 1024), one);
    let none = r#"{"rows":[],"more":false}"#;
    for nothing in ["/core/v1/pods/ns/", "/core/v1/pods/other/", "/core/v1/pods/ns/bc"] {
        let expected = if nothing.ends_with("/ns/") { whole.as_str() } else { none };
        assert_eq!(page(&mut bench, nothing, "", 1024), expected, "{nothing}");
    }
}

#[test]
fn a_commit_tells_what_came_changed_and_went_and_nothing_else() {
    let mut bench = Bench::opened();
    let web = name(Kind::Pod, "web");
    let fates = |committed: &Committed| -> Vec<_> {
        committed.news.iter().map(|news| (news.fate, news.version)).collect()
    };
    let came = bench.commit(vec![put(&web, 5, &pod("u1"))]);
    assert_eq!(fates(&came), [(Fate::Came, 5)]);
    assert_eq!(&*came.news[0].key, "/core/v1/pods/ns/web");
    let rows = |version: u64| web.rows(version, pod("u1").into());
    let newer = bench.commit(vec![Change::Refresh(rows(6)), Change::PutUnlessNewer(rows(4))]);
    assert_eq!(fates(&newer), [(Fate::Changed, 6)], "an old answer changes nothing");
    let other = bench.commit(vec![web.removal("u2".into(), b"")]);
    assert_eq!(fates(&other), [], "another pod ended");
    let went = bench.commit(vec![web.removal("u1".into(), b"")]);
    assert_eq!(fates(&went), [(Fate::Went, 6)]);
    assert_eq!(went.news[0].value, pod("u1"), "what it was last");
    let patch = bench.commit(vec![Change::Put(name(Kind::PodPatch, "web").row("{}".into()))]);
    assert_eq!(fates(&patch), [], "it is no object");
    assert_eq!(fates(&bench.commit(vec![Change::Refresh(rows(7))])), [], "it is gone");
}
