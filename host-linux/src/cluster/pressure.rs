//! Keeps the loop running on a machine that is short of memory and processors, and says what it could not
//! get (X08, F24).
//!
//! JUSTIFICATION: the scheduling class of a thread can be set by a system call without a safe wrapper only.
#![allow(unsafe_code, reason = "see JUSTIFICATION above")]

use rustix::mm::{MlockAllFlags, mlockall};
use std::path::Path;

/// Above ordinary work, below the kernel's own threads and a hypervisor's emergency ones.
const PRIORITY_LOOP: i32 = 50;
/// The votes' writer: below the loop, above everything else.
const PRIORITY_WRITER: i32 = 49;
/// Never killed for lack of memory: a dead agent costs a takeover.
const OOM_SCORE: &str = "-1000";

/// Something the agent did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What, in one word: `memory`, `scheduling`, `oom`, `watchdog`, `network`, `relay`, `fences`,
    /// `volumes`, `streams`, `store`, `placeholder`.
    pub what: &'static str,
    /// What it means and how to get it: one sentence.
    pub why: String,
}

/// Locks this process in memory and protects it from the OOM killer.
pub fn protect_process(root: &Path) -> Vec<Lack> {
    let mut lacks = Vec::new();
    // On fault: pages that are touched stay; stacks that are not touched cost nothing.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if let Err(error) = mlockall(flags) {
        let why = format!(
            "not locked in memory ({error}): may stall while the node swaps; grant CAP_IPC_LOCK or \
             LimitMEMLOCK=infinity"
        );
        lacks.push(Lack { what: "memory", why });
    }
    if let Err(error) = std::fs::write(root.join("proc/self/oom_score_adj"), OOM_SCORE) {
        let why = format!(
            "may be killed when memory runs out ({error}); grant CAP_SYS_RESOURCE or set \
             OOMScoreAdjust={OOM_SCORE}"
        );
        lacks.push(Lack { what: "oom", why });
    }
    lacks
}

/// Which thread asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// The loop.
    Loop,
    /// The votes' writer.
    Writer,
}

/// Gives the calling thread a real-time class. Processes it starts get the ordinary one.
pub fn protect_thread(thread: Thread) -> Option<Lack> {
    let sched_priority = match thread {
        Thread::Loop => PRIORITY_LOOP,
        Thread::Writer => PRIORITY_WRITER,
    };
    let parameters = libc::sched_param { sched_priority };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameters` is a valid `sched_param` that lives until the call returns; 0 is this thread.
    let done = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    (done != 0).then(|| {
        let error = std::io::Error::last_os_error();
        let why = format!("no real-time scheduling ({error}): may run late under load; grant CAP_SYS_NICE");
        Lack { what: "scheduling", why }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever this machine grants: what is not granted is said, and what is granted is there.
    #[test]
    fn what_was_granted_is_there_and_what_was_not_is_said() {
        let asked = std::thread::spawn(|| {
            let lack = protect_thread(Thread::Writer);
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let after_name = stat.rsplit(") ").next().unwrap().to_owned();
            (lack, after_name)
        });
        let (lack, stat) = asked.join().unwrap();
        // Field 41 of proc(5) is the policy; field 3 is the first one after the name.
        let policy = stat.split_whitespace().nth(41 - 3).unwrap().to_owned();
        match lack {
            None => assert_eq!(policy, libc::SCHED_RR.to_string()),
            Some(lack) => assert!(policy == "0" && lack.why.contains("CAP_SYS_NICE"), "{lack:?}"),
        }
        let missing = tempfile::tempdir().unwrap();
        let lacks = protect_process(missing.path());
        assert!(
            lacks.iter().any(|lack| lack.what == "oom" && lack.why.contains("OOMScoreAdjust")),
            "{lacks:?}"
        );
    }
}
