//! What a pod's sandbox and containers may do, in the runtime's words: users, groups, namespaces,
//! capabilities, profiles and labels.

use std::path::{Component, Path, PathBuf};

use super::Settings;
use crate::cri::words as w;
use crate::pod::spec::{Container, Pod, Profile, SeLinux, Security};

fn namespaces(pod: &Pod) -> w::NamespaceOption {
    let spec = &pod.spec;
    let or_pod = |host: bool| if host { w::NamespaceMode::Node } else { w::NamespaceMode::Pod };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (true, _) => w::NamespaceMode::Node,
        (false, true) => w::NamespaceMode::Pod,
        (false, false) => w::NamespaceMode::Container,
    };
    w::NamespaceOption {
        network: or_pod(spec.host_network).into(),
        pid: pid.into(),
        ipc: or_pod(spec.host_ipc).into(),
        target_id: String::new(),
    }
}

pub(super) const fn number(value: i64) -> w::Int64Value {
    w::Int64Value { value }
}

fn groups(pod: &Pod) -> Vec<i64> {
    let own = pod.spec.security_context.as_ref();
    let more = own.map(|own| own.supplemental_groups.clone()).unwrap_or_default();
    let of_files = own.and_then(|own| own.fs_group).map(i64::from);
    more.into_iter().chain(of_files).collect()
}

/// Returns the rights of a pod's sandbox.
pub(super) fn sandbox(pod: &Pod) -> w::LinuxSandboxSecurityContext {
    let own = pod.spec.security_context.as_ref();
    let privileged = pod.spec.all_containers().any(|container| {
        container.security_context.as_ref().is_some_and(|security| security.privileged)
    });
    w::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        selinux_options: own.and_then(|own| own.se_linux_options.as_ref()).map(label),
        run_as_user: own.and_then(|own| own.run_as_user).map(number),
        run_as_group: own.and_then(|own| own.run_as_group).map(number),
        supplemental_groups: groups(pod),
        privileged,
        seccomp: Some(w::SecurityProfile::default()),
        ..Default::default()
    }
}

fn label(of: &SeLinux) -> w::SelinuxOption {
    let SeLinux { user, role, r#type, level } = of.clone();
    w::SelinuxOption { user, role, r#type, level }
}

/// The annotation that named the AppArmor profile of a container before there was a field for it.
const ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Returns the AppArmor profile that is wanted for a container: its own, that of the annotation, or
/// the pod's.
pub(crate) fn armor(pod: &Pod, container: &Container) -> Option<Profile> {
    let own = container.security_context.as_ref().and_then(|it| it.app_armor_profile.clone());
    let annotated = || {
        let all = pod.metadata.annotations.as_ref()?;
        let text = all.get(&format!("{ARMOR}{}", container.name))?;
        let profile = |kind: &str, name: Option<&str>| Profile {
            r#type: kind.to_owned(),
            localhost_profile: name.map(str::to_owned),
        };
        match text.as_str() {
            "runtime/default" => Some(profile("RuntimeDefault", None)),
            "unconfined" => Some(profile("Unconfined", None)),
            other => Some(profile("Localhost", Some(other.strip_prefix("localhost/")?))),
        }
    };
    let of_pod = || pod.spec.security_context.as_ref()?.app_armor_profile.clone();
    own.or_else(annotated).or_else(of_pod)
}

fn armored(profile: Profile) -> w::SecurityProfile {
    let (kind, name) = match profile.r#type.as_str() {
        "RuntimeDefault" => (w::ProfileType::RuntimeDefault, None),
        "Localhost" => (w::ProfileType::Localhost, profile.localhost_profile),
        _ => (w::ProfileType::Unconfined, None),
    };
    w::SecurityProfile { profile_type: kind.into(), localhost_ref: name.unwrap_or_default() }
}

/// The signals in the order of the interface's numbers, from 1; those of real time follow.
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// Returns the interface's number of a signal; 0, which is the image's own, for what is none.
pub(super) fn signal(name: &str) -> i32 {
    let Some(name) = name.strip_prefix("SIG") else { return 0 };
    if let Some(at) = SIGNALS.iter().position(|known| *known == name) {
        return i32::try_from(at + 1).unwrap_or(0);
    }
    let offset = |text: &str, most: i32| match text {
        "" => Some(0),
        text => text.parse::<i32>().ok().map(i32::abs).filter(|it| *it <= most),
    };
    if let Some(above) = name.strip_prefix("RTMIN") {
        return offset(above, 15).map_or(0, |it| 35 + it);
    }
    let below = name.strip_prefix("RTMAX").and_then(|below| offset(below, 14));
    below.map_or(0, |it| 65 - it)
}

fn profile(profile: Option<&Profile>, settings: &Settings<'_>) -> w::SecurityProfile {
    let (kind, localhost_ref) = match profile.map(|profile| profile.r#type.as_str()) {
        Some("RuntimeDefault") => (w::ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let file = profile.and_then(|profile| profile.localhost_profile.as_deref());
            let root = settings.root.unwrap_or(Path::new("/")).join("seccomp");
            // Whatever the pod says, the profile is one of this node's.
            let inside = |part: &Component<'_>| matches!(part, Component::Normal(_));
            let file = Path::new(file.unwrap_or_default()).components().filter(inside);
            let path = root.join(file.collect::<PathBuf>());
            (w::ProfileType::Localhost, path.display().to_string())
        }
        None if settings.seccomp_default => (w::ProfileType::RuntimeDefault, String::new()),
        Some(_) | None => (w::ProfileType::Unconfined, String::new()),
    };
    w::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

/// Paths of the kernel that a container does not see, and those that it may not write.
pub(super) const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Returns the rights of a container. It sees the processes of the container `target`, if that is
/// not empty.
pub(super) fn container(
    pod: &Pod,
    container: &Container,
    settings: &Settings<'_>,
    target: String,
) -> w::LinuxContainerSecurityContext {
    let of_pod = pod.spec.security_context.as_ref();
    let default = Security::default();
    let own = container.security_context.as_ref().unwrap_or(&default);
    let user = own.run_as_user.or_else(|| of_pod?.run_as_user);
    let group = own.run_as_group.or_else(|| of_pod?.run_as_group);
    let seccomp = own.seccomp_profile.as_ref().or_else(|| of_pod?.seccomp_profile.as_ref());
    let bare = own.privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |paths: &[&str]| {
        if bare { Vec::new() } else { paths.iter().map(|path| (*path).to_owned()).collect() }
    };
    let seccomp = if own.privileged {
        w::SecurityProfile {
            profile_type: w::ProfileType::Unconfined.into(),
            localhost_ref: String::new(),
        }
    } else {
        profile(seccomp, settings)
    };
    let label_of = own.se_linux_options.as_ref();
    let label_of = label_of.or_else(|| of_pod?.se_linux_options.as_ref());
    let mut namespaces = namespaces(pod);
    if !target.is_empty() && namespaces.pid == i32::from(w::NamespaceMode::Container) {
        (namespaces.pid, namespaces.target_id) = (w::NamespaceMode::Target.into(), target);
    }
    w::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|capabilities| w::Capability {
            add_capabilities: capabilities.add.clone(),
            drop_capabilities: capabilities.drop.clone(),
        }),
        privileged: own.privileged,
        namespace_options: Some(namespaces),
        selinux_options: label_of.map(label),
        run_as_user: user.map(number),
        run_as_group: group.map(number),
        readonly_rootfs: own.read_only_root_filesystem,
        supplemental_groups: groups(pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp),
        apparmor: if own.privileged { None } else { armor(pod, container).map(armored) },
    }
}
