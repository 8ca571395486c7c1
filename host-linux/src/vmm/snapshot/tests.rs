//! Guests of a few instructions, captured on this machine's own KVM and gone on with in new machines. Where
//! it has none, the tests say so and pass.

use super::super::console::Console;
use super::super::description::Description;
use super::super::gate::Hold;
use super::super::machine::{Machine, Origin};
use super::super::pages::{Pages, tests::Had};
use super::super::said::{Said, runs_guests};
use super::super::testing::{FOR_EVER, elf, out, say};
use super::super::vcpu::{End, lock};
use super::contents;
use super::copied::Copied;
use super::file;
use super::format::{Kind, Reader, Writer};
use super::state::State;
use super::tracked::Extent;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use vm_memory::{Bytes, GuestAddress};

const LONG: Duration = Duration::from_secs(30);
/// Where guests count.
const COUNT: u64 = 0x3000;
const TICKS: u64 = 0x3004;

fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `mov dword [at], value`
fn store(at: u32, value: u32) -> Vec<u8> {
    [&[0xc7, 0x05][..], &at.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// Code that counts in a register and in memory, and no more when they differ. `and` is done each time.
fn count(and: &[u8]) -> Vec<u8> {
    let at = 0x3000_u32.to_le_bytes();
    // inc ecx; inc dword [COUNT]; cmp ecx, [COUNT]; jne behind
    let body = [&[0x41, 0xff, 0x05][..], &at, &[0x3b, 0x0d], &at, &[0x75]].concat();
    let jump = u8::try_from(and.len() + 2).unwrap();
    let back = u8::try_from(256 - (body.len() + 1 + and.len() + 2)).unwrap();
    [&body[..], &[jump], and, &[0xeb, back], &FOR_EVER].concat()
}

/// An image with this code, a table of segments, and a timer interrupt that counts in [`TICKS`].
fn with_timer(code: &[u8]) -> Vec<u8> {
    const AT: u32 = 0x10_0000;
    let load = |kind, at: u32| [&[0x0f, 0x01, kind][..], &(AT + at).to_le_bytes()].concat();
    let begin = [
        // lgdt, lidt, mov esp, 0x8000
        load(0x15, 0x540),
        load(0x1d, 0x820),
        vec![0xbc, 0, 0x80, 0, 0],
        // The local interrupt controller: on; its timer every millisecond.
        store(0xfee0_00f0, 0x1ff),
        store(0xfee0_0320, 0x2_0040),
        store(0xfee0_03e0, 0xb),
        store(0xfee0_0380, 1_000_000),
        // sti
        vec![0xfb],
    ];
    let mut image = [&begin.concat()[..], code].concat();
    let mut put = |at: usize, bytes: &[u8]| {
        assert!(image.len() <= at, "{} bytes", image.len());
        image.resize(at, 0);
        image.extend(bytes);
    };
    // inc dword [TICKS]; the end of the interrupt; and back, without iret, which not all have that emulate
    // 32-bit code: mov eax, [esp]; mov ebx, [esp + 8]; mov [esp + 8], eax; mov [esp + 4], ebx; add esp, 4;
    // popfd; ret
    let back = [
        0x8b, 0x04, 0x24, 0x8b, 0x5c, 0x24, 8, 0x89, 0x44, 0x24, 8, 0x89, 0x5c, 0x24, 4, 0x83, 0xc4, 4, 0x9d,
        0xc3,
    ];
    put(0x400, &[&[0xff, 0x05, 0x04, 0x30, 0, 0][..], &store(0xfee0_00b0, 0), &back].concat());
    put(0x508, &0x00cf_9b00_0000_ffff_u64.to_le_bytes());
    put(0x510, &0x00cf_9300_0000_ffff_u64.to_le_bytes());
    put(0x540, &[&[0x17, 0][..], &(AT + 0x500).to_le_bytes()].concat());
    put(0x600 + 0x40 * 8, &[0, 0x04, 8, 0, 0, 0x8e, 0x10, 0]);
    put(0x820, &[&[0x07, 0x02][..], &(AT + 0x600).to_le_bytes()].concat());
    elf(&image, true)
}

/// A guest with this kernel, and what it says.
struct Guest {
    directory: tempfile::TempDir,
    machine: Machine,
    said: Said,
}

fn described(directory: &Path, kernel: &[u8], more: &str) -> Description {
    std::fs::write(directory.join("kernel"), kernel).unwrap();
    let text = format!("version = 1\nname = \"small\"\nmemory = \"4M\"\nkernel = \"kernel\"\n{more}");
    Description::parse(&text, directory).unwrap()
}

impl Guest {
    fn start(kernel: &[u8], more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (said, console) = Said::new();
        let origin = Origin::find(described(directory.path(), kernel, more), console, None).unwrap();
        let machine = Machine::start(origin, &[], |end| println!("{end:?}")).unwrap();
        Self { directory, machine, said }
    }

    fn number(&self, at: u64) -> u32 {
        self.machine.memory().read_obj(GuestAddress(at)).unwrap()
    }

    /// Its bytes, of this moment; it does not go on.
    fn last_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let still = self.machine.stand_still().unwrap();
        still.write(&mut bytes, &[], &mut |_| Ok(())).unwrap();
        still.end();
        bytes
    }

    /// A copy takes its place: its memory is what it was, and it is held.
    fn replace(&mut self) {
        let bytes = self.last_bytes();
        let before: Vec<u32> = (0..16).map(|number| self.number(COUNT + number * 4)).collect();
        let (said, console) = Said::new();
        let (copied, rest) = Copied::read(&bytes[..], "it", console, None, &mut |_| Ok(())).unwrap();
        assert!(rest.is_empty());
        self.machine = copied.begin(&[Hold::Operator], |_| ()).unwrap();
        self.said = said;
        let now: Vec<u32> = (0..16).map(|number| self.number(COUNT + number * 4)).collect();
        assert_eq!(now, before, "nothing is carried out while it is held");
    }

    /// Waits until it has counted on, at each of these places.
    fn counts_on(&self, places: &[u64]) {
        let before: Vec<_> = places.iter().map(|at| self.number(*at)).collect();
        until(|| places.iter().zip(&before).all(|(at, before)| *before < self.number(*at)));
    }
}

/// All of its memory.
fn all(machine: &Machine) -> Vec<u8> {
    let mut all = vec![0; 4 << 20];
    machine.memory().read_slice(&mut all, GuestAddress(0)).unwrap();
    all
}

/// S3-06: a guest goes on where it was: its registers and memory are of one moment, and its timer goes on.
#[test]
fn a_guest_goes_on_where_it_was() {
    if !runs_guests() {
        return;
    }
    let mut guest = Guest::start(&with_timer(&count(&[])), "processors = 1\n");
    guest.counts_on(&[COUNT, TICKS]);
    for _ in 0..5 {
        guest.replace();
        let before = [COUNT, TICKS].map(|at| guest.number(at));
        guest.machine.release(Hold::Operator);
        guest.counts_on(&[COUNT, TICKS]);
        assert!(before[0] < guest.number(COUNT));
        // And so does one that is captured and goes on.
        guest.machine.capture(&mut std::io::sink(), &mut |_| Ok(())).unwrap();
        guest.counts_on(&[COUNT, TICKS]);
    }
}

/// S0-11, X15: a guest that is copied while it runs, and then once more what it wrote meanwhile, is the same
/// guest. What a device wrote counts, too.
#[test]
fn a_guest_is_copied_while_it_runs() {
    if !runs_guests() {
        return;
    }
    copied_while_it_runs("");
    // Its own, and the copy's.
    let Some(_had) = Had::new(Pages::Large, 4) else { return };
    copied_while_it_runs("pages = \"2MiB\"\n");
}

fn copied_while_it_runs(pages: &str) {
    let guest = Guest::start(&with_timer(&count(&[])), &format!("processors = 1\n{pages}"));
    guest.counts_on(&[COUNT, TICKS]);
    let tracking = guest.machine.track().unwrap();
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes).unwrap();
    writer.put(Kind::Description, &[guest.machine.origin().description.text.as_bytes()]).unwrap();
    contents::write(guest.machine.memory(), &mut writer, &mut |_| Ok(())).unwrap();
    guest.counts_on(&[COUNT, TICKS]);
    guest.machine.memory().write_obj(7_u8, GuestAddress(0x20_0000)).unwrap();
    let written = guest.machine.written().unwrap();
    assert!((2 * 4096..64 * 4096).contains(&written.bytes()), "{} bytes", written.bytes());
    written.write(guest.machine.memory(), &mut writer, &mut |_| Ok(())).unwrap();
    guest.counts_on(&[COUNT]);
    let still = guest.machine.stand_still().unwrap();
    guest.machine.written().unwrap().write(guest.machine.memory(), &mut writer, &mut |_| Ok(())).unwrap();
    assert_eq!(guest.machine.written().unwrap().bytes(), 0, "it stands still");
    drop(tracking);
    writer.put(Kind::State, &[&still.state().unwrap()]).unwrap();
    writer.end().unwrap();
    still.end();

    let (copied, _) = Copied::read(&bytes[..], "it", Said::new().1, None, &mut |_| Ok(())).unwrap();
    let copy = copied.begin(&[Hold::Operator], |_| ()).unwrap();
    assert!(all(&copy) == all(&guest.machine), "their memory differs");
    drop(copy);
}

/// All processors are captured in one moment: those that run, and those that wait to be started.
#[test]
fn each_processor_goes_on_where_it_was() {
    if !runs_guests() {
        return;
    }
    // 16-bit code of the others: a number of their own from [0x3030]; a register that counts, into its place.
    let other: [u8; 32] = [
        0x66, 0xb8, 1, 0, 0, 0, 0xf0, 0x66, 0x0f, 0xc1, 0x06, 0x30, 0x30, 0x67, 0x66, 0x8d, 0x3c, 0x85, 0x10,
        0x30, 0, 0, 0x66, 0x43, 0x67, 0x66, 0x89, 0x1f, 0xeb, 0xf8, 0x90, 0x90,
    ];
    let words = other.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let puts: Vec<u8> = (0x8000..).step_by(4).zip(words).flat_map(|(at, word)| store(at, word)).collect();
    // To all others: begin at 0x8000.
    let begin = [store(0xfee0_00f0, 0x1ff), store(0xfee0_0300, 0xc_4500), store(0xfee0_0300, 0xc_4608)];
    let code = [&puts[..], &begin.concat(), &count(&[])].concat();
    let mut guest = Guest::start(&elf(&code, true), "processors = 4\n");
    let places = [COUNT, 0x3010, 0x3014, 0x3018];
    guest.counts_on(&places);
    for _ in 0..3 {
        guest.replace();
        guest.machine.release(Hold::Operator);
        guest.counts_on(&places);
    }
    // Others that were never started.
    let mut guest = Guest::start(&elf(&count(&[]), true), "processors = 4\n");
    guest.counts_on(&[COUNT]);
    guest.replace();
    guest.machine.release(Hold::Operator);
    guest.counts_on(&[COUNT]);
}

/// What was typed and not read is read by the copy.
#[test]
fn a_console_goes_on_in_the_middle_of_a_line() {
    if !runs_guests() {
        return;
    }
    // mov dx, 0x3fd; in al, dx; test al, 1; jz back; mov dx, 0x3f8; in al, dx; out dx, al; jmp back
    let echo =
        [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 1, 0x74, 0xf7, 0x66, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xef];
    let mut guest = Guest::start(&elf(&[&say("on")[..], &echo].concat(), true), "processors = 1\n");
    guest.said.hears("on");
    assert_eq!(guest.machine.input(b"a"), 1);
    guest.said.hears("a");
    guest.machine.hold(Hold::Operator);
    assert_eq!(guest.machine.input(b"bcd"), 3);
    guest.replace();
    guest.machine.release(Hold::Operator);
    guest.said.hears("bcd");
    assert_eq!(guest.machine.input(b"e"), 1);
    guest.said.hears("e");
}

/// S3-06: an old snapshot is there until a new one is whole, and no other file ever.
#[test]
fn a_file_is_the_old_snapshot_or_the_new_one() {
    if !runs_guests() {
        return;
    }
    let guest = Guest::start(&elf(&count(&[]), true), "processors = 1\n");
    let path = guest.directory.path().join("small.snapshot");
    let open = || file::open(&path, &[], Console::default(), None, &mut |_| Ok(()));
    assert!(open().unwrap_err().what.contains("small.snapshot"));
    std::fs::write(&path, b"old").unwrap();
    assert!(open().unwrap_err().what.ends_with(
        "small.snapshot: it breaks off in the middle: who wrote it did \
        not finish"
    ));
    let elsewhere = guest.directory.path().join("none").join("x");
    assert!(
        file::save(&guest.machine, &elsewhere, &Extent::All, None, &mut |_| Ok(()))
            .unwrap_err()
            .what
            .contains("none/x.new")
    );
    guest.counts_on(&[COUNT]);
    let mut seen = 0;
    file::save(&guest.machine, &path, &Extent::All, None, &mut |_| {
        seen += 1;
        Ok(())
    })
    .unwrap();
    guest.counts_on(&[COUNT]);
    let copied = open().unwrap();
    assert_eq!((copied.origin().description.name.as_str(), 0 < seen), ("small", true));
    let whole = std::fs::read(&path).unwrap();
    assert!(whole.len() < 200 << 10, "{} bytes", whole.len());
    std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(open().unwrap_err().what.ends_with("there is more behind its end"));

    // A guest that is off has no state.
    let off = Guest::start(&elf(&[out(0x601, 0x34), FOR_EVER.to_vec()].concat(), true), "processors = 2\n");
    until(|| off.machine.has_ended());
    std::fs::write(&path, &whole).unwrap();
    let why = file::save(&off.machine, &path, &Extent::All, None, &mut |_| Ok(())).unwrap_err();
    assert_eq!(why.what, "guest small has ended");
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    let mut names: Vec<_> =
        std::fs::read_dir(guest.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["kernel", "small.snapshot"]);
}

/// I11: records that are whole and make no sense are refused, and so is what this node is not.
#[test]
fn what_makes_no_sense_is_refused() {
    if !runs_guests() {
        return;
    }
    let guest = Guest::start(&elf(&count(&[]), true), "processors = 2\n");
    let bytes = guest.last_bytes();
    let mut reader = Reader::begin(&bytes[..]).unwrap();
    let mut records = Vec::new();
    while let Some((kind, content)) = reader.record().unwrap() {
        records.push((kind, content.to_vec()));
    }
    let (described, state) = (records[0].clone(), records[2].clone());
    let changed = |change: &dyn Fn(&mut State)| {
        let mut state = State::read(&state.1).unwrap();
        change(&mut state);
        (Kind::State, state.bytes().unwrap())
    };
    let described_as = |text: &[u8]| (Kind::Description, text.to_vec());
    let one = String::from_utf8(described.1.clone()).unwrap().replace("processors = 2", "processors = 1");
    let copy = |records: &[(Kind, Vec<u8>)]| {
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&mut bytes).unwrap();
        records.iter().for_each(|(kind, content)| writer.put(*kind, &[content]).unwrap());
        writer.end().unwrap();
        let (copied, _) = Copied::read(&bytes[..], "it", Console::default(), None, &mut |_| Ok(()))?;
        copied.begin(&[Hold::Operator], |_| ())
    };
    let has = |records: &[(Kind, Vec<u8>)], expected: &str| {
        let why = copy(records).unwrap_err();
        assert!(why.what.contains(expected), "{expected}: {}", why.what);
    };
    copy(&[described.clone(), state.clone()]).unwrap();
    copy(&[described.clone(), (Kind::Memory, vec![0; 8]), state.clone()]).unwrap();
    has(&[], "it: it makes no sense: its records are not in their order");
    has(&[state.clone(), described.clone()], "not in their order");
    has(std::slice::from_ref(&described), "not in their order");
    has(&[described.clone(), state.clone(), state.clone()], "not in their order");
    has(&[described_as(b"\xff"), state.clone()], "it: it makes no sense");
    has(&[described_as(b"version = 9"), state.clone()], "missing field");
    has(&[described_as(one.as_bytes()), state.clone()], "are not those of its description");
    has(&[described.clone(), (Kind::Memory, vec![9; 9]), state.clone()], "memory that its guest has not");
    has(&[described.clone(), (Kind::State, state.1[1..].to_vec())], "it: it makes no sense: the state");
    has(&[described.clone(), (Kind::State, [&state.1[..], &[0]].concat())], "1 bytes too many");
    has(&[described.clone(), changed(&|state| state.devices.clear())], "not those of its description");
    has(&[described.clone(), changed(&|state| state.devices[0].kind = 2)], "device 0 is not what it was");
    let typed = changed(&|state| state.serial.in_buffer = vec![0; 65]);
    has(&[described.clone(), typed], "restore the console");
    let able = changed(&|state| {
        let first = state.processors[0].identity.iter_mut().find(|entry| entry.function == 0);
        first.unwrap().ebx ^= 1;
    });
    has(&[described.clone(), able], "it: the processors here lack what the guest has found: leaf 0x0");
}

/// I11: whatever a snapshot says of processors and devices: KVM takes it or refuses it, and so do devices.
#[test]
fn any_state_is_refused_or_a_guest() {
    if !runs_guests() {
        return;
    }
    let guest = Guest::start(&elf(&count(&[]), true), "processors = 1\n");
    let bytes = guest.last_bytes();
    let mut reader = Reader::begin(&bytes[..]).unwrap();
    let text = reader.record().unwrap().unwrap().1.to_vec();
    assert_eq!(reader.record().unwrap().unwrap().0, Kind::Lineage);
    let state = reader.record().unwrap().unwrap().1.to_vec();
    let mut begun = 0;
    for at in (0..state.len()).step_by(state.len() / 100) {
        let mut state = state.clone();
        state[at] ^= 0xff;
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&mut bytes).unwrap();
        writer.put(Kind::Description, &[&text]).unwrap();
        writer.put(Kind::State, &[&state]).unwrap();
        writer.end().unwrap();
        let copied = Copied::read(&bytes[..], "it", Console::default(), None, &mut |_| Ok(()));
        let copy = copied.and_then(|(copied, _)| copied.begin(&[Hold::Operator], |_| ()));
        begun += usize::from(copy.is_ok());
    }
    assert!((1..100).contains(&begun), "{begun}");
}

/// The end of a guest that was restored is told as that of any other.
#[test]
fn a_copy_ends_as_its_guest_does() {
    if !runs_guests() {
        return;
    }
    // Reads what is typed; is off then.
    let wait = [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 1, 0x74, 0xf7];
    let code = [&say("on")[..], &wait, &out(0x601, 0x34), &FOR_EVER].concat();
    let mut guest = Guest::start(&elf(&code, true), "processors = 1\n");
    guest.said.hears("on");
    let (copied, _) =
        Copied::read(&guest.last_bytes()[..], "it", Console::default(), None, &mut |_| Ok(())).unwrap();
    let (tell, ends) = channel();
    let copy = copied.begin(&[], move |end| tell.send(end).unwrap()).unwrap();
    assert_eq!(copy.input(b"x"), 1);
    assert_eq!(ends.recv_timeout(LONG).unwrap(), End::PowerOff);
}

#[path = "chain_tests.rs"]
mod chains;
#[path = "disk_tests.rs"]
mod disks;
