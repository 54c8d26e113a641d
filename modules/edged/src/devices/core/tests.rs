//! Plug-ins that come, list, leave and lie, and pods that want what there is.

use super::*;

fn device(id: &str, health: &str) -> w::Device {
    w::Device { id: id.to_owned(), health: health.to_owned(), topology: None }
}

fn with(devices: &[(&str, &str)]) -> Core {
    let mut core = Core::default();
    core.came("x.org/d", 1).unwrap();
    core.listed("x.org/d", 1, devices.iter().map(|(id, health)| device(id, health)).collect());
    core
}

fn three() -> Core {
    with(&[("a", "Healthy"), ("b", "Healthy"), ("c", "Healthy"), ("bad", "Unhealthy")])
}

fn want(uid: &str, container: &str, count: usize) -> Want {
    let [uid, container] = [uid, container].map(str::to_owned);
    Want { uid, container, resource: "x.org/d".to_owned(), count, before: vec!["init".to_owned()] }
}

fn take(core: &mut Core, want: &Want, preferred: &[&str]) -> Result<String, String> {
    let preferred: Vec<_> = preferred.iter().map(ToString::to_string).collect();
    let ids = core.reserve(want, &preferred).map_err(|lack| lack.why)?;
    if ids.is_some() {
        core.settle(want, Some(w::ContainerAllocateResponse::default()));
    }
    Ok(ids.map_or_else(|| "has".to_owned(), |ids| ids.into_iter().collect()))
}

#[test]
fn nobody_gets_what_another_has_or_what_is_ill() {
    let mut core = three();
    assert_eq!(take(&mut core, &want("p", "c", 2), &["c", "bad", "none"]).as_deref(), Ok("ac"));
    assert_eq!(take(&mut core, &want("p", "c", 2), &[]).as_deref(), Ok("has"));
    assert_eq!(take(&mut core, &want("q", "c", 1), &["a"]).as_deref(), Ok("b"));
    let why = "requested number of devices unavailable for x.org/d. Requested: 1, Available: 0";
    assert_eq!(take(&mut core, &want("r", "c", 1), &[]), Err(why.to_owned()));
    assert!(take(&mut core, &want("p", "c", 1), &[]).unwrap_err().contains("from 2 to 1"));
    assert!(core.release("p") && !core.release("p"));
    assert_eq!(take(&mut core, &want("r", "c", 2), &[]).as_deref(), Ok("ac"));
    assert!(core.retain(&HashSet::from(["q".to_owned()])));
    assert_eq!(core.held.len(), 1);
}

#[test]
fn what_an_init_container_had_is_used_again_in_its_pod() {
    let mut core = three();
    assert_eq!(take(&mut core, &want("p", "init", 2), &[]).as_deref(), Ok("ab"));
    assert_eq!(take(&mut core, &want("p", "one", 1), &["c"]).as_deref(), Ok("a"));
    assert_eq!(take(&mut core, &want("p", "two", 2), &[]).as_deref(), Ok("bc"));
    let none = take(&mut core, &want("q", "c", 1), &[]);
    assert!(none.is_err(), "{none:?}");
}

#[test]
fn a_request_that_was_not_answered_holds_nothing() {
    let mut core = three();
    let all = want("p", "c", 3);
    assert!(core.reserve(&all, &[]).unwrap().is_some());
    assert!(core.reserve(&want("q", "c", 1), &[]).is_err(), "it is being asked for");
    assert_eq!(take(&mut core, &all, &[]).as_deref(), Ok("abc"));
    assert_eq!(core.held.len(), 1);
    let refused = want("q", "c", 1);
    core.release("p");
    assert!(core.reserve(&refused, &[]).unwrap().is_some());
    core.settle(&refused, None);
    assert!(core.held.is_empty());
}

#[test]
fn a_plug_in_that_left_takes_nothing_from_who_has_it() {
    let mut core = three();
    take(&mut core, &want("p", "c", 1), &[]).unwrap();
    core.left("x.org/d", 7, 0);
    assert_eq!(core.resources["x.org/d"].amount(0), (4, 3), "another than the current one left");
    core.left("x.org/d", 1, 1000);
    assert_eq!(core.resources["x.org/d"].amount(1000), (4, 0));
    assert_eq!(core.resources["x.org/d"].amount(1000 + GRACE), (0, 0));
    let lack = core.offer(&want("q", "c", 1)).unwrap_err();
    assert!(lack.why.starts_with("no healthy devices present") && !lack.soon, "{lack:?}");
    assert_eq!(core.of("p", "c").count(), 1);
    core.listed("x.org/d", 1, vec![device("z", "Healthy")]);
    assert_eq!(core.resources["x.org/d"].amount(1000), (4, 0), "who left says nothing any more");
    core.came("x.org/d", 2).unwrap();
    core.listed("x.org/d", 2, vec![device("a", "Healthy"), device("b", "Healthy")]);
    assert_eq!(take(&mut core, &want("q", "c", 1), &[]).as_deref(), Ok("b"));
}

#[test]
fn after_a_restart_who_had_something_has_it_and_others_wait_for_the_plug_in() {
    let mut before = three();
    take(&mut before, &want("p", "c", 1), &[]).unwrap();
    let mut core = Core::new(before.resources.into_keys(), before.held, 5);
    assert_eq!(core.offer(&want("p", "c", 1)), Ok(None));
    assert!(core.offer(&want("q", "c", 1)).unwrap_err().soon);
    core.came("x.org/d", 1).unwrap();
    core.listed("x.org/d", 1, vec![device("a", "Healthy"), device("b", "Healthy")]);
    assert_eq!(take(&mut core, &want("q", "c", 1), &["a"]).as_deref(), Ok("b"));
}

#[test]
fn names_are_domains_and_not_kubernetes_own() {
    for good in ["example.com/gpu", "a/b", "vendor.org/a.b-c_d"] {
        assert!(is_extended(good), "{good}");
    }
    for bad in ["cpu", "kubernetes.io/x", "a.kubernetes.io/x", "/x", "x/", "a/b/c", "-a/b", "a/b c"]
    {
        assert!(!is_extended(bad), "{bad}");
    }
    let mut core = Core::default();
    let came = |core: &mut Core, at: usize| core.came(&format!("x.org/{at}"), 1);
    assert!((0..MAX_RESOURCES).all(|at| came(&mut core, at).is_ok()));
    assert!(came(&mut core, MAX_RESOURCES).is_err());
}
