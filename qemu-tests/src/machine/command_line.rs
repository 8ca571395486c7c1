//! The arguments of QEMU for a machine, and the script that replays them by hand.

use std::path::Path;

use anyhow::{Result, bail};

use super::{Acceleration, Bus, Machine, Watchdog};
use crate::process::quote;

/// The program.
pub(super) const QEMU: &str = "qemu-system-x86_64";

/// To what the machine's console, control and network ports lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wiring {
    /// To the harness.
    Harness,
    /// To the terminal of a person, and to no network.
    Terminal,
}

impl Machine {
    pub(super) fn arguments(&self, wiring: Wiring) -> Result<Vec<String>> {
        let mut list = Arguments::default();
        list.words("-nodefaults -no-user-config -display none");
        list.pair("-name", self.name.clone());
        list.pair("-machine", format!("q35,smm={}", if self.firmware.is_guarded() { "on" } else { "off" }));
        let (accelerator, processor) = match self.acceleration {
            Acceleration::Tcg => ("tcg,thread=multi", "max,+svm"),
            Acceleration::Kvm => ("kvm", "host"),
        };
        list.pair("-accel", accelerator);
        list.pair("-cpu", self.processor.clone().unwrap_or_else(|| processor.to_owned()));
        list.pair("-smp", self.processors.to_string());
        list.pair("-m", format!("{}M", self.memory_mib));
        list.pair("-boot", "menu=off,splash-time=0");
        self.add_firmware(&mut list)?;
        self.add_drives(&mut list, wiring)?;
        self.add_ports(&mut list, wiring)?;
        self.add_watchdogs(&mut list);
        match wiring {
            Wiring::Harness => {
                // QEMU connects to us, not we to it: nothing that it prints early is lost.
                let socket = |what: &str| path(&self.socket(what)).map(|path| (what.to_owned(), path));
                for (what, path) in [socket("serial")?, socket("qmp")?] {
                    list.pair("-chardev", format!("socket,id={what},path={path}"));
                }
                list.pair("-serial", "chardev:serial");
                if self.second.is_some() {
                    let socket = path(&self.socket("second"))?;
                    list.pair("-chardev", format!("socket,id=second,path={socket}"));
                    list.pair("-serial", "chardev:second");
                }
                list.pair("-mon", "chardev=qmp,mode=control");
            }
            Wiring::Terminal => list.pair("-serial", "mon:stdio"),
        }
        list.list.extend(self.extra.iter().cloned());
        Ok(list.list)
    }

    /// A shell script that starts this machine on a terminal, on the same disks.
    pub(super) fn replay(&self) -> Result<String> {
        let mut text = format!(
            "#!/bin/sh\n# {} as the test started it, its console here; leave with Ctrl-A X.\n\
             # Writes go to the disks and variables of the kept run.\nexec {QEMU}",
            self.name
        );
        for argument in self.arguments(Wiring::Terminal)? {
            text.push_str(if argument.starts_with('-') { " \\\n  " } else { " " });
            text.push_str(&quote(&argument));
        }
        text.push('\n');
        Ok(text)
    }

    fn add_firmware(&self, list: &mut Arguments) -> Result<()> {
        if self.firmware.is_guarded() {
            list.words("-global driver=cfi.pflash01,property=secure,value=on -global ICH9-LPC.disable_s3=1");
        }
        let (code, variables) = (self.firmware.code()?, self.variables());
        list.pair("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={}", path(&code)?));
        list.pair("-drive", format!("if=pflash,unit=1,format=raw,file={}", path(&variables)?));
        Ok(())
    }

    fn add_drives(&self, list: &mut Arguments, wiring: Wiring) -> Result<()> {
        for (index, drive) in self.drives.iter().enumerate() {
            let (cache, image) = (drive.cache.name(), path(&drive.image)?);
            let access = if drive.read_only { "on" } else { "off" };
            match drive.recorded().filter(|_| wiring == Wiring::Harness) {
                Some(disk) => {
                    let record = path(&disk.record())?;
                    let file =
                        |what, file| format!("driver=file,node-name=disk{index}-{what},filename={file}");
                    list.pair("-blockdev", format!("{},discard=unmap", file("image", image)));
                    list.pair("-blockdev", file("record", record));
                    list.pair(
                        "-blockdev",
                        format!(
                            "driver=blklogwrites,node-name=disk{index},file=disk{index}-image,\
                             log=disk{index}-record"
                        ),
                    );
                }
                None => list.pair(
                    "-drive",
                    format!(
                        "if=none,id=disk{index},format=raw,cache={cache},readonly={access},\
                         discard=unmap,file={image}"
                    ),
                ),
            }
            let device = match drive.bus {
                Bus::Virtio => "virtio-blk-pci".to_owned(),
                Bus::Nvme => "nvme".to_owned(),
                Bus::Ahci => format!("ide-hd,bus=ide.{index}"),
            };
            let size = drive.block_size.bytes();
            let serial = drive.serial.clone().unwrap_or_else(|| format!("disk{index}"));
            list.pair(
                "-device",
                format!(
                    "{device},drive=disk{index},serial={serial},bootindex={index},\
                     logical_block_size={size},physical_block_size={size}"
                ),
            );
        }
        Ok(())
    }

    fn add_ports(&self, list: &mut Arguments, wiring: Wiring) -> Result<()> {
        if self.ports.is_empty() {
            list.pair("-nic", "none");
        }
        for (index, port) in self.ports.iter().enumerate() {
            let backend = match wiring {
                Wiring::Harness => format!(
                    "dgram,id=net{index},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                    path(port.machine_socket())?,
                    path(port.switch_socket())?
                ),
                Wiring::Terminal => format!("hubport,id=net{index},hubid={index}"),
            };
            list.pair("-netdev", backend);
            // No option ROM: the firmware has its own driver, and the ROM is in a package of its own.
            list.pair("-device", format!("virtio-net-pci,netdev=net{index},mac={},romfile=", port.address()));
        }
        Ok(())
    }

    fn add_watchdogs(&self, list: &mut Arguments) {
        for watchdog in &self.watchdogs {
            match watchdog {
                Watchdog::Ich9 => list.pair("-global", "ICH9-LPC.noreboot=off"),
                Watchdog::I6300esb => list.pair("-device", "i6300esb"),
            }
        }
        list.pair("-action", "watchdog=reset");
        if self.panic_device {
            list.pair("-device", "pvpanic-pci");
            list.pair("-action", "panic=none");
        }
    }
}

#[derive(Default)]
struct Arguments {
    list: Vec<String>,
}

impl Arguments {
    fn words(&mut self, words: &str) {
        self.list.extend(words.split(' ').map(str::to_owned));
    }

    fn pair(&mut self, name: &str, value: impl Into<String>) {
        self.list.push(name.to_owned());
        self.list.push(value.into());
    }
}

/// A path inside an argument with commas: QEMU reads a doubled comma as one.
fn path(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) => Ok(text.replace(',', ",,")),
        None => bail!("QEMU's arguments are text; the path {} is not", path.display()),
    }
}
