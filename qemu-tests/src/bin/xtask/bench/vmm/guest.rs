//! A guest in the process of a monitor: started, heard, and weighed.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::process::Owned;

use super::{Turn, code};

/// MiB of memory of the guests that are timed.
const MEMORY: u32 = 128;
/// A guest that says nothing for so long never will.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// QEMU's ways to give a guest this node's processor: all of it, or without what some nodes cannot pass on.
const PROCESSORS: [&str; 2] = ["host", "host,-arch-capabilities"];

/// Who runs a guest.
pub enum Monitor {
    Bulkhead(PathBuf),
    Qemu(Qemu),
}

/// QEMU as it runs guests here.
#[derive(Clone)]
pub struct Qemu {
    pub processor: &'static str,
}

impl Qemu {
    /// The first way in which it does; or why it does not.
    pub fn find(artefacts: &Artefacts) -> Result<Result<Self>> {
        let mut why = anyhow!("it was not tried");
        for processor in PROCESSORS {
            let qemu = Self { processor };
            match turn(artefacts, &Monitor::Qemu(qemu.clone())) {
                Ok(_) => return Ok(Ok(qemu)),
                Err(error) => why = error,
            }
        }
        Ok(Err(why))
    }
}

impl Monitor {
    /// Where the registers of a guest's first device are.
    pub const fn first_device(&self) -> u32 {
        match self {
            Self::Bulkhead(_) => 0xd000_0000,
            Self::Qemu(_) => 0xfeb0_0000,
        }
    }

    /// The command that runs this kernel, with a disk if there is one. Both have the guest's memory in a file
    /// without a name.
    pub fn command(&self, artefacts: &Artefacts, kernel: &Path, disk: Option<&str>) -> Result<Command> {
        match self {
            Self::Bulkhead(program) => {
                let mut command = Command::new(program);
                command.arg("vmm").arg(described(artefacts, kernel, MEMORY, disk)?).arg("--alone");
                Ok(command)
            }
            Self::Qemu(Qemu { processor }) => {
                let mut command = Command::new("qemu-system-x86_64");
                // As QEMU's manual has it for the least of devices.
                let machine =
                    "microvm,accel=kvm,x-option-roms=off,pit=off,pic=off,rtc=off,memory-backend=ram";
                command.args(["-M", machine, "-cpu", processor, "-smp", "1", "-m", &format!("{MEMORY}M")]);
                command.args(["-object", &format!("memory-backend-memfd,id=ram,size={MEMORY}M")]);
                if let Some(uri) = disk {
                    let drive = format!("file={uri},format=raw,if=none,id=disk,cache=none");
                    command.args(["-drive", &drive, "-global", "virtio-mmio.force-legacy=false", "-device"]);
                    command.arg("virtio-blk-device,drive=disk,bus=virtio-mmio-bus.0");
                }
                command.args(["-nodefaults", "-no-user-config", "-nographic", "-serial", "stdio", "-kernel"]);
                command.arg(kernel);
                Ok(command)
            }
        }
    }
}

/// The description of a guest of ours.
pub fn described(artefacts: &Artefacts, kernel: &Path, mib: u32, disk: Option<&str>) -> Result<PathBuf> {
    let path = artefacts.path("guest.toml");
    let kernel = kernel.display();
    let disk = disk.map(|uri| format!("[[disk]]\nuri = \"{uri}\"\n")).unwrap_or_default();
    let text = format!(
        "version = 1\nname = \"bench\"\nprocessors = 1\nmemory = \"{mib}MiB\"\nkernel = \"{kernel}\"\n{disk}"
    );
    fs::write(&path, text)?;
    Ok(path)
}

/// A guest that runs. Dropped, it is killed.
pub struct Guest {
    process: Owned,
    said: Receiver<(u8, Instant)>,
    errors: PathBuf,
}

impl Guest {
    /// Starts it; when that was.
    pub fn start(artefacts: &Artefacts, command: &Command, stdin: Stdio) -> Result<(Self, Instant)> {
        let errors = artefacts.path("errors");
        let stderr = fs::File::create(&errors)?;
        let begun = Instant::now();
        let mut process = Owned::start(command, [stdin, Stdio::piped(), stderr.into()])?;
        let said = listen(process.stdout().context("its output")?);
        Ok((Self { process, said, errors }, begun))
    }

    /// When it said this, which must be what it says next.
    pub fn says(&self, expected: u8) -> Result<Instant> {
        let heard = self.said.recv_timeout(SILENCE_MAX);
        let why = || fs::read_to_string(&self.errors).unwrap_or_default().trim().to_owned();
        let (byte, at) = heard.map_err(|_| anyhow!("the guest is silent: {}", why()))?;
        ensure!(byte == expected, "the guest said {byte:#x} in place of {expected:#x}: {}", why());
        Ok(at)
    }

    pub const fn process(&mut self) -> &mut Owned {
        &mut self.process
    }
}

/// Hears each byte when it comes, until there are no more.
fn listen(mut from: ChildStdout) -> Receiver<(u8, Instant)> {
    let (tell, said) = channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        while let Ok(1) = from.read(&mut byte) {
            if tell.send((byte[0], Instant::now())).is_err() {
                return;
            }
        }
    });
    said
}

/// One guest from its start to its end.
pub fn turn(artefacts: &Artefacts, monitor: &Monitor) -> Result<Turn> {
    let kernel = artefacts.path("begins");
    fs::write(&kernel, code::begins())?;
    let (guest, begun) = Guest::start(artefacts, &monitor.command(artefacts, &kernel, None)?, Stdio::null())?;
    let first = guest.says(b'a')?;
    let last = guest.says(b'b')?;
    let (own, resident) = beside_its_guest(guest.process.id())?;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(Turn {
        first_ms: micros(first - begun) / 1e3,
        exit_us: micros(last - first) / f64::from(code::EXITS),
        own_mib: own / 1024.0,
        resident_mib: resident / 1024.0,
    })
}

/// KiB that a process has in memory beside its guest's (proc(5), `smaps`): what is of no file, so that each
/// such process has its own; and all, with the program and libraries that they share.
fn beside_its_guest(id: u32) -> Result<(f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{id}/smaps"))?;
    let (mut own, mut resident, mut is_guests, mut guests) = (0.0, 0.0, false, 0.0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
        let Some(key) = key.strip_suffix(':') else {
            // The head of a mapping; the guest's memory is a file without a name.
            is_guests = line.contains(" /memfd:");
            continue;
        };
        let Ok(kib) = value.parse::<f64>() else { continue };
        match (key, is_guests) {
            ("Size", true) => guests += kib,
            ("Anonymous", false) => own += kib,
            ("Rss", false) => resident += kib,
            _ => {}
        }
    }
    ensure!(f64::from(MEMORY) * 1024.0 <= guests, "the guest's memory was not found in {id}'s");
    Ok((own, resident))
}
