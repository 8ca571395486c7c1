//! The system's calls that are left to the process of a guest, and what each is for.
//!
//! What is here is needed while the guest runs: it resets (another machine of KVM, other threads), a disk's
//! server comes back (sockets, certificates that are read again), it is asked, captured, moved, and ends.
//! Which files and peers that is about no filter sees: those are for the rights of the user that it runs as.

use libc as c;
use seccompiler::{
    BackendError, SeccompCmpArgLen as Length, SeccompCmpOp as Compare, SeccompCondition, SeccompRule,
};
use std::collections::BTreeMap;

/// For each call by which arguments it is meant: all of one rule, for any of its rules; none: by any.
pub type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Those that are left whatever their arguments are.
const PLAIN: [&[i64]; 7] = [
    // Memory, of the allocator's and of threads' stacks; a guest's after a reset. For code see [`absent`].
    &[c::SYS_mmap, c::SYS_munmap, c::SYS_mremap, c::SYS_mprotect, c::SYS_madvise, c::SYS_brk],
    &[c::SYS_memfd_create, c::SYS_ftruncate, c::SYS_sysinfo],
    // Files: kernels, snapshots, logs, certificates, and what is open already.
    &[
        c::SYS_openat,
        c::SYS_open,
        c::SYS_close,
        c::SYS_read,
        c::SYS_write,
        c::SYS_readv,
        c::SYS_writev,
        c::SYS_pread64,
        c::SYS_pwrite64,
        c::SYS_preadv,
        c::SYS_pwritev,
        c::SYS_lseek,
        c::SYS_fsync,
        c::SYS_fdatasync,
        c::SYS_fallocate,
        c::SYS_fadvise64,
        c::SYS_fcntl,
        c::SYS_flock,
        c::SYS_dup,
        c::SYS_fstat,
        c::SYS_stat,
        c::SYS_lstat,
        c::SYS_newfstatat,
        c::SYS_statx,
        c::SYS_statfs,
        c::SYS_fstatfs,
        c::SYS_access,
        c::SYS_faccessat,
        c::SYS_faccessat2,
        c::SYS_readlink,
        c::SYS_readlinkat,
        c::SYS_getcwd,
        c::SYS_getdents64,
        c::SYS_rename,
        c::SYS_renameat,
        c::SYS_renameat2,
        c::SYS_unlink,
        c::SYS_unlinkat,
    ],
    // Connections: to servers of disks, to the agent, of those who ask or are attached, to another node.
    &[
        c::SYS_connect,
        c::SYS_accept4,
        c::SYS_getsockname,
        c::SYS_getpeername,
        c::SYS_getsockopt,
        c::SYS_setsockopt,
        c::SYS_shutdown,
        c::SYS_sendto,
        c::SYS_recvfrom,
        c::SYS_sendmsg,
        c::SYS_recvmsg,
        c::SYS_sendmmsg,
        c::SYS_recvmmsg,
    ],
    // Waiting for one of several.
    &[
        c::SYS_poll,
        c::SYS_ppoll,
        c::SYS_epoll_create1,
        c::SYS_epoll_ctl,
        c::SYS_epoll_wait,
        c::SYS_epoll_pwait,
        c::SYS_epoll_pwait2,
        c::SYS_eventfd2,
        c::SYS_pipe2,
    ],
    // Threads, signals, and the end.
    &[
        c::SYS_futex,
        c::SYS_set_robust_list,
        c::SYS_rseq,
        c::SYS_gettid,
        c::SYS_getuid,
        c::SYS_geteuid,
        c::SYS_getgid,
        c::SYS_getegid,
        c::SYS_getpid,
        c::SYS_sched_yield,
        c::SYS_sched_getaffinity,
        c::SYS_sigaltstack,
        c::SYS_rt_sigaction,
        c::SYS_rt_sigprocmask,
        c::SYS_rt_sigreturn,
        c::SYS_restart_syscall,
        c::SYS_prlimit64,
        c::SYS_getrlimit,
        c::SYS_exit,
        c::SYS_exit_group,
    ],
    // Time, and chance. Most of it needs no call, but on nodes whose clock the kernel mistrusts it does.
    &[
        c::SYS_clock_gettime,
        c::SYS_clock_getres,
        c::SYS_gettimeofday,
        c::SYS_time,
        c::SYS_nanosleep,
        c::SYS_clock_nanosleep,
        c::SYS_timer_create,
        c::SYS_timer_settime,
        c::SYS_timer_delete,
        c::SYS_getrandom,
        c::SYS_uname,
    ],
];

/// The byte that all of KVM's requests have in common (`KVMIO`), and where it stands.
const KVM_REQUESTS: (u64, u64) = (0xff00, 0xae00);
/// What is requested of a tap when a driver says what it understands (`TUNSETOFFLOAD`).
const TAP_OFFLOAD: u64 = 0x4004_54d0;
/// What a thread is called, and memory of the allocator's (`PR_SET_VMA`).
const NAMES: [i32; 2] = [c::PR_SET_NAME, 0x5356_4d41];

/// The calls that are left.
pub fn allowed() -> Result<Rules, BackendError> {
    let mut rules: Rules = PLAIN.into_iter().flatten().map(|call| (*call, Vec::new())).collect();
    let mut requests = vec![rule(1, Compare::MaskedEq(KVM_REQUESTS.0), KVM_REQUESTS.1)?];
    for request in [TAP_OFFLOAD, c::FIONBIO, c::FIOCLEX, c::FIONREAD, c::TCGETS] {
        requests.push(is(1, request)?);
    }
    rules.insert(c::SYS_ioctl, requests);
    let families = [c::AF_UNIX, c::AF_INET, c::AF_INET6, c::AF_NETLINK];
    rules.insert(c::SYS_socket, any(0, families)?);
    rules.insert(c::SYS_socketpair, any(0, [c::AF_UNIX])?);
    rules.insert(c::SYS_prctl, any(0, NAMES)?);
    // Threads, and no processes; in no other namespaces, for those are asked for by flags beside these.
    let thread = c::CLONE_VM | c::CLONE_FS | c::CLONE_FILES | c::CLONE_SIGHAND | c::CLONE_THREAD;
    let namespaces = c::CLONE_NEWNS
        | c::CLONE_NEWCGROUP
        | c::CLONE_NEWUTS
        | c::CLONE_NEWIPC
        | c::CLONE_NEWUSER
        | c::CLONE_NEWPID
        | c::CLONE_NEWNET;
    // See `absent` for the newer one, and for memory with code.
    rules.insert(c::SYS_clone3, Vec::new());
    rules.insert(c::SYS_clone, vec![rule(0, flags(thread | namespaces), number(thread))?]);
    // Signals to its own threads: those of the processors, and its own end.
    let this = u64::from(std::process::id());
    rules.insert(c::SYS_tgkill, vec![is(0, this)?]);
    Ok(rules)
}

/// The calls that fail and change nothing, of those that are left: what libraries try first, or do without.
pub fn absent() -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    // The C library makes its threads by the older call then, whose arguments a filter sees.
    rules.insert(c::SYS_clone3, Vec::new());
    // Memory with new code in it: modules of the resolver of names, which goes on without them.
    for call in [c::SYS_mmap, c::SYS_mprotect] {
        rules.insert(call, vec![rule(2, flags(c::PROT_EXEC), number(c::PROT_EXEC))?]);
    }
    // The resolver asks the kernel for addresses of its own, to put those that it has found in order.
    rules.insert(c::SYS_socket, any(0, [c::AF_NETLINK])?);
    Ok(rules)
}

fn any<const N: usize>(argument: u8, values: [i32; N]) -> Result<Vec<SeccompRule>, BackendError> {
    values.into_iter().map(|value| is(argument, number(value))).collect()
}

fn is(argument: u8, value: u64) -> Result<SeccompRule, BackendError> {
    rule(argument, Compare::Eq, value)
}

/// The kernel takes all of these arguments as 32 bits.
fn rule(argument: u8, compare: Compare, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, Length::Dword, compare, value)?])
}

fn flags(flags: i32) -> Compare {
    Compare::MaskedEq(number(flags))
}

/// A C number that has no sign.
fn number(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}
