//! A machine that is on: starting QEMU, ending it in all the ways power ends.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::command_line::{QEMU, Wiring};
use super::volatile::Recorded;
use super::{Drive, Machine, Qmp};
use crate::limit::Permit;
use crate::process::{Owned, find_program};

/// QEMU connects within a fraction of a second, even on a busy machine within this.
const START_MAX: Duration = Duration::from_secs(30);
/// What of QEMU's error output is shown.
const STDERR_SHOWN: u64 = 4096;

/// A machine with its power on. Dropping it cuts the power.
#[derive(Debug)]
pub struct Powered {
    name: String,
    // The order is that of dropping: the process is gone before its slot is free.
    process: Owned,
    qmp: Qmp,
    stderr: PathBuf,
    /// The disks that a power cut takes something away from.
    volatile: Vec<Recorded>,
    _permit: Arc<Permit>,
}

impl Machine {
    /// Switches the machine on; waits for a QEMU slot first.
    ///
    /// # Errors
    /// When QEMU or the firmware is missing, or QEMU does not start; with what QEMU printed.
    pub fn power_on(&self) -> Result<Powered> {
        if find_program(QEMU).is_none() {
            bail!("{QEMU} is missing.\n  Next: run `cargo xtask doctor --fix`");
        }
        let permit = match &self.permit {
            Some(permit) => Arc::clone(permit),
            None => Arc::new(Permit::take(1)?),
        };
        let variables = self.variables();
        if !variables.exists() {
            std::fs::copy(self.firmware.variables()?, &variables)
                .with_context(|| format!("making the firmware's variables {}", variables.display()))?;
            std::fs::set_permissions(&variables, std::fs::Permissions::from_mode(0o644))?;
        }
        std::fs::write(self.script(), self.replay()?)?;
        std::fs::set_permissions(self.script(), std::fs::Permissions::from_mode(0o755))?;
        for port in &self.ports {
            // A QEMU that was killed leaves its end behind, and the next one could not take it.
            let _ = std::fs::remove_file(port.machine_socket());
        }
        let volatile: Vec<_> = self.drives.iter().filter_map(Drive::recorded).collect();
        volatile.iter().try_for_each(Recorded::begin)?;
        let (serial, qmp) = (listen(&self.socket("serial"))?, listen(&self.socket("qmp"))?);
        let second = match &self.second {
            Some(console) => Some((console, listen(&self.socket("second"))?)),
            None => None,
        };
        let stderr = self.script().with_extension("stderr");
        let mut command = Command::new(QEMU);
        command.args(self.arguments(Wiring::Harness)?);
        let output = File::create(&stderr)?;
        let streams = [Stdio::null(), Stdio::from(output.try_clone()?), Stdio::from(output)];
        let mut process = Owned::start(&command, streams)?;
        let deadline = Instant::now() + START_MAX;
        let mut connect = |listener: &UnixListener, what: &str| {
            accept(listener, deadline, &mut process).with_context(|| {
                let (name, said, script) = (&self.name, tail(&stderr), self.script());
                format!(
                    "QEMU of {name} did not connect its {what}.\n  It printed: {said}\n  Command: {}",
                    script.display()
                )
            })
        };
        self.console().attach(connect(&serial, "console")?)?;
        if let Some((console, listener)) = &second {
            console.attach(connect(listener, "second console")?)?;
        }
        let qmp = Qmp::connect(connect(&qmp, "control socket")?)?;
        Ok(Powered { name: self.name.clone(), process, qmp, stderr, volatile, _permit: permit })
    }
}

impl Powered {
    /// QEMU's process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// QEMU's control socket.
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// Pulls the plug: kills QEMU, by its process id, and waits until it is gone.
    ///
    /// # Errors
    /// When QEMU had ended before, which a test that cuts power does not expect.
    pub fn power_cut(mut self) -> Result<()> {
        if let Some(status) = self.process.ended()? {
            bail!("QEMU of {} had ended before the power cut, {}", self.name, self.how(status));
        }
        self.process.kill();
        for disk in &self.volatile {
            let lost = disk.cut()?.map_or_else(|| "all are there".into(), |lost| lost.to_string());
            eprintln!("{}: of the writes that were not flushed, {lost}", self.name);
        }
        Ok(())
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// When QEMU is gone.
    pub fn reset(&self) -> Result<()> {
        self.qmp.reset()
    }

    /// Presses the power button and waits until the guest has switched the machine off.
    ///
    /// # Errors
    /// When it does not within `timeout`; then the power is cut.
    pub fn shutdown(self, timeout: Duration) -> Result<()> {
        self.qmp.execute("system_powerdown", json!({}))?;
        self.wait_off(timeout)
    }

    /// Waits until the machine switches itself off.
    ///
    /// # Errors
    /// When it does not within `timeout`, and when QEMU fails. Either way the power is off then.
    pub fn wait_off(mut self, timeout: Duration) -> Result<()> {
        match self.process.wait(timeout)? {
            None => {
                bail!("{} was still on after {:.1} s; its power was cut", self.name, timeout.as_secs_f64())
            }
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("QEMU of {} ended {}", self.name, self.how(status)),
        }
    }

    /// Whether the machine is still on.
    ///
    /// # Errors
    /// When the kernel refuses the question.
    pub fn is_on(&mut self) -> Result<bool> {
        Ok(self.process.ended()?.is_none())
    }

    fn how(&self, status: ExitStatus) -> String {
        format!("with {status}; it printed: {}", tail(&self.stderr))
    }
}

/// Starts a QEMU that connects to the control socket at `path`: the process, and the connection.
///
/// # Errors
/// When it does not start, or does not connect.
pub(crate) fn await_qemu(path: &Path, start: impl FnOnce() -> Result<Owned>) -> Result<(Owned, UnixStream)> {
    let listener = listen(path)?;
    let mut process = start()?;
    let stream = accept(&listener, Instant::now() + START_MAX, &mut process);
    Ok((process, stream.context("QEMU did not connect its control socket")?))
}

fn listen(path: &Path) -> Result<UnixListener> {
    // Left from the last power-on.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(|| format!("listening on {}", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// QEMU's connection, or how QEMU ended instead.
fn accept(listener: &UnixListener, deadline: Instant, process: &mut Owned) -> Result<UnixStream> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = process.ended()? {
            bail!("it ended with {status}");
        }
        if Instant::now() >= deadline {
            bail!("nothing came within {START_MAX:?}; it was killed");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The end of QEMU's error output.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(STDERR_SHOWN)))?;
        let mut bytes = Vec::new();
        file.take(STDERR_SHOWN).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    match read() {
        Ok(text) if text.is_empty() => "nothing".to_owned(),
        Ok(text) => text,
        Err(error) => format!("(unreadable: {error})"),
    }
}
