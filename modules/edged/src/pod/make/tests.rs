//! Tests of what the runtime is told.

use super::*;

fn pod(spec: &str) -> Pod {
    let text =
        format!(r#"{{"metadata":{{"name":"web-0","namespace":"ns","uid":"u-1"}},"spec":{spec}}}"#);
    serde_json::from_str(&text).unwrap()
}

fn settings() -> Settings<'static> {
    Settings {
        host_dns: Dns::parse("nameserver 192.0.2.53\nsearch example.org\noptions rotate\n"),
        cluster_domain: "cluster.local",
        logs: Some(Path::new("/var/log/pods")),
        memory: 1 << 30,
        quota_period: Some(100_000),
        ..Settings::default()
    }
}

#[test]
fn a_plain_pods_sandbox_is_kubelets() {
    let pod = pod(
        r#"{"containers":[{"name":"c","ports":[{"containerPort":80,"hostPort":8080},{"containerPort":81}]}]}"#,
    );
    let sandbox = sandbox(&pod, &settings(), 2, "now");
    assert_eq!(sandbox.hostname, "web-0");
    assert_eq!(sandbox.log_directory, "/var/log/pods/ns_web-0_u-1");
    assert_eq!(sandbox.metadata.map(|metadata| metadata.attempt), Some(2));
    assert_eq!(sandbox.port_mappings.len(), 1);
    assert_eq!(sandbox.labels.get("io.kubernetes.pod.uid").map(String::as_str), Some("u-1"));
    let dns = sandbox.dns_config.unwrap();
    assert_eq!(
        (dns.servers, dns.options),
        (vec!["192.0.2.53".to_owned()], vec!["rotate".to_owned()])
    );
}

#[test]
fn the_cluster_comes_first_and_the_pod_adds_to_it() {
    let pod =
        pod(r#"{"dnsPolicy":"ClusterFirst","dnsConfig":{"nameservers":["10.96.0.10","1.1.1.1"],
        "options":[{"name":"ndots","value":"2"},{"name":"edns0"}]}}"#);
    let servers = ["10.96.0.10".to_owned()];
    let settings = Settings { cluster_dns: &servers, ..settings() };
    let dns = dns(&pod, &settings);
    assert_eq!(dns.servers, ["10.96.0.10", "1.1.1.1"]);
    let searches = ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org"];
    assert_eq!(dns.searches, searches);
    assert_eq!(dns.options, ["ndots:2", "edns0"]);
}

#[test]
fn hosts_files_are_kubelets() {
    let own =
        pod(r#"{"subdomain":"web","hostAliases":[{"ip":"192.0.2.9","hostnames":["a","b"]}]}"#);
    let text = hosts_file(&own, &["10.0.0.5".to_owned()], "cluster.local", "");
    assert!(text.contains("\n10.0.0.5\tweb-0.web.ns.svc.cluster.local\tweb-0\n"), "{text}");
    assert!(text.ends_with("\n# Entries added by HostAliases.\n192.0.2.9\ta\tb\n"), "{text}");
    let host = pod(r#"{"hostNetwork":true}"#);
    let text = hosts_file(&host, &[], "", "127.0.0.1 x\n");
    assert_eq!(text, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 x\n");
}

#[test]
fn the_kernel_is_told_the_full_name_where_the_pod_wants_it() {
    let wants = pod(r#"{"hostname":"h","subdomain":"web","setHostnameAsFQDN":true}"#);
    assert_eq!(kernel_name(&wants, "cluster.local"), "h.web.ns.svc.cluster.local");
    assert_eq!(kernel_name(&wants, ""), "h");
    let plain = pod(r#"{"hostname":"h","subdomain":"web"}"#);
    assert_eq!(kernel_name(&plain, "cluster.local"), "h");
}

#[test]
fn resources_and_quality_follow_requests_and_limits() {
    for (lists, quality_of, quota, adjusted) in [
        ("{}", Quality::BestEffort, 0, 1000),
        (r#"{"limits":{"cpu":"200m","memory":"64Mi"}}"#, Quality::Guaranteed, 20_000, -997),
        (r#"{"requests":{"memory":"512Mi"}}"#, Quality::Burstable, 0, 500),
    ] {
        let pod = pod(&format!(r#"{{"containers":[{{"name":"c","resources":{lists}}}]}}"#));
        assert_eq!(quality(&pod), quality_of);
        let resources = resources(&pod, &pod.spec.containers[0], &settings());
        assert_eq!((resources.cpu_quota, resources.oom_score_adj), (quota, adjusted));
    }
}

#[test]
fn swap_and_huge_pages_are_bounded_where_the_kernel_counts_them() {
    let pod = pod(
        r#"{"containers":[{"name":"c","resources":{"limits":{"memory":"64Mi","hugepages-2Mi":"4Mi"}}}]}"#,
    );
    let of = |kernel: Kernel| {
        resources(&pod, &pod.spec.containers[0], &Settings { kernel, ..settings() })
    };
    let none = of(Kernel::default());
    assert_eq!((none.memory_swap_limit_in_bytes, none.unified.len()), (0, 0));
    assert_eq!(none.hugepage_limits, []);
    let split = of(Kernel { swap: Swap::Split, ..Kernel::default() });
    assert_eq!(split.memory_swap_limit_in_bytes, 64 << 20);
    let size = |name: &str, resource: &str| crate::cgroup::PageSize {
        name: name.to_owned(),
        resource: resource.to_owned(),
    };
    let huge_pages = vec![size("1GB", "hugepages-1Gi"), size("2MB", "hugepages-2Mi")];
    let unified = of(Kernel { huge_pages, swap: Swap::Unified });
    assert_eq!(unified.unified["memory.swap.max"], "0");
    let limits: Vec<_> = unified.hugepage_limits.iter().map(|it| it.limit).collect();
    assert_eq!(limits, [0, 4 << 20], "of what was not asked for there is none");
}

#[test]
fn who_is_killed_first_depends_on_what_was_asked_for() {
    let score = |spec: &str, of_init: bool| {
        let pod = pod(spec);
        let list = if of_init { &pod.spec.init_containers } else { &pod.spec.containers };
        oom_score(&pod, &list[0], 1 << 30)
    };
    let asking = r#"{"name":"c","resources":{"requests":{"memory":"512Mi"}}}"#;
    let beside = format!(
        r#"{{"initContainers":[{{"name":"s","restartPolicy":"Always"}}],"containers":[{asking}]}}"#
    );
    assert_eq!((score(&beside, false), score(&beside, true)), (500, 500));
    let critical = r#"{"priority":2000001000,"priorityClassName":"system-node-critical","containers":[{"name":"c"}]}"#;
    assert_eq!(score(critical, false), -997);
    assert_eq!(score(r#"{"containers":[{"name":"c"}]}"#, false), 1000);
}

#[test]
fn rights_of_the_container_go_before_those_of_the_pod() {
    let pod = pod(r#"{"securityContext":{"runAsUser":1000,"fsGroup":7,"supplementalGroups":[5]},
        "containers":[{"name":"c","securityContext":{"runAsUser":5,"allowPrivilegeEscalation":false,
        "capabilities":{"drop":["ALL"]},"seccompProfile":{"type":"RuntimeDefault"}}},{"name":"d"}]}"#);
    let own = rights::container(&pod, &pod.spec.containers[0], &settings(), String::new());
    assert_eq!(own.run_as_user, Some(rights::number(5)));
    assert_eq!((own.no_new_privs, own.supplemental_groups), (true, vec![5, 7]));
    assert_eq!(own.seccomp.map(|it| it.profile_type), Some(w::ProfileType::RuntimeDefault.into()));
    let other = rights::container(&pod, &pod.spec.containers[1], &settings(), String::new());
    assert_eq!(other.run_as_user, Some(rights::number(1000)));
    assert_eq!(other.masked_paths.len(), rights::MASKED.len());
}

#[test]
fn all_of_the_processes_table_is_seen_where_the_pod_wants_it() {
    let pod = pod(r#"{"containers":[{"name":"c","securityContext":{"procMount":"Unmasked"}},
        {"name":"d","securityContext":{"procMount":"Default"}}]}"#);
    let of = |at: usize| {
        let it = rights::container(&pod, &pod.spec.containers[at], &settings(), String::new());
        (it.masked_paths.is_empty(), it.readonly_paths.is_empty())
    };
    assert_eq!((of(0), of(1)), ((true, true), (false, false)));
}

#[test]
fn profiles_and_labels_are_the_containers_or_the_pods() {
    let pod = pod(
        r#"{"securityContext":{"seLinuxOptions":{"level":"s0:c1"},"appArmorProfile":{"type":"RuntimeDefault"}},
        "containers":[{"name":"c"},{"name":"d","securityContext":{"seLinuxOptions":{"type":"t"},
        "appArmorProfile":{"type":"Localhost","localhostProfile":"web"}}}]}"#,
    );
    let of = |at: usize| {
        let it = rights::container(&pod, &pod.spec.containers[at], &settings(), String::new());
        let label = it.selinux_options.unwrap();
        (label.r#type, label.level, it.apparmor.unwrap())
    };
    let profile = |kind: w::ProfileType, name: &str| w::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: name.to_owned(),
    };
    let own = (String::new(), "s0:c1".to_owned(), profile(w::ProfileType::RuntimeDefault, ""));
    assert_eq!(of(0), own);
    let other = ("t".to_owned(), String::new(), profile(w::ProfileType::Localhost, "web"));
    assert_eq!(of(1), other);
}

#[test]
fn signals_have_the_interfaces_numbers() {
    for (name, number) in [
        ("SIGABRT", 1),
        ("SIGKILL", 13),
        ("SIGTERM", 23),
        ("SIGUSR1", 29),
        ("SIGXFSZ", 34),
        ("SIGRTMIN", 35),
        ("SIGRTMIN+15", 50),
        ("SIGRTMAX-14", 51),
        ("SIGRTMAX", 65),
        ("SIGRTMIN+16", 0),
        ("TERM", 0),
        ("", 0),
    ] {
        assert_eq!(rights::signal(name), number, "{name}");
    }
}

#[test]
fn nobody_becomes_root_who_may_not() {
    let pod = pod(r#"{"securityContext":{"runAsNonRoot":true},"containers":[{"name":"c"}]}"#);
    let image =
        |uid, username: &str| w::Image { uid, username: username.to_owned(), ..Default::default() };
    let check = |image| check_user(&pod, &pod.spec.containers[0], &image);
    assert!(check(image(Some(rights::number(0)), "")).is_err());
    assert!(check(image(None, "")).is_err());
    assert!(check(image(None, "www")).unwrap_err().contains("non-numeric user (www)"));
    assert_eq!(check(image(Some(rights::number(33)), "")), Ok(()));
}
