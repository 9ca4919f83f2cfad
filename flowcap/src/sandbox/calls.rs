//! Which system calls there are, by seccomp.
//!
//! The lists are of what was seen with strace in all modes (replay, live capture, every kind of output, interfaces that
//! come and go, signals, the end). What is not on them fails with EPERM, so that a library that only tries something
//! goes on. clone3 fails with ENOSYS instead: its flags cannot be looked at, and the C library then takes clone.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use super::Role;

/// Restricts the calling thread, and all that it starts, to the system calls of a role.
///
/// # Errors
/// What is missing.
pub(super) fn restrict(role: Role) -> Result<(), String> {
    for program in programs(role)? {
        apply_filter(&program).map_err(|error| format!("seccomp: {error}"))?;
    }
    Ok(())
}

/// Compiles the filters of a role; of what they say of a call the strictest holds.
///
/// # Errors
/// For an architecture that there are no filters for.
pub(crate) fn programs(role: Role) -> Result<[BpfProgram; 2], String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| format!("seccomp: {error}"))?;
    let compile = |rules, otherwise, matching| {
        let filter = SeccompFilter::new(rules, otherwise, matching, arch);
        filter.and_then(BpfProgram::try_from).map_err(|error| format!("seccomp: {error}"))
    };
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let mut known = allowed(role)?;
    // Two filters that refuse with different errors: the later one's would hold.
    known.extend(unknown.clone());
    Ok([
        compile(unknown, SeccompAction::Allow, errno(libc::ENOSYS))?,
        compile(known, errno(libc::EPERM), SeccompAction::Allow)?,
    ])
}

/// Lists what a role may call; no rules mean any arguments.
fn allowed(role: Role) -> Result<BTreeMap<i64, Vec<SeccompRule>>, String> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> =
        EVERYWHERE.iter().map(|&call| (call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    calls.extend(X86.iter().map(|&call| (call, Vec::new())));
    let mut only = |call: c_long, rules: Vec<SeccompRule>| calls.insert(call, rules);

    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let namespaces = u64::from(NAMESPACES.unsigned_abs());
    only(libc::SYS_clone, vec![all([masked(0, thread, thread)?, masked(0, namespaces, 0)?])?]);
    let exec = u64::from(libc::PROT_EXEC.unsigned_abs());
    only(libc::SYS_mmap, vec![all([masked(2, exec, 0)?])?]);
    only(libc::SYS_mprotect, vec![all([masked(2, exec, 0)?])?]);
    let own = u64::from(std::process::id());
    only(libc::SYS_tgkill, vec![all([equal(0, own)?])?]);
    only(libc::SYS_prctl, any(0, &[libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA].map(i64::from))?);
    // Limits are read, not set.
    only(libc::SYS_prlimit64, vec![all([equal_long(2, 0)?])?]);
    only(libc::SYS_fcntl, any(1, &FILE_COMMANDS.map(i64::from))?);
    // Sockets that were connected before, as the one that wakes the thread of signals; nobody else is written to.
    only(libc::SYS_sendto, vec![all([equal_long(4, 0)?])?]);
    match role {
        Role::Replay => {
            only(libc::SYS_ioctl, any(1, &TERMINAL)?);
        }
        Role::Capture => {
            only(libc::SYS_ioctl, any(1, &[TERMINAL.as_slice(), &INTERFACE].concat())?);
            only(libc::SYS_socket, packet_sockets()?);
            // Who connects to --metrics, at a socket that listens already.
            only(libc::SYS_accept4, Vec::new());
            only(libc::SYS_getpeername, Vec::new());
            only(libc::SYS_shutdown, Vec::new());
        }
        Role::Shipper | Role::LocalShipper => {
            let connection = [libc::FIONBIO.cast_signed(), libc::FIONREAD.cast_signed()];
            only(libc::SYS_ioctl, any(1, &[TERMINAL.as_slice(), &connection].concat())?);
            let local = role == Role::LocalShipper;
            let sockets = if local { vec![plain(libc::AF_UNIX, libc::SOCK_STREAM)?] } else { internet()? };
            only(libc::SYS_socket, sockets);
            for call in CONNECTIONS {
                only(*call, Vec::new());
            }
        }
        Role::Lookups => {
            // Without Landlock it sees all files: it writes none, and no process's memory either.
            only(libc::SYS_openat, vec![all([reading(2)?])?]);
            #[cfg(target_arch = "x86_64")]
            only(libc::SYS_open, vec![all([reading(1)?])?]);
            only(libc::SYS_ioctl, any(1, &[TERMINAL.as_slice(), &INTERFACE].concat())?);
            let mut sockets = packet_sockets()?;
            for protocol in [libc::NETLINK_ROUTE, libc::NETLINK_SOCK_DIAG, libc::NETLINK_RDMA] {
                sockets.push(netlink(protocol)?);
            }
            only(libc::SYS_socket, sockets);
            // To the kernel, at an address of netlink: the sockets there are know no other.
            only(libc::SYS_connect, Vec::new());
            only(libc::SYS_sendto, Vec::new());
            only(libc::SYS_recvmsg, Vec::new());
            // To tell processes from threads.
            only(libc::SYS_pidfd_open, Vec::new());
        }
    }
    if role != Role::Lookups {
        calls.extend(FILES.iter().map(|&call| (call, Vec::new())));
        #[cfg(target_arch = "x86_64")]
        calls.extend(X86_FILES.iter().map(|&call| (call, Vec::new())));
    }
    if role != Role::Replay {
        calls.extend(SOCKETS.iter().map(|&call| (call, Vec::new())));
    }
    Ok(calls)
}

/// The sockets that libpcap opens for an interface: the one for packets, and one to ask about the interface by ioctl.
fn packet_sockets() -> Result<Vec<SeccompRule>, String> {
    let packet = equal(0, u64::from(libc::AF_PACKET.unsigned_abs()))?;
    Ok(vec![all([packet])?, netlink(libc::NETLINK_GENERIC)?])
}

/// The sockets of connections and datagrams, and one to ask for the addresses of this machine, as the resolver does.
fn internet() -> Result<Vec<SeccompRule>, String> {
    let mut sockets = vec![netlink(libc::NETLINK_ROUTE)?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            sockets.push(plain(family, kind)?);
        }
    }
    Ok(sockets)
}

/// A socket of a family and a kind, whatever flags it has.
fn plain(family: i32, kind: i32) -> Result<SeccompRule, String> {
    let kind = masked(1, 0xF, u64::from(kind.unsigned_abs()))?;
    all([equal(0, u64::from(family.unsigned_abs()))?, kind])
}

fn netlink(protocol: i32) -> Result<SeccompRule, String> {
    let family = equal(0, u64::from(libc::AF_NETLINK.unsigned_abs()))?;
    all([family, equal(2, u64::from(protocol.unsigned_abs()))?])
}

/// The flags of a file that is opened, at an argument: it is only read.
fn reading(argument: u8) -> Result<SeccompCondition, String> {
    let writing = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
    masked(argument, u64::from(writing.unsigned_abs()), u64::from(libc::O_RDONLY.unsigned_abs()))
}

/// Makes a rule for each value that an argument may have.
fn any(argument: u8, values: &[i64]) -> Result<Vec<SeccompRule>, String> {
    values.iter().map(|&value| all([equal(argument, value.cast_unsigned())?])).collect()
}

/// Makes a rule under which all conditions hold.
fn all<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, String> {
    SeccompRule::new(conditions.into()).map_err(|error| format!("seccomp: {error}"))
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, String> {
    condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn equal_long(argument: u8, value: u64) -> Result<SeccompCondition, String> {
    condition(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, String> {
    condition(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value)
}

fn condition(
    argument: u8,
    len: SeccompCmpArgLen,
    op: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, String> {
    SeccompCondition::new(argument, len, op, value).map_err(|error| format!("seccomp: {error}"))
}

/// What every process needs: memory, threads, time, open files, and files that are read.
const EVERYWHERE: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_wait4,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The same under the names that only older architectures have.
#[cfg(target_arch = "x86_64")]
const X86: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_epoll_wait,
    libc::SYS_gettimeofday,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
];

/// What files are made, written and deleted with, beneath the folders that Landlock allows.
const FILES: &[c_long] = &[
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_mkdirat,
    libc::SYS_pwrite64,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

/// The same under the names that only older architectures have.
#[cfg(target_arch = "x86_64")]
const X86_FILES: &[c_long] = &[libc::SYS_mkdir, libc::SYS_rename, libc::SYS_rmdir, libc::SYS_unlink];

/// What is done with the sockets that may be opened.
const SOCKETS: &[c_long] =
    &[libc::SYS_bind, libc::SYS_getsockname, libc::SYS_getsockopt, libc::SYS_setsockopt];

/// What a connection takes, and the resolver of names.
const CONNECTIONS: &[c_long] = &[
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
];

/// What makes a clone one with namespaces of its own.
const NAMESPACES: i32 = libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

const FILE_COMMANDS: [i32; 5] =
    [libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// How wide it is, and whether it is one: nothing that could type into it.
const TERMINAL: [i64; 3] =
    [libc::TCGETS.cast_signed(), libc::TCGETS2.cast_signed(), libc::TIOCGWINSZ.cast_signed()];

/// What libpcap asks about an interface. SIOCETHTOOL also changes settings, for which the capability is gone.
const INTERFACE: [i64; 7] = [
    libc::SIOCETHTOOL.cast_signed(),
    libc::SIOCGIFFLAGS.cast_signed(),
    libc::SIOCGIFHWADDR.cast_signed(),
    libc::SIOCGIFINDEX.cast_signed(),
    libc::SIOCGIFMTU.cast_signed(),
    libc::SIOCGIFNAME.cast_signed(),
    libc::FIONREAD.cast_signed(),
];

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 5] = [Role::Replay, Role::Capture, Role::Lookups, Role::Shipper, Role::LocalShipper];

    #[test]
    fn the_filters_compile_and_are_short() {
        for role in ROLES {
            let [first, second] = programs(role).unwrap();
            assert!(first.len() < 16 && second.len() < 1024, "{} {}", first.len(), second.len());
        }
    }

    #[test]
    fn what_must_never_be_is_on_no_list() {
        let never = [
            libc::SYS_bpf,
            libc::SYS_chroot,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_io_uring_setup,
            libc::SYS_kill,
            libc::SYS_mount,
            libc::SYS_open_by_handle_at,
            libc::SYS_perf_event_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_pidfd_send_signal,
            libc::SYS_ptrace,
            libc::SYS_sendmsg,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_userfaultfd,
        ];
        for role in ROLES {
            let allowed = allowed(role).unwrap();
            let sends = matches!(role, Role::Shipper | Role::LocalShipper);
            let may = |call: &i64| *call == libc::SYS_sendmsg && sends;
            assert!(never.iter().all(|call| may(call) || !allowed.contains_key(call)));
            assert_eq!(allowed.contains_key(&libc::SYS_socket), role != Role::Replay);
        }
    }
}
