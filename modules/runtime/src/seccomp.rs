//! Seccomp: system calls that no module has a use for fail with `EPERM`.
//!
//! A list of what is forbidden, not of what is allowed: a list of the latter would have to follow
//! every change of every library, and a mistake in it takes a node off the net.

use std::collections::BTreeMap;

use anyhow::Context as _;
use ipc_proto::Module;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Forbidden to every module: other processes' memory, the kernel itself, the machine's clock.
const NEVER: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_personality,
];

/// Forbidden to the modules that do not mount, enter namespaces or program the packet filter.
const WITHOUT_ROOT: &[i64] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Forbidden to the modules that never run a program.
const PROGRAMS: &[i64] = &[libc::SYS_execve, libc::SYS_execveat];

/// Tells whether a module's work includes running programs: volume and network plug-ins,
/// the upgrade of the node.
const fn runs_programs(module: Module) -> bool {
    matches!(module, Module::Edged | Module::Taskmanager)
}

/// Installs the module's filter.
///
/// # Errors
/// When this machine or this kernel has no seccomp filters.
pub(crate) fn restrict(module: Module) -> anyhow::Result<()> {
    let mut forbidden: Vec<i64> = NEVER.to_vec();
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    if !module.needs_root() {
        forbidden.extend(WITHOUT_ROOT);
        rules.insert(libc::SYS_clone, vec![new_user_namespace()?]);
    }
    if !runs_programs(module) {
        forbidden.extend(PROGRAMS);
    }
    rules.extend(forbidden.into_iter().map(|call| (call, Vec::new())));
    install(rules, libc::EPERM)?;
    if !module.needs_root() {
        // Its flags lie in memory, where a filter cannot look; the C library falls back to clone.
        install([(libc::SYS_clone3, Vec::new())].into(), libc::ENOSYS)?;
    }
    Ok(())
}

fn install(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> anyhow::Result<()> {
    let machine = TargetArch::try_from(std::env::consts::ARCH)
        .with_context(|| format!("no seccomp filters for {}", std::env::consts::ARCH))?;
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, machine)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program).context("the kernel refuses the filter")
}

/// Matches the making of a user namespace, in which a process has all capabilities again.
fn new_user_namespace() -> anyhow::Result<SeccompRule> {
    let flag = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    let condition =
        SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?;
    Ok(SeccompRule::new(vec![condition])?)
}
