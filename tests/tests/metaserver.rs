//! The node's local Kubernetes API, as its clients see it: with the cloud and without, and while
//! modules are killed.

#[path = "metaserver/place.rs"]
mod place;

use std::io::Read as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::cloud::NODE;
use edgecore_tests::rig::privilege::had_or_skip;
use edgecore_tests::rig::{SOON, process, wait_until};
use ipc_proto::Module;
use place::{Informer, Place, pod, version};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

#[test]
fn objects_are_listed_and_selected_with_the_cloud_and_without() -> Result<()> {
    let place = Place::new()?;
    place.pod("web", "shop")?;
    place.pod("db", "store")?;
    for linked in [true, false] {
        if !linked {
            place.rig.demand(&stop(Module::Edgehub))?;
        }
        let api = place.api;
        let list = api.json("/api/v1/pods")?;
        assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("PodList"), &json!("v1")));
        assert_eq!(names(&list), ["db", "web"]);
        for (query, expected) in [
            ("labelSelector=app%3Dshop", vec!["web"]),
            ("labelSelector=app%20in%20(shop,store)", vec!["db", "web"]),
            ("fieldSelector=metadata.name%3Ddb", vec!["db"]),
            ("fieldSelector=spec.nodeName!%3Dedge1", vec![]),
            ("limit=1", vec!["db", "web"]),
        ] {
            let list = api.json(&format!("{PODS}?{query}"))?;
            assert_eq!(names(&list), expected, "{query}");
        }
        assert_eq!(names(&api.json("/api/v1/namespaces/other/pods")?), [""; 0]);
        let web = api.json(&format!("{PODS}/web"))?;
        assert_eq!((&web["kind"], &web["spec"]["nodeName"]), (&json!("Pod"), &json!(NODE)));
        assert_eq!(api.json(&format!("/api/v1/nodes/{NODE}"))?["kind"], "Node");
        for path in ["/version", "/apis", "/api/v1", "/apis/apps/v1", "/openapi/v3/api/v1"] {
            ensure!(api.json(path)?.is_object(), "{path}");
        }
        // The cloud answers these in protobuf.
        assert_eq!(api.json("/api")?["versions"], json!(["v1"]));
        assert_eq!(api.json("/apis/apps")?["preferredVersion"]["groupVersion"], "apps/v1");
        assert_eq!(api.get("/openapi/v3/none")?.code, 404);
        for path in ["/healthz", "/livez", "/readyz"] {
            assert_eq!(api.get(path)?.body, "ok", "{path}");
        }
        let missing = api.get(&format!("{PODS}/none"))?;
        assert_eq!((missing.code, &missing.json()?["reason"]), (404, &json!("NotFound")));
    }
    Ok(())
}

fn stop(module: Module) -> ipc_proto::control::Request {
    ipc_proto::control::Request::Stop { modules: vec![module] }
}

#[test]
fn people_get_tables_and_metadata_clients_get_metadata() -> Result<()> {
    let place = Place::new()?;
    place.pod("web", "shop")?;
    let ask = |form: &str| {
        let accept = format!("Accept: application/json;as={form};v=v1;g=meta.k8s.io\r\n");
        place.api.ask("GET", PODS, &accept, "")?.json()
    };
    let table = ask("Table")?;
    let columns: Vec<_> = table["columnDefinitions"]
        .as_array()
        .context("columns")?
        .iter()
        .filter(|column| column["priority"] == 0)
        .filter_map(|column| column["name"].as_str())
        .collect();
    assert_eq!(columns, ["Name", "Ready", "Status", "Restarts", "Age"]);
    let row = &table["rows"][0];
    assert_eq!((&row["cells"][0], &row["cells"][1]), (&json!("web"), &json!("0/1")));
    assert_eq!(row["object"]["metadata"]["name"], "web");
    let metadata = ask("PartialObjectMetadataList")?;
    assert_eq!(names(&metadata), ["web"]);
    assert!(metadata["items"][0]["spec"].is_null());
    let protobuf = "Accept: application/vnd.kubernetes.protobuf\r\n";
    assert_eq!(place.api.ask("GET", PODS, protobuf, "")?.code, 406);
    Ok(())
}

#[test]
fn a_watch_tells_what_there_is_then_what_changes() -> Result<()> {
    let place = Place::new()?;
    place.pod("web", "shop")?;
    let path = format!(
        "{PODS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true\
        &resourceVersionMatch=NotOlderThan"
    );
    let mut all = place.api.watch(&path)?;
    assert_eq!(all.word()?, "ADDED web");
    let (kind, mark) = all.next()?.context("a bookmark")?;
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let mut shop = place.api.watch(&format!("{PODS}?watch=true&labelSelector=app%3Dshop"))?;
    assert_eq!(shop.word()?, "ADDED web");
    place.pod("db", "store")?;
    all.wait("ADDED db")?;
    place.pod("web", "moved")?;
    all.wait("MODIFIED web")?;
    shop.wait("DELETED web")?;
    place.pod("db", "shop")?;
    shop.wait("ADDED db")?;
    Ok(())
}

#[test]
fn a_watch_goes_on_where_a_list_or_an_event_left_it_and_says_when_it_cannot() -> Result<()> {
    let place = Place::new()?;
    place.pod("a", "x")?;
    let list = version(&place.api.json(PODS)?)?;
    place.pod("b", "x")?;
    let from = |version: &str| format!("{PODS}?watch=true&resourceVersion={version}");
    let mut watch = place.api.watch(&from(&list))?;
    let (kind, event) = watch.next()?.context("an event")?;
    assert_eq!((kind.as_str(), &event["metadata"]["name"]), ("ADDED", &json!("b")));
    place.pod("c", "x")?;
    place.api.watch(&from(&version(&event)?))?.wait("ADDED c")?;
    for unknown in ["1", "999999999999", "1000000000000001"] {
        let mut watch = place.api.watch(&from(unknown))?;
        let (kind, status) = watch.next()?.context("an event")?;
        assert_eq!((kind.as_str(), &status["code"]), ("ERROR", &json!(410)), "{unknown}");
        assert_eq!(watch.next()?, None);
    }
    assert_eq!(place.api.get(&from("x"))?.code, 400);
    Ok(())
}

#[test]
fn watches_outlive_the_cloud_and_the_modules_behind_them() -> Result<()> {
    let place = Place::new()?;
    place.pod("first", "x")?;
    let mut watch = place.api.watch(&format!("{PODS}?watch=true"))?;
    assert_eq!(watch.word()?, "ADDED first");
    place.kill(Module::Metamanager)?;
    place.pod("after-metamanager", "x")?;
    watch.wait("ADDED after-metamanager")?;
    place.kill(Module::Edgehub)?;
    place.pod("after-edgehub", "x")?;
    watch.wait("ADDED after-edgehub")?;
    place.cloud.fault(minicloud::fault::Fault::Restart { down_millis: 100 })?;
    place.pod("after-cloudcore", "x")?;
    watch.wait("ADDED after-cloudcore")
}

#[test]
fn an_informer_has_everything_in_the_end_whatever_is_killed() -> Result<()> {
    let place = Place::new()?;
    place.pod("p0", "x")?;
    let mut informer = Informer::new(place.api, PODS);
    informer.until("the first list", |objects| objects.contains_key("p0"))?;
    for (number, module) in
        [Module::Metaserver, Module::Metamanager, Module::Edgehub, Module::Metaserver]
            .into_iter()
            .enumerate()
    {
        place.kill(module)?;
        let name = format!("p{}", number + 1);
        place.cloud.apply(pod(&name, "x"))?;
        informer.until(&format!("{name} after {module} was killed"), |objects| {
            objects.contains_key(&name)
        })?;
    }
    assert_eq!(informer.objects.len(), 5);
    Ok(())
}

#[test]
fn a_watch_that_begins_while_changes_are_under_way_misses_none() -> Result<()> {
    let place = Place::new()?;
    for number in 0..100 {
        let mut informer = Informer::new(place.api, PODS);
        let name = format!("p{number}");
        place.cloud.apply(pod(&name, "x"))?;
        informer.until(&name, |objects| objects.contains_key(&name))?;
    }
    Ok(())
}

#[test]
fn what_is_changed_here_is_changed_in_the_cluster() -> Result<()> {
    let place = Place::new()?;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "from-edge", "namespace": "default"}, "data": {"k": "v1"}});
    let json_type = "Content-Type: application/json\r\n";
    let created = place.api.ask("POST", maps, json_type, &map.to_string())?;
    assert_eq!(created.code, 201, "{}", created.body);
    let one = format!("{maps}/from-edge");
    let merge = "Content-Type: application/merge-patch+json\r\n";
    let patched = place.api.ask("PATCH", &one, merge, r#"{"data":{"k":"v2"}}"#)?.json()?;
    assert_eq!(patched["data"]["k"], "v2");
    ensure!(names(&place.api.json(maps)?).contains(&"from-edge"));
    let mut updated = place.api.json(&one)?;
    updated["data"]["k"] = "v3".into();
    let reply = place.api.ask("PUT", &one, json_type, &updated.to_string())?;
    assert_eq!(reply.json()?["data"]["k"], "v3");
    let gone = place.api.ask("DELETE", &one, "", "")?;
    assert_eq!(gone.code, 200, "{}", gone.body);
    assert_eq!(place.api.get(&one)?.code, 404);
    for (headers, body, code) in [
        (json_type, "[]", 400),
        (json_type, "{", 400),
        ("Content-Type: application/yaml\r\n", "a: b", 415),
    ] {
        assert_eq!(place.api.ask("POST", maps, headers, body)?.code, code, "{body}");
    }
    assert_eq!(place.api.ask("DELETE", maps, "", "")?.code, 501);
    Ok(())
}

#[test]
fn what_the_cloud_watches_for_the_node_goes_on_after_it_was_started_again() -> Result<()> {
    let place = Place::new()?;
    let map = |name: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default"}, "data": {"k": "v"}})
    };
    place.cloud.apply(map("before"))?;
    let maps = "/api/v1/namespaces/default/configmaps";
    let mut watch = place.api.watch(&format!("{maps}?watch=true"))?;
    watch.wait("ADDED before")?;
    let session = place.cloud.session()?;
    let again = place.cloud.next_session(session);
    place.cloud.fault(minicloud::fault::Fault::Restart { down_millis: 100 })?;
    again.done()?;
    place.cloud.apply(map("after"))?;
    watch.wait("ADDED after")?;
    place.rig.demand(&stop(Module::Edgehub))?;
    wait_until("the store answers without the cloud", SOON, || {
        let list = place.api.json(maps).unwrap_or_default();
        ["after", "before"].iter().all(|name| names(&list).contains(name))
    })
}

#[test]
fn without_the_cloud_its_answers_are_missed_with_a_reason() -> Result<()> {
    let place = Place::new()?;
    place.rig.demand(&stop(Module::Edgehub))?;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"metadata": {"name": "m"}}).to_string();
    for (method, path, body) in [
        ("POST", maps, map.as_str()),
        ("GET", maps, ""),
        ("GET", "/apis/example.org/v1/gadgets", ""),
        ("GET", "/api/v1/namespaces/default/configmaps/m", ""),
        ("DELETE", "/api/v1/namespaces/default/pods/x", ""),
    ] {
        wait_until("it is told that the cloud is away", SOON, || {
            place.api.ask(method, path, "", body).is_ok_and(|reply| reply.code == 503)
        })?;
        let status = place.api.ask(method, path, "", body)?.json()?;
        assert_eq!(
            (&status["kind"], &status["reason"]),
            (&json!("Status"), &json!("ServiceUnavailable"))
        );
        let message = status["message"].as_str().unwrap_or_default();
        ensure!(message.contains("needs the cloud, which is not connected"), "{message}");
    }
    Ok(())
}

#[test]
fn a_list_of_5000_pods_takes_the_memory_of_a_page() -> Result<()> {
    let place = Place::with_pods(5000)?;
    let pid = place.rig.pid_of(Module::Metaserver)?;
    let anonymous = || -> Result<u64> {
        let text = process::status_field(pid, "RssAnon")?;
        Ok(text.trim_end_matches("kB").trim().parse::<u64>()?)
    };
    let before = anonymous()?;
    let mut list = place.api.stream(PODS)?;
    let (mut text, mut most) = (Vec::new(), before);
    // Who reads slowly is waited for.
    while list.by_ref().take(1 << 20).read_to_end(&mut text)? > 0 {
        most = most.max(anonymous()?);
    }
    let grown = most - before;
    ensure!(text.len() > 10 << 20, "the list has {} bytes", text.len());
    ensure!(grown < 4096, "the process grew by {grown} KiB for a list of {} bytes", text.len());
    let parsed: Value = serde_json::from_slice(&text)?;
    assert_eq!(names(&parsed).len(), 5000);
    Ok(())
}

#[test]
fn a_stock_kubectl_works() -> Result<()> {
    let found = Command::new("kubectl").args(["version", "--client"]).output();
    if !had_or_skip(found.is_ok_and(|output| output.status.success()), "kubectl")? {
        return Ok(());
    }
    let place = Place::new()?;
    let mut web = pod("web", "shop");
    web["status"] = json!({"conditions": [{"type": "example.org/open", "status": "True"}]});
    place.cloud.apply(web)?;
    place.pod("web", "shop")?;
    let home = tempfile::tempdir()?;
    let kubectl = |arguments: &[&str]| -> Result<String> {
        let server = format!("http://127.0.0.1:{}", place.api.port);
        let output = Command::new("kubectl")
            .args(["--server", &server, "--cache-dir"])
            .arg(home.path())
            .args(arguments)
            .env("HOME", home.path())
            .env_remove("KUBECONFIG")
            .output()?;
        let said = String::from_utf8(output.stdout)?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "kubectl {arguments:?}: {said}{error}");
        Ok(said)
    };
    for linked in [true, false] {
        if !linked {
            place.rig.demand(&stop(Module::Edgehub))?;
        }
        let pods = kubectl(&["get", "po", "-o", "wide"])?;
        let row: Vec<_> = pods.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        assert_eq!(row.first(), Some(&"web"), "{pods}");
        ensure!(pods.starts_with("NAME") && pods.contains(NODE), "{pods}");
        assert_eq!(kubectl(&["get", "pods", "-l", "app=shop", "-o", "name"])?, "pod/web\n");
        let name = kubectl(&["get", "pod", "web", "-o", "jsonpath={.metadata.name}"])?;
        assert_eq!(name, "web");
        ensure!(kubectl(&["get", "nodes"])?.contains(NODE));
        ensure!(kubectl(&["describe", "pod", "web"])?.contains("Node:"));
        let waited = ["wait", "pod/web", "--for=condition=example.org/open", "--timeout=20s"];
        ensure!(kubectl(&waited)?.contains("condition met"));
    }
    Ok(())
}
