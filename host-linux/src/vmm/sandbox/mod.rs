//! What the process of a guest may do once it has all that it needs: so little that a guest which takes it
//! over has gained little (S2-01, F43, V44).
//!
//! Its privileges go in two steps. [`rights`]: as it begins, each of its threads loses what root may, but for
//! one, which makes taps and then ends. [`Sandbox::enter`], before the guest's first instruction: no
//! privilege can be got any more by any program (`no_new_privs`), and of the system's calls those of
//! [`calls`] are left. A process that makes another one is killed by the kernel, at once, with signal 31
//! (SIGSYS).

mod calls;
pub mod rights;

use crate::cluster::clock;
use crate::failure::Failure;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter_all_threads};

/// What becomes of a call that is not among those that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sandbox {
    /// It ends the process; the kernel's log names the call
    On,
    /// It is done, and the kernel's log names the call
    Log,
}

/// Gives up what is not needed from the beginning on, while this process has one thread only; see [`rights`].
///
/// # Errors
///
/// The kernel has no filters, which a guest that has left another node must not find out; or it refuses.
pub fn prepare() -> Result<(), Failure> {
    rustix::thread::secure_computing_mode().map_err(|error| impossible(&error))?;
    rights::set_aside()
}

fn impossible(error: &dyn std::error::Error) -> Failure {
    let what = format!("this node cannot keep a guest's process from what it needs not: {error}");
    Failure::failed(what).next("use a kernel with CONFIG_SECCOMP_FILTER.").left("")
}

impl Sandbox {
    /// All threads of this process, and all that they begin, are left with these calls, for good.
    ///
    /// # Errors
    ///
    /// The kernel has no such filters.
    pub fn enter(self) -> Result<(), Failure> {
        rights::give_up();
        // The first look at a clock finds the kernel's code for it, by a call that is not left.
        clock::now();
        let begin = || -> Result<(), Box<dyn std::error::Error>> {
            // Of two filters the stricter one counts. The second one does not let a third one in.
            apply_filter_all_threads(&absent()?)?;
            Ok(apply_filter_all_threads(&self.allowed()?)?)
        };
        begin().map_err(|error| impossible(error.as_ref()))
    }

    fn allowed(self) -> Result<BpfProgram, seccompiler::BackendError> {
        let other = match self {
            Self::On => SeccompAction::KillProcess,
            Self::Log => SeccompAction::Log,
        };
        compile(calls::allowed()?, other, SeccompAction::Allow)
    }
}

/// What libraries try and can do without does not exist for them.
fn absent() -> Result<BpfProgram, seccompiler::BackendError> {
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    compile(calls::absent()?, SeccompAction::Allow, no_such_call)
}

fn compile(
    rules: calls::Rules,
    otherwise: SeccompAction,
    then: SeccompAction,
) -> Result<BpfProgram, seccompiler::BackendError> {
    SeccompFilter::new(rules, otherwise, then, std::env::consts::ARCH.try_into()?)?.try_into()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
