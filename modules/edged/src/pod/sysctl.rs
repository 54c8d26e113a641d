//! Which settings of the kernel a pod may have: those that are its own and touch no other pod, and
//! those that the operator lets it have beyond (`allowedUnsafeSysctls`). Pure.

use super::spec::Spec;

/// What a setting belongs to, as kubelet calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Realm {
    Ipc,
    Net,
}

/// The settings that every pod may have. The kernel keeps the last ones apart since 5.0 at the
/// latest.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The settings of communication between processes, beside those below `fs.mqueue`.
const IPC: [&str; 10] = [
    "kernel.sem",
    "kernel.shm",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.msg",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
];

/// Writes a setting's name with points between its parts, whichever of the two ways it came in.
pub(crate) fn plain(name: &str) -> String {
    if name.find(['.', '/']).and_then(|at| name.get(at..=at)) != Some("/") {
        return name.to_owned();
    }
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

fn realm(name: &str) -> Option<Realm> {
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return Some(Realm::Ipc);
    }
    name.starts_with("net.").then_some(Realm::Net)
}

/// Checks a pattern of the configuration: a name, or the beginning of names and `*`.
///
/// # Errors
/// What it is, and what was expected.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    let name = plain(pattern);
    let name = name.split('*').next().unwrap_or_default();
    if realm(name).is_some() {
        return Ok(());
    }
    Err(format!(
        "allowedUnsafeSysctls has '{pattern}', expected one of kernel.shm*, kernel.msg*, kernel.sem, \
         fs.mqueue.* or net.*"
    ))
}

/// Tells why a pod may not have a setting that it asks for.
///
/// # Errors
/// Which, in kubelet's words.
pub(crate) fn allowed(spec: &Spec, patterns: &[String]) -> Result<(), String> {
    let asked = spec.security_context.iter().flat_map(|security| &security.sysctls);
    for name in asked.map(|sysctl| plain(&sysctl.name)) {
        let fits = |pattern: &String| {
            let pattern = plain(pattern);
            match pattern.split_once('*') {
                Some((begin, _)) => name.starts_with(begin).then(|| realm(begin)),
                None => (pattern == name).then(|| realm(&name)),
            }
        };
        let safe = SAFE.contains(&name.as_str()).then(|| realm(&name));
        let Some(realm) = safe.or_else(|| patterns.iter().find_map(fits)) else {
            return Err(format!("forbidden sysctl: \"{name}\" not allowlisted"));
        };
        let shared = match realm {
            Some(Realm::Ipc) if spec.host_ipc => "IPC",
            Some(Realm::Net) if spec.host_network => "Net",
            _ => continue,
        };
        return Err(format!("forbidden sysctl: \"{name}\" not allowed with host {shared} enabled"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(name: &str, more: &serde_json::Value, patterns: &[&str]) -> String {
        let mut spec = json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec: Spec = serde_json::from_value(spec).unwrap();
        let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        allowed(&spec, &patterns).err().unwrap_or_default()
    }

    #[test]
    fn what_touches_other_pods_is_the_operators_to_allow() {
        let none = json!({});
        assert_eq!(asked("kernel.shm_rmid_forced", &none, &[]), "");
        assert_eq!(asked("net/ipv4/tcp_syncookies", &none, &[]), "");
        let said = "forbidden sysctl: \"kernel.msgmax\" not allowlisted";
        assert_eq!(asked("kernel.msgmax", &none, &[]), said);
        assert_eq!(asked("kernel.msgmax", &none, &["kernel.msg*"]), "");
        assert_eq!(asked("net.core.somaxconn", &none, &["net.core.*"]), "");
        assert_ne!(asked("net.ipv6.x", &none, &["net.core.*"]), "");
        assert_ne!(asked("vm.swappiness", &none, &[]), "");
        let said = "forbidden sysctl: \"net.core.somaxconn\" not allowed with host Net enabled";
        assert_eq!(asked("net.core.somaxconn", &json!({"hostNetwork": true}), &["net.*"]), said);
        assert_ne!(asked("kernel.sem", &json!({"hostIPC": true}), &["kernel.sem"]), "");
        assert_eq!(asked("kernel.sem", &json!({"hostNetwork": true}), &["kernel.sem"]), "");
    }

    #[test]
    fn only_what_belongs_to_pods_can_be_allowed() {
        for good in ["kernel.shm*", "net.ipv4.*", "net/core/somaxconn", "fs.mqueue.*"] {
            assert_eq!(check(good), Ok(()));
        }
        for bad in ["vm.*", "*", "kernel.*", ""] {
            assert!(check(bad).unwrap_err().contains(&format!("'{bad}'")), "{bad}");
        }
    }
}
