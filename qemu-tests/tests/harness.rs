//! The harness against real QEMU and OVMF: consoles, power, events, networks, other disks.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::console::{Pattern, WaitCause};
use qemu_tests::disk::Image;
use qemu_tests::machine::{Bus, Drive, Firmware, Machine, Watchdog};
use qemu_tests::process::Run;
use qemu_tests::switch::{Address, PerMille, Rule, Switch};

/// A busy machine may be ten times slower than an idle one, where firmware takes three seconds.
const BOOT: Duration = Duration::from_secs(60);
const SYSTEMD_BOOT: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// A disk that starts systemd-boot, which then shows a menu and waits.
fn menu_disk(artefacts: &Artefacts) -> Result<Image> {
    let application = Path::new(SYSTEMD_BOOT);
    ensure!(application.is_file(), "{SYSTEMD_BOOT} is missing.\n  Next: run `cargo xtask doctor --fix`");
    let settings = artefacts.path("loader.conf");
    std::fs::write(&settings, "timeout 300\n")?;
    let files = [("/EFI/BOOT/BOOTX64.EFI", application), ("/loader/loader.conf", settings.as_path())];
    Image::with_esp(artefacts.path("menu.img"), &files)
}

/// What systemd-boot paints.
fn menu() -> Pattern {
    Pattern::prompt("Boot in ")
}

#[test]
fn firmware_with_an_empty_disk_says_so_on_the_console() -> Result<()> {
    Artefacts::of("empty-disk", |artefacts| {
        let disk = Image::create(artefacts.path("empty.img"), 16 * 1024 * 1024)?;
        for firmware in [Firmware::Plain, Firmware::Small] {
            let machine = Machine::new(artefacts, &format!("{firmware:?}"))?
                .firmware(firmware)
                .drive(Drive::new(disk.path()));
            let powered = machine.power_on()?;
            machine.console().wait_for("BdsDxe: ", BOOT)?;
            ensure!(powered.qmp().status()? == "running");
            powered.power_cut()?;
        }
        Ok(())
    })
}

#[test]
fn an_application_starts_from_each_kind_of_disk_and_a_cut_leaves_no_process() -> Result<()> {
    Artefacts::of("buses", |artefacts| {
        let disk = menu_disk(artefacts)?;
        for bus in [Bus::Virtio, Bus::Nvme, Bus::Ahci] {
            let machine =
                Machine::new(artefacts, &format!("{bus:?}"))?.drive(Drive::new(disk.path()).bus(bus));
            let begin = Instant::now();
            let powered = machine.power_on()?;
            machine.console().wait_for(menu(), BOOT)?;
            println!(
                "{bus:?}: the application printed {:.2} s after power-on",
                begin.elapsed().as_secs_f64()
            );
            let process = Path::new("/proc").join(powered.process_id().to_string());
            ensure!(process.exists(), "QEMU runs under the id we were told");
            powered.power_cut()?;
            ensure!(!process.exists(), "QEMU is still there after the power cut");
            let error = machine.console().wait_for("never", BOOT).err().context("a dead machine printed")?;
            ensure!(error.cause() == WaitCause::Closed, "{error}");
        }
        Ok(())
    })
}

#[test]
fn resets_are_seen_and_the_console_goes_on_over_power_cuts() -> Result<()> {
    Artefacts::of("reset", |artefacts| {
        let disk = menu_disk(artefacts)?;
        let machine = Machine::new(artefacts, "pc")?
            .drive(Drive::new(disk.path()))
            .watchdog(Watchdog::Ich9)
            .watchdog(Watchdog::I6300esb)
            .panic_device();
        let powered = machine.power_on()?;
        machine.console().wait_for(menu(), BOOT)?;
        powered.reset()?;
        let event = powered.qmp().wait_event("RESET", Duration::from_secs(10))?;
        ensure!(event.data.get("guest").and_then(|guest| guest.as_bool()) == Some(false), "{event:?}");
        machine.console().wait_for("BdsDxe: starting", BOOT)?;
        powered.power_cut()?;
        let powered = machine.power_on()?;
        machine.console().wait_for("BdsDxe: starting", BOOT)?;
        ensure!(machine.console().matching("BdsDxe: starting").len() == 3);
        machine.console().wait_for(menu(), BOOT)?;
        // Typing works: `Q` ends systemd-boot, and the firmware goes on to its next choice.
        machine.console().send("Q")?;
        machine.console().wait_for("BdsDxe: ", BOOT)?;
        drop(powered);
        let script = Run::new("sh").arg("-n").arg(machine.script()).succeed();
        script.map(drop)
    })
}

#[test]
fn a_wait_that_fails_shows_the_last_lines_and_the_artefacts_stay() -> Result<()> {
    Artefacts::of("timeout", |artefacts| {
        let disk = menu_disk(artefacts)?;
        let machine = Machine::new(artefacts, "pc")?.drive(Drive::new(disk.path()));
        let _powered = machine.power_on()?;
        machine.console().wait_for("BdsDxe: starting", BOOT)?;
        let wait = machine.console().wait_for("no such line", Duration::from_millis(200));
        let error = wait.err().context("a line came that cannot come")?;
        ensure!(error.cause() == WaitCause::TimedOut);
        let text = error.to_string();
        ensure!(text.contains("`no such line`") && text.contains("BdsDxe: starting"), "{text}");
        let log = std::fs::read_to_string(artefacts.path("pc.log"))?;
        ensure!(log.contains("BdsDxe: starting"), "{log}");
        Ok(())
    })
}

#[test]
fn qemu_that_does_not_start_says_why() -> Result<()> {
    Artefacts::of("bad-argument", |artefacts| {
        let machine = Machine::new(artefacts, "pc")?.arg("-no-such-option");
        let error = machine.power_on().err().context("QEMU started with a wrong option")?;
        let text = format!("{error:#}");
        ensure!(text.contains("-no-such-option") && text.contains("pc.sh"), "{text}");
        Ok(())
    })
}

#[test]
fn secure_boot_refuses_what_is_not_signed() -> Result<()> {
    Artefacts::of("secure-boot", |artefacts| {
        let disk = menu_disk(artefacts)?;
        let machine = Machine::new(artefacts, "pc")?
            .firmware(Firmware::SecureBootTestKey)
            .drive(Drive::new(disk.path()));
        let _powered = machine.power_on()?;
        let unwanted = [menu()];
        machine.console().wait_unless(
            Pattern::parts(["failed to load", "Access Denied"]),
            &unwanted,
            BOOT,
        )?;
        Ok(())
    })
}

#[test]
fn frames_of_real_firmware_reach_the_other_port() -> Result<()> {
    Artefacts::of("pxe", |artefacts| {
        let switch = Switch::new(artefacts, "lan", 1)?;
        let (card, observer) = (switch.port()?, switch.port()?);
        let peer = observer.peer()?;
        // Without a disk the firmware asks the network.
        let machine = Machine::new(artefacts, "pc")?.port(card.clone());
        let powered = machine.power_on()?;
        let frame = peer.receive(BOOT)?.context("the firmware sent nothing")?;
        let (to, from) = (frame.get(..6), frame.get(6..12));
        ensure!(from == Some(card.address().0.as_slice()), "from {from:?}");
        ensure!(
            to == Some([0xff; 6].as_slice()) || to.is_some_and(|to| to.starts_with(&[0x33, 0x33])),
            "to {to:?}"
        );
        let seen = switch.counters(&card);
        ensure!(seen.received >= 1 && seen.flooded >= 1 && seen.malformed == 0, "{seen:?}");
        // The way back: the card takes frames, and after a power cut the loss is counted.
        peer.send(card.address(), b"hello")?;
        switch.wait_counters(&card, BOOT, |counters| counters.delivered == 1)?;
        powered.power_cut()?;
        peer.send(card.address(), b"anybody there?")?;
        switch.wait_counters(&card, BOOT, |counters| counters.absent == 1)?;
        Ok(())
    })
}

#[test]
fn rules_lose_delay_double_and_split_as_told() -> Result<()> {
    Artefacts::of("switch", |artefacts| {
        let switch = Switch::new(artefacts, "lan", 42)?;
        let (a, b, c) = (switch.port()?, switch.port()?, switch.port()?);
        let (alice, bob, carol) = (a.peer()?, b.peer()?, c.peer()?);
        let soon = Duration::from_secs(5);
        let count = |peer: &qemu_tests::switch::Peer| -> Result<u64> {
            let mut count = 0;
            while peer.receive(Duration::from_millis(50))?.is_some() {
                count += 1;
            }
            Ok(count)
        };
        alice.send(Address::BROADCAST, b"all")?;
        ensure!(bob.receive(soon)?.is_some() && carol.receive(soon)?.is_some());
        bob.send(a.address(), b"known from now on")?;
        ensure!(alice.receive(soon)?.is_some());
        alice.send(b.address(), b"learned")?;
        ensure!(bob.receive(soon)?.is_some() && count(&carol)? == 0);

        switch.rule(&a, &b, Rule::delaying(Duration::from_millis(200)));
        let begin = Instant::now();
        alice.send(b.address(), b"late")?;
        ensure!(bob.receive(soon)?.is_some() && begin.elapsed() >= Duration::from_millis(200));

        switch.rule(&a, &b, Rule { duplicate: PerMille::ALWAYS, ..Rule::default() });
        alice.send(b.address(), b"twice")?;
        ensure!(count(&bob)? == 2);

        switch.rule(&a, &b, Rule::losing(PerMille::new(500)));
        for number in 0..200_u8 {
            alice.send(b.address(), &[number])?;
            // Slower than the reader, so that nothing is lost but by the rule.
            switch.wait_counters(&a, soon, |counters| counters.received == u64::from(number) + 5)?;
            if number % 8 == 0 {
                while bob.receive(Duration::from_millis(1))?.is_some() {}
            }
        }
        let counters = switch.counters(&b);
        ensure!((70..130).contains(&counters.dropped), "{counters:?}");
        ensure!(counters.overflowed == 0, "{counters:?}");
        count(&bob)?;

        switch.heal();
        switch.split(&[&[&a], &[&b, &c]]);
        alice.send(b.address(), b"other side")?;
        carol.send(b.address(), b"same side")?;
        ensure!(count(&bob)? == 1 && switch.counters(&b).split == 1);
        switch.heal();
        switch.unplug(&b);
        alice.send(b.address(), b"cable is out")?;
        ensure!(count(&bob)? == 0 && switch.counters(&b).unplugged == 1);
        switch.plug(&b);
        alice.send(b.address(), b"cable is in")?;
        ensure!(count(&bob)? == 1);
        Ok(())
    })
}
