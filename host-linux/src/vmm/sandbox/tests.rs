//! A process of its own under the filter tries what a guest's process needs, and what it needs not.

use super::*;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

const TRIES: &str = "BULKHEAD_TEST_TRIES";
const SANDBOX: &str = "BULKHEAD_TEST_SANDBOX";
const DIRECTORY: &str = "BULKHEAD_TEST_DIRECTORY";

/// What the child can try, by its name.
const NEEDED: [(&str, fn()); 6] = [
    ("threads", threads),
    ("files", files),
    ("sockets", sockets),
    ("names", names),
    ("code", code),
    ("clock", clock),
];
const FORBIDDEN: [(&str, fn()); 7] = [
    ("program", program),
    ("process", process),
    ("root", root),
    ("packets", packets),
    ("signal", signal),
    ("terminal", terminal),
    ("rights", rights_again),
];

/// The child: tries one, under the filter or without it. By itself it does nothing.
#[test]
fn child() {
    let Ok(tries) = std::env::var(TRIES) else { return };
    match std::env::var(SANDBOX).unwrap().as_str() {
        "on" => Sandbox::On.enter().unwrap(),
        "log" => Sandbox::Log.enter().unwrap(),
        _ => {}
    }
    let (_, of_it) = NEEDED.iter().chain(&FORBIDDEN).find(|(name, _)| *name == tries).unwrap();
    of_it();
}

fn ends(tries: &str, sandbox: &str) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "vmm::sandbox::tests::child", "--nocapture"]);
    let directory = tempfile::tempdir().unwrap();
    command.env(TRIES, tries).env(SANDBOX, sandbox).env(DIRECTORY, directory.path());
    command.output().unwrap().status
}

/// V44: a process that does what a guest's never needs is dead before the call is made; without the filter
/// the same call is made, and where it is only logged, too.
#[test]
fn what_is_not_needed_ends_the_process() {
    for (name, _) in FORBIDDEN {
        assert_eq!(ends(name, "on").signal(), Some(libc::SIGSYS), "{name}");
        let status = ends(name, "none");
        assert!(status.success(), "{name}: {status}");
        // A program that is begun finds that what is absent for this process is absent for it, too.
        assert_eq!(ends(name, "log").signal(), None, "{name}");
    }
}

#[test]
fn what_is_needed_is_left() {
    for (name, _) in NEEDED {
        let status = ends(name, "on");
        assert!(status.success(), "{name}: {status}");
    }
}

/// V44: beside those that are tried above.
#[test]
fn no_call_is_left_that_makes_processes_or_changes_rights() {
    let rules = calls::allowed().unwrap();
    let never = [
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_ptrace,
        libc::SYS_bpf,
        libc::SYS_setuid,
        libc::SYS_capset,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_io_uring_setup,
        libc::SYS_init_module,
        libc::SYS_kexec_load,
        libc::SYS_process_vm_writev,
        libc::SYS_kill,
        libc::SYS_seccomp,
        libc::SYS_pkey_mprotect,
        libc::SYS_userfaultfd,
    ];
    for call in never {
        assert!(!rules.contains_key(&call), "{call}");
    }
    let narrowed = [libc::SYS_ioctl, libc::SYS_socket, libc::SYS_clone, libc::SYS_prctl, libc::SYS_tgkill];
    for call in narrowed {
        assert!(!rules[&call].is_empty(), "{call}");
    }
}

/// A guest that runs alone asks the clock for the first time when its heartbeat is lost.
fn clock() {
    crate::cluster::clock::now();
}

fn threads() {
    let many: Vec<_> = (0..8).map(|_| std::thread::spawn(|| vec![7_u8; 4 << 20].len())).collect();
    assert!(many.into_iter().all(|thread| thread.join().unwrap() == 4 << 20));
}

fn files() {
    let directory = std::path::PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let (new, old) = (directory.join("new"), directory.join("old"));
    std::fs::write(&new, [7; 1 << 16]).unwrap();
    std::fs::File::open(&new).unwrap().sync_all().unwrap();
    std::fs::rename(&new, &old).unwrap();
    assert_eq!(std::fs::read(&old).unwrap().len(), 1 << 16);
    assert!(std::fs::canonicalize(&old).is_ok() && !new.exists());
    std::fs::remove_file(&old).unwrap();
}

fn sockets() {
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut &one, b"x").unwrap();
    std::io::Read::read_exact(&mut &other, &mut [0]).unwrap();
    // Nobody is there, and that is said.
    assert!(std::net::TcpStream::connect("127.0.0.1:1").is_err());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::sleep(std::time::Duration::from_millis(1)).await });
}

/// A resolver that must do without modules, and without the kernel's addresses, resolves all the same.
fn names() {
    let found = std::net::ToSocketAddrs::to_socket_addrs("localhost:1").map(Iterator::count);
    assert!(0 < found.unwrap());
}

/// Memory with new code in it there is none, and that is said.
fn code() {
    let map = |more| {
        let protection = libc::PROT_READ | more;
        vm_memory::MmapRegion::<()>::build(None, 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)
    };
    assert!(map(libc::PROT_WRITE).is_ok());
    assert!(map(libc::PROT_EXEC).is_err());
}

fn program() {
    use std::os::unix::process::CommandExt as _;
    // It does not come back, unless it fails.
    panic!("{}", Command::new("/bin/true").exec());
}

fn process() {
    assert!(Command::new("/bin/true").status().unwrap().success());
}

// Whoever may not do these hears so, where there is no filter.

fn root() {
    let _ = rustix::process::chroot("/");
}

fn packets() {
    use rustix::net::{AddressFamily, SocketType, socket};
    let _ = socket(AddressFamily::PACKET, SocketType::RAW, None);
}

fn signal() {
    let _ = rustix::process::test_kill_process(rustix::process::Pid::INIT);
}

fn terminal() {
    let _ = rustix::termios::tcgetwinsize(std::io::stdin());
}

fn rights_again() {
    let _ = rustix::thread::capabilities(None).and_then(|has| rustix::thread::set_capabilities(None, has));
}
