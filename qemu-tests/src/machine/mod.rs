//! Computers in QEMU: firmware, disks, network ports, a console; power on, power cut, reset.
//!
//! [`Machine`] is the computer, with its disks and the firmware's variables, which live on while the
//! power is off. [`Powered`] is the time between power-on and power-off; dropping it pulls the plug.
//!
//! ```no_run
//! use std::time::Duration;
//! use qemu_tests::{artefacts::Artefacts, machine::{Drive, Machine}};
//! Artefacts::of("doc", |artefacts| {
//!     let machine = Machine::new(artefacts, "node-1")?.drive(Drive::new("/tmp/disk.img"));
//!     let powered = machine.power_on()?;
//!     machine.console().wait_for("BOOT slot=", Duration::from_secs(30))?;
//!     powered.power_cut()
//! }).unwrap();
//! ```
//!
//! What a power cut proves: QEMU is killed, so all that the guest keeps in memory is gone, and a
//! request in flight is done or not. What QEMU wrote to the image file stays, flushed or not, but on
//! disks that are [`Drive::volatile`], which lose and reorder what was not flushed.

mod command_line;
mod drive;
mod firmware;
mod powered;
mod qmp;
mod volatile;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::artefacts::Artefacts;
use crate::console::Console;
use crate::limit::Permit;
use crate::switch::Port;

pub use drive::{BlockSize, Bus, Cache, Drive};
pub use firmware::Firmware;
pub use powered::Powered;
pub(crate) use powered::await_qemu;
pub use qmp::{Event, Qmp};

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceleration {
    /// QEMU's translator, one thread per processor. Works everywhere, nested KVM included.
    Tcg,
    /// The processor itself.
    Kvm,
}

impl Acceleration {
    /// TCG, unless `BULKHEAD_ACCEL=kvm`: a `/dev/kvm` that opens may still be too slow or too limited
    /// for Linux guests, which cannot be seen from outside.
    ///
    /// # Errors
    /// When the variable has another value.
    pub fn chosen() -> Result<Self> {
        match std::env::var("BULKHEAD_ACCEL").as_deref() {
            Err(_) | Ok("tcg") => Ok(Self::Tcg),
            Ok("kvm") => Ok(Self::Kvm),
            Ok(other) => bail!("BULKHEAD_ACCEL is `{other}`; it must be `tcg` or `kvm`"),
        }
    }
}

/// A hardware watchdog; when it bites, the machine resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// The chipset's own (iTCO in Linux). The firmware's boot-services timer is another matter.
    Ich9,
    /// Intel's PCI watchdog (i6300esb in Linux).
    I6300esb,
}

/// A computer. It is off.
#[derive(Clone, Debug)]
pub struct Machine {
    name: String,
    /// Holds what outlives the power: variables, scripts, the console's files.
    directory: PathBuf,
    sockets: PathBuf,
    console: Console,
    /// On the second serial port, where a guest may have a shell.
    second: Option<Console>,
    firmware: Firmware,
    acceleration: Acceleration,
    processor: Option<String>,
    processors: u32,
    memory_mib: u32,
    drives: Vec<Drive>,
    ports: Vec<Port>,
    watchdogs: Vec<Watchdog>,
    panic_device: bool,
    extra: Vec<String>,
    permit: Option<Arc<Permit>>,
}

impl Machine {
    /// A computer with one processor, 512 MiB, firmware without Secure Boot, no disk and no network.
    /// Its files are in the directory of `artefacts`, under its name.
    ///
    /// # Errors
    /// When the console's files cannot be made, or `BULKHEAD_ACCEL` is wrong.
    pub fn new(artefacts: &Artefacts, name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            directory: artefacts.directory().to_owned(),
            sockets: artefacts.socket(""),
            console: Console::new(artefacts.directory(), name)?,
            second: None,
            firmware: Firmware::Plain,
            acceleration: Acceleration::chosen()?,
            processor: None,
            processors: 1,
            memory_mib: 512,
            drives: Vec::new(),
            ports: Vec::new(),
            watchdogs: Vec::new(),
            panic_device: false,
            extra: Vec::new(),
            permit: None,
        })
    }

    /// Begins with the firmware's variables in `file` instead of empty ones, as those of a machine that was
    /// on before ([`Machine::variables`]): the firmware then starts 0.6 s sooner under TCG.
    ///
    /// # Errors
    /// When the file cannot be copied.
    pub fn variables_from(self, file: &Path) -> Result<Self> {
        std::fs::copy(file, self.variables()).with_context(|| format!("copying {}", file.display()))?;
        Ok(self)
    }

    /// Sets the firmware.
    #[must_use]
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// Sets the acceleration, whatever `BULKHEAD_ACCEL` says.
    #[must_use]
    pub fn acceleration(mut self, acceleration: Acceleration) -> Self {
        self.acceleration = acceleration;
        self
    }

    /// Sets the processor model (`-cpu`); by default all that can be emulated, with nested
    /// virtualisation, or the host's.
    #[must_use]
    pub fn processor(mut self, model: &str) -> Self {
        self.processor = Some(model.to_owned());
        self
    }

    /// Sets the number of processors. Each costs a host thread, and firmware starts slower with more.
    #[must_use]
    pub fn processors(mut self, count: u32) -> Self {
        self.processors = count;
        self
    }

    /// Sets the size of the memory.
    #[must_use]
    pub fn memory_mib(mut self, mebibytes: u32) -> Self {
        self.memory_mib = mebibytes;
        self
    }

    /// Adds a disk; the firmware tries disks in the order in which they were added.
    #[must_use]
    pub fn drive(mut self, drive: Drive) -> Self {
        self.drives.push(drive);
        self
    }

    /// Adds a network card in `port`. Without one there is no network at all.
    #[must_use]
    pub fn port(mut self, port: Port) -> Self {
        self.ports.push(port);
        self
    }

    /// Adds a hardware watchdog.
    #[must_use]
    pub fn watchdog(mut self, watchdog: Watchdog) -> Self {
        self.watchdogs.push(watchdog);
        self
    }

    /// Adds a device by which a guest reports its panic (`GUEST_PANICKED`), and then goes on as the
    /// guest decides.
    #[must_use]
    pub fn panic_device(mut self) -> Self {
        self.panic_device = true;
        self
    }

    /// Adds an argument of QEMU as it is.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.extra.push(argument.to_owned());
        self
    }

    /// Adds a second serial port, with a console of its own in `<name>.second.log`.
    ///
    /// # Errors
    /// When the console's files cannot be made.
    pub fn second_console(mut self) -> Result<Self> {
        self.second = Some(Console::new(&self.directory, &format!("{}.second", self.name))?);
        Ok(self)
    }

    /// Uses a permit that other machines share; otherwise each power-on waits for a slot of its own.
    /// Tests with several machines need this: see [`crate::limit`].
    #[must_use]
    pub fn permit(mut self, permit: &Arc<Permit>) -> Self {
        self.permit = Some(Arc::clone(permit));
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The console; it is one record over all power-ons.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// The console on the second serial port, if there is one.
    pub fn second(&self) -> Option<&Console> {
        self.second.as_ref()
    }

    /// The file with the firmware's variables; it is made at the first power-on.
    pub fn variables(&self) -> PathBuf {
        self.directory.join(format!("{}.vars.fd", self.name))
    }

    /// A script that starts this machine by hand, its console on the terminal.
    pub fn script(&self) -> PathBuf {
        self.directory.join(format!("{}.sh", self.name))
    }

    fn socket(&self, what: &str) -> PathBuf {
        self.sockets.join(format!("{}.{what}", self.name))
    }
}
