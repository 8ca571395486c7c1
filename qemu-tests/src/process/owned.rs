//! A child process that does not outlive its owner, however the owner ends.

use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::find_program;

/// Pause between two looks at a child: short beside any command that is worth a process.
const POLL: Duration = Duration::from_millis(5);

/// A child in its own process group that does not outlive its owner.
#[derive(Debug)]
pub struct Owned {
    child: Child,
    /// Invariant: true from the moment the child was reaped; its id may then belong to another.
    reaped: bool,
}

impl Owned {
    /// Starts `command` in a process group of its own, killed by the kernel when this process ends.
    /// `streams` are its standard input, output and error.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &Command, streams: [Stdio; 3]) -> Result<Self> {
        let [stdin, stdout, stderr] = streams;
        let mut command = tied(command);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        Ok(Self { child: spawn(command)?, reaped: false })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, once, if it is a pipe.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its standard output, once, if it is a pipe.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard error, once, if it is a pipe.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// The exit status, if it ended.
    ///
    /// # Errors
    /// When the kernel refuses the question.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        if let (false, Some(id)) = (self.reaped, self.process()) {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if waitid(WaitId::Pid(id), look)?.is_none() {
                return Ok(None);
            }
            // Before it is reaped: from then on the group's number may belong to somebody else.
            self.kill_group();
        }
        let status = self.child.try_wait()?;
        self.reaped |= status.is_some();
        Ok(status)
    }

    /// Waits until it ends, at most `timeout`.
    ///
    /// # Errors
    /// When the kernel refuses the question.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.ended()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
    }

    /// Kills it and everything in its group, and waits until it is gone.
    pub fn kill(&mut self) {
        if !self.reaped {
            self.kill_group();
            // Both fail only for a child that has ended already, which is what we want.
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.reaped = true;
        }
    }

    fn process(&self) -> Option<rustix::process::Pid> {
        i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
    }

    fn kill_group(&self) {
        if let Some(group) = self.process() {
            // Fails when the group is empty: nothing is left behind.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Goes on as the command only if the parent still lives: one that was killed before the parent-death
/// signal was asked for sends none. `$0` is the parent's process id.
const WHILE_PARENT_LIVES: &str = r#"test "$PPID" = "$0" && exec "$@""#;

/// The command behind `setpriv --pdeathsig KILL`, where Debian's util-linux is there: a test that is
/// interrupted or killed runs no destructor. Each program replaces itself by the next, so the process
/// id is the command's.
fn tied(command: &Command) -> Command {
    let mut tied = match find_program("setpriv") {
        Some(setpriv) => {
            let mut tied = Command::new(setpriv);
            tied.args(["--pdeathsig", "KILL", "--", "sh", "-c", WHILE_PARENT_LIVES])
                .arg(std::process::id().to_string())
                .arg(command.get_program());
            tied
        }
        None => Command::new(command.get_program()),
    };
    tied.args(command.get_args()).process_group(0);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        tied.current_dir(directory);
    }
    tied
}

/// Forks in a thread that lives as long as this process: the kernel sends the parent-death signal
/// when the forking *thread* ends, and test threads end early.
fn spawn(command: Command) -> Result<Child> {
    type Order = (Command, mpsc::SyncSender<std::io::Result<Child>>);
    static FORKER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let forker = FORKER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // An asker that is gone drops the child's handle, and only that.
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let program = command.get_program().to_owned();
    let (answer, result) = mpsc::sync_channel(1);
    forker.send((command, answer)).map_err(|_| anyhow!("the thread that starts processes ended"))?;
    result.recv()?.with_context(|| format!("starting {}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::path::PathBuf;

    const VICTIM: &str = "BULKHEAD_TEST_VICTIM";

    /// Killed tests run no destructor. The test starts itself once more as the one that is killed.
    #[test]
    fn what_a_killed_test_started_dies_with_it() {
        if std::env::var_os(VICTIM).is_some() {
            let mut sleep = Command::new("sleep");
            sleep.arg("600");
            let mut child = Owned::start(&sleep, [Stdio::null(), Stdio::null(), Stdio::null()]).unwrap();
            println!("\nstarted {}", child.id());
            child.wait(Duration::from_secs(600)).unwrap();
            return;
        }
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "process::owned::tests::what_a_killed_test_started_dies_with_it",
                "--nocapture",
            ])
            .env(VICTIM, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let id = lines.map_while(Result::ok).find_map(|line| Some(line.strip_prefix("started ")?.to_owned()));
        let process = PathBuf::from("/proc").join(id.expect("the victim started nothing"));
        assert!(process.exists());
        victim.kill().unwrap();
        victim.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        // An orphan is reaped by whoever adopts it; until then it is a zombie without a command line.
        let runs = || std::fs::read(process.join("cmdline")).is_ok_and(|line| !line.is_empty());
        while runs() {
            assert!(Instant::now() < deadline, "{} outlived the test", process.display());
            thread::sleep(POLL);
        }
    }
}
