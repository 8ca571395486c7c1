//! Runs one task of an infrastructure resource: an OCF resource agent with the standard environment and exit
//! codes, or `systemctl` on a unit (ECOSYSTEM: OCF resource agents, systemd; S1-15).
//!
//! What the task starts lives on: only a task that does not end in time is killed, with all it started.

use crate::site_config::{Resource, Runner};
use bulkhead_core::resource::life::{Answer, Task};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Where resource agents are, unless `OCF_ROOT` says otherwise.
const OCF_ROOT: &str = "/usr/lib/ocf";
/// There when, and only when, systemd is the init system: sd_booted(3).
const SYSTEMD_RUNS: &str = "/run/systemd/system";
/// The longest a monitor may take; starts and stops have times of their own.
const MONITOR_MAX: Duration = Duration::from_secs(20);
/// Of what a task says, this much is kept.
const WORDS_MAX: usize = 2048;
/// How long the last words of a task that ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);
const INTERRUPTED: &str = "it was interrupted, for it must stop";
const POLL: Duration = Duration::from_millis(20);

/// Carries out a task, unless it is to end at once: how it ended, and in which words when not well.
pub fn run(resource: &Resource, task: Task, interrupted: &AtomicBool) -> (Answer, String) {
    let time = match task {
        Task::Start => resource.start_timeout,
        Task::Stop => resource.stop_timeout,
        Task::Monitor => MONITOR_MAX,
    };
    match &resource.runner {
        Runner::Ocf { agent, .. } => {
            let program = ocf_program(agent);
            if !program.exists() {
                return not_there(task, &format!("there is no resource agent {}", program.display()));
            }
            ocf(task, &carry_out(ocf_command(resource, agent, &program, task, time), time, interrupted))
        }
        Runner::Systemd { unit } => {
            if !Path::new(SYSTEMD_RUNS).exists() {
                return not_there(task, &format!("systemd does not run here, so nothing can start {unit}"));
            }
            let verb = match task {
                Task::Start => "start",
                Task::Stop => "stop",
                Task::Monitor => "is-active",
            };
            let mut command = Command::new("systemctl");
            command.args([verb, "--", unit.as_str()]);
            systemd(task, &carry_out(command, time, interrupted))
        }
    }
}

/// Nothing can have been started by what is not there.
fn not_there(task: Task, why: &str) -> (Answer, String) {
    match task {
        Task::Start => (Answer::Failed, why.to_owned()),
        Task::Stop => (Answer::Ok, String::new()),
        Task::Monitor => (Answer::NotRunning, String::new()),
    }
}

fn ocf_root() -> PathBuf {
    std::env::var_os("OCF_ROOT").map_or_else(|| OCF_ROOT.into(), PathBuf::from)
}

/// `provider:type`, or a path.
fn ocf_program(agent: &str) -> PathBuf {
    match agent.split_once(':') {
        Some((provider, name)) if !agent.contains('/') => {
            ocf_root().join("resource.d").join(provider).join(name)
        }
        Some(_) | None => agent.into(),
    }
}

fn ocf_command(resource: &Resource, agent: &str, program: &Path, task: Task, time: Duration) -> Command {
    let action = match task {
        Task::Start => "start",
        Task::Stop => "stop",
        Task::Monitor => "monitor",
    };
    let (provider, name) = match agent.split_once(':') {
        Some((provider, name)) if !agent.contains('/') => (provider, name),
        Some(_) | None => ("", program.file_name().and_then(|name| name.to_str()).unwrap_or_default()),
    };
    let mut command = Command::new(program);
    command.arg(action).env("OCF_ROOT", ocf_root());
    command.env("OCF_RA_VERSION_MAJOR", "1").env("OCF_RA_VERSION_MINOR", "0");
    command.env("OCF_RESOURCE_INSTANCE", &resource.name);
    command.env("OCF_RESOURCE_PROVIDER", provider).env("OCF_RESOURCE_TYPE", name);
    if task == Task::Monitor {
        command.env("OCF_CHECK_LEVEL", "0");
        command.env("OCF_RESKEY_CRM_meta_interval", resource.interval.as_millis().to_string());
    }
    command.env("OCF_RESKEY_CRM_meta_timeout", time.as_millis().to_string());
    if let Runner::Ocf { options, .. } = &resource.runner {
        command.envs(options.iter().map(|(key, value)| (format!("OCF_RESKEY_{key}"), value)));
    }
    command
}

/// How a program ended.
enum Ended {
    Code(i32, String),
    TimedOut,
    Interrupted,
    NotStarted(std::io::Error),
}

fn ocf(task: Task, ended: &Ended) -> (Answer, String) {
    match ended {
        Ended::Code(0, _) => (Answer::Ok, String::new()),
        // Promoted: it runs, as more than we asked for.
        Ended::Code(8, _) if task == Task::Monitor => (Answer::Ok, String::new()),
        Ended::Code(7, _) if task == Task::Monitor => (Answer::NotRunning, String::new()),
        Ended::Code(code, words) => {
            let meaning = match code {
                2 => "wrong arguments",
                3 => "it does not know this action",
                4 => "not permitted",
                5 => "something it needs is not installed",
                6 => "wrong configuration",
                7 => "not running",
                8 | 9 => "promoted",
                _ => "failed",
            };
            (Answer::Failed, format!("exit code {code} ({meaning}): {words}"))
        }
        Ended::TimedOut => (Answer::TimedOut, "it did not end in time".into()),
        Ended::Interrupted => (Answer::TimedOut, INTERRUPTED.into()),
        Ended::NotStarted(error) => (Answer::Failed, error.to_string()),
    }
}

fn systemd(task: Task, ended: &Ended) -> (Answer, String) {
    match ended {
        Ended::Code(0, _) => (Answer::Ok, String::new()),
        Ended::Code(_, words) if task == Task::Monitor => match words.as_str() {
            "inactive" | "unknown" => (Answer::NotRunning, String::new()),
            "activating" | "reloading" | "refreshing" => (Answer::Ok, String::new()),
            other => (Answer::Failed, format!("the unit is {other}")),
        },
        Ended::Code(code, words) => (Answer::Failed, format!("systemctl: exit code {code}: {words}")),
        Ended::TimedOut => (Answer::TimedOut, "systemctl did not end in time".into()),
        Ended::Interrupted => (Answer::TimedOut, INTERRUPTED.into()),
        Ended::NotStarted(error) if error.kind() == std::io::ErrorKind::NotFound => {
            not_there(task, "there is no systemctl on this machine")
        }
        Ended::NotStarted(error) => (Answer::Failed, error.to_string()),
    }
}

fn carry_out(mut command: Command, time: Duration, interrupted: &AtomicBool) -> Ended {
    let begin = Instant::now();
    let start = || {
        let (reader, writer) = std::io::pipe()?;
        // These are between the agent and its service manager.
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        command.process_group(0).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn()?;
        // The command holds ends of the pipe.
        drop(command);
        Ok((child, listen(reader)))
    };
    let (mut child, words) = match start() {
        Ok(started) => started,
        Err(error) => return Ended::NotStarted(error),
    };
    loop {
        match child.try_wait() {
            Ok(None) if begin.elapsed() < time && !interrupted.load(Ordering::Relaxed) => {
                std::thread::sleep(POLL)
            }
            Ok(Some(status)) => {
                let words = words.recv_timeout(LAST_WORDS).unwrap_or_default();
                // Killed by a signal: no code of its own.
                return Ended::Code(status.code().unwrap_or(-1), words);
            }
            Ok(None) | Err(_) => {
                if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait();
                let was = interrupted.load(Ordering::Relaxed);
                return if was { Ended::Interrupted } else { Ended::TimedOut };
            }
        }
    }
}

/// The words of a task on one line. What it started may hold the pipe for ever: it is read on and forgotten,
/// so that a service that prints never blocks.
fn listen(mut reader: std::io::PipeReader) -> Receiver<String> {
    let (send, words) = channel();
    std::thread::spawn(move || {
        let (mut kept, mut buffer, mut sent) = (Vec::new(), [0; 1024], false);
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            let room = WORDS_MAX.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
            if kept.len() == WORDS_MAX && !sent {
                sent = send.send(line(&kept)).is_ok();
            }
        }
        if !sent {
            // The one who asked may have stopped waiting.
            let _ = send.send(line(&kept));
        }
    });
    words
}

fn line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site_config::RunsOn;
    use std::os::unix::fs::PermissionsExt as _;

    fn resource(runner: Runner) -> Resource {
        let second = Duration::from_secs(1);
        Resource {
            name: "dns".into(),
            runner,
            on: RunsOn::Infrastructure,
            order: 0,
            start_timeout: second,
            stop_timeout: second,
            interval: second,
        }
    }

    fn agent(script: &str) -> (tempfile::TempDir, Resource) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = [("config".to_owned(), "/etc/x y".to_owned())].into();
        (directory, resource(Runner::Ocf { agent: path.display().to_string(), options }))
    }

    fn finish(resource: &Resource, task: Task) -> (Answer, String) {
        run(resource, task, &AtomicBool::new(false))
    }

    #[test]
    fn every_exit_code_has_its_meaning() {
        let (_directory, resource) = agent("echo some words; exit $(cat \"$(dirname \"$0\")/code\")");
        let Runner::Ocf { agent, .. } = &resource.runner else { panic!() };
        let code = Path::new(agent).with_file_name("code");
        for (exit, task, expected) in [
            ("0", Task::Start, Answer::Ok),
            ("0", Task::Stop, Answer::Ok),
            ("0", Task::Monitor, Answer::Ok),
            ("8", Task::Monitor, Answer::Ok),
            ("7", Task::Monitor, Answer::NotRunning),
            ("7", Task::Stop, Answer::Failed),
            ("1", Task::Monitor, Answer::Failed),
            ("5", Task::Start, Answer::Failed),
            ("77", Task::Stop, Answer::Failed),
        ] {
            std::fs::write(&code, exit).unwrap();
            let (answer, words) = finish(&resource, task);
            assert_eq!(answer, expected, "{exit} {task:?}");
            assert_eq!(answer == Answer::Failed, words.contains("some words"), "{words}");
        }
    }

    #[test]
    fn an_agent_is_told_what_the_standard_says() {
        let (_directory, resource) = agent(
            "[ \"$1 $OCF_RESKEY_config $OCF_RESOURCE_INSTANCE $OCF_ROOT $OCF_CHECK_LEVEL\" = \
             'monitor /etc/x y dns /usr/lib/ocf 0' ] || exit 6",
        );
        assert_eq!(finish(&resource, Task::Monitor).0, Answer::Ok);
    }

    /// What a start leaves behind lives on; a start that hangs is killed with all it started.
    #[test]
    fn a_service_outlives_its_start_and_a_hanging_start_does_not() {
        let (directory, resource) = agent(
            "here=$(dirname \"$0\"); \
             if [ \"$1\" = start ]; then sleep 30 & echo $! >\"$here/pid\"; exit 0; fi; \
             sleep 30 & echo $! >\"$here/pid\"; sleep 30",
        );
        let pid = || {
            let text = std::fs::read_to_string(directory.path().join("pid")).unwrap();
            Pid::from_raw(text.trim().parse().unwrap()).unwrap()
        };
        let lives = |pid: Pid| {
            let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
            std::fs::read_to_string(path).is_ok_and(|stat| !stat.contains(") Z "))
        };
        assert_eq!(finish(&resource, Task::Start), (Answer::Ok, String::new()));
        let service = pid();
        assert!(lives(service));
        rustix::process::kill_process(service, Signal::KILL).unwrap();
        assert_eq!(finish(&resource, Task::Stop).0, Answer::TimedOut);
        let begin = Instant::now();
        while lives(pid()) && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(POLL);
        }
        assert!(!lives(pid()));
    }

    /// The role was lost: nothing that hangs is waited for.
    #[test]
    fn a_task_can_be_interrupted() {
        let (_directory, mut resource) = agent("exec sleep 30");
        resource.start_timeout = Duration::from_secs(30);
        let (interrupted, begin) = (AtomicBool::new(false), Instant::now());
        let (answer, words) = std::thread::scope(|scope| {
            let task = scope.spawn(|| run(&resource, Task::Start, &interrupted));
            std::thread::sleep(Duration::from_millis(100));
            assert!(!task.is_finished());
            interrupted.store(true, Ordering::Relaxed);
            task.join().unwrap()
        });
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert_eq!((answer, words.as_str()), (Answer::TimedOut, "it was interrupted, for it must stop"));
    }

    /// A service agent that Debian ships, with its shell functions and all.
    #[test]
    fn an_agent_of_the_distribution_runs() {
        let agent = Path::new("/usr/lib/ocf/resource.d/heartbeat/Dummy");
        if !agent.exists() {
            println!("skipped: there is no {} (Debian: resource-agents)", agent.display());
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("dummy.state");
        let options = [("state".to_owned(), state.display().to_string())].into();
        let mut dummy = resource(Runner::Ocf { agent: "heartbeat:Dummy".into(), options });
        (dummy.start_timeout, dummy.stop_timeout) = (Duration::from_secs(20), Duration::from_secs(20));
        assert_eq!(finish(&dummy, Task::Monitor), (Answer::NotRunning, String::new()));
        assert_eq!(finish(&dummy, Task::Start), (Answer::Ok, String::new()));
        assert!(state.exists());
        assert_eq!(finish(&dummy, Task::Monitor), (Answer::Ok, String::new()));
        assert_eq!(finish(&dummy, Task::Stop), (Answer::Ok, String::new()));
        assert_eq!(finish(&dummy, Task::Stop), (Answer::Ok, String::new()), "a stop of what is stopped");
        assert_eq!(finish(&dummy, Task::Monitor), (Answer::NotRunning, String::new()));
        let nowhere = [("state".to_owned(), "/nowhere/at/all".to_owned())].into();
        dummy.runner = Runner::Ocf { agent: "heartbeat:Dummy".into(), options: nowhere };
        let (answer, words) = finish(&dummy, Task::Start);
        assert!(answer == Answer::Failed && words.starts_with("exit code"), "{words}");
    }

    #[test]
    fn what_is_not_installed_does_not_run_and_cannot_start() {
        let gone = resource(Runner::Ocf { agent: "nobody:nothing".into(), options: [].into() });
        assert_eq!(finish(&gone, Task::Monitor).0, Answer::NotRunning);
        assert_eq!(finish(&gone, Task::Stop).0, Answer::Ok);
        let (answer, words) = finish(&gone, Task::Start);
        assert!(
            answer == Answer::Failed && words.contains("/usr/lib/ocf/resource.d/nobody/nothing"),
            "{words}"
        );
    }

    /// Where there is no systemd a unit cannot run: it fails to start, and no node is reset for it.
    #[test]
    fn a_machine_without_systemd_says_so() {
        let unit = resource(Runner::Systemd { unit: "no-such-unit-of-bulkhead.service".into() });
        assert_eq!(finish(&unit, Task::Monitor).0, Answer::NotRunning);
        let (answer, words) = finish(&unit, Task::Start);
        assert_eq!(answer, Answer::Failed, "{words}");
        if Path::new(SYSTEMD_RUNS).exists() {
            println!("skipped: systemd runs here");
            return;
        }
        assert!(words.contains("systemd does not run here"), "{words}");
        assert_eq!(finish(&unit, Task::Stop).0, Answer::Ok);
    }

    #[test]
    fn systemds_words_are_understood() {
        let said = |code, words: &str| systemd(Task::Monitor, &Ended::Code(code, words.into())).0;
        assert_eq!(said(0, "active"), Answer::Ok);
        assert_eq!(said(3, "activating"), Answer::Ok);
        assert_eq!(said(3, "inactive"), Answer::NotRunning);
        assert_eq!(said(3, "failed"), Answer::Failed);
        assert_eq!(systemd(Task::Start, &Ended::Code(1, "no".into())).0, Answer::Failed);
    }
}
