//! Any bytes into every parser: none panics, what parses prints as it was and parses again, and
//! nothing asks for more than it may (V39, F45, F46, F48). Shared by test and fuzzer.

use bulkhead_core::bcb::copies::Copies;
use bulkhead_core::bcb::format::Stored;
use bulkhead_core::bcb::state::{Bcb, SlotState};
use bulkhead_core::block::{BlockSize, Geometry, Lba};
use bulkhead_core::boot::choice::{Check, Decision, Evidence, decide, floor};
use bulkhead_core::container::header::{Header as Container, PAYLOAD_MAX};
use bulkhead_core::container::image::SecurityVersion;
use bulkhead_core::container::mark::Mark;
use bulkhead_core::container::trust::{ImageFault, Trust};
use bulkhead_core::crc::{crc32, crc32c};
use bulkhead_core::gpt::entries::Table;
use bulkhead_core::gpt::format::repair;
use bulkhead_core::gpt::header::{ARRAY_LEN_MAX, Copy, Header};
use bulkhead_core::gpt::layout::Layout;
use bulkhead_core::gpt::reading::Reading;
use bulkhead_core::plan::{Data, SECTOR, Step};
use bulkhead_core::slot::{PerSlot, SlotId};

use super::{links, votes, witness};

/// Feeds bytes to a parser, and panics when it breaks a promise.
pub type Feed = fn(&[u8]);

/// All parsers, by name.
pub const PARSERS: [(&str, Feed); 16] = [
    ("gpt_header", gpt_header),
    ("gpt_table", gpt_table),
    ("gpt_reading", gpt_reading),
    ("block", block),
    ("mark", mark),
    ("container", container),
    ("trust", trust),
    ("decision", decision),
    ("frame", links::frame),
    ("hello", links::hello),
    ("heartbeat", links::heartbeat),
    ("message", votes::message),
    ("votes", votes::votes),
    ("card", witness::card),
    ("record", witness::record),
    ("strip", witness::strip),
];

/// The first sector of `bytes`, zeros behind it; with a good checksum when `mend` says so, so
/// that what lies behind the checksum is reached too.
pub fn sector(bytes: &[u8], mend: bool) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    for (to, from) in sector.iter_mut().zip(bytes) {
        *to = *from;
    }
    if mend {
        let crc = crc32c(&sector[..508]);
        sector[508..].copy_from_slice(&crc.to_le_bytes());
    }
    sector
}

fn geometry(bytes: &[u8]) -> Geometry {
    let block_size =
        if bytes.first().is_some_and(|byte| byte & 1 == 1) { BlockSize::B4096 } else { BlockSize::B512 };
    let blocks = match bytes.get(1) {
        Some(255) => u64::MAX,
        Some(254) => 1 << 40,
        Some(few) if *few < 64 => u64::from(*few),
        Some(_) | None => 160,
    };
    Geometry { block_size, blocks }
}

fn mended_header(block: &mut [u8]) {
    if let Some(size) = block.get(12..16).map(|size| u32::from_le_bytes(size.try_into().unwrap()))
        && let Ok(size) = usize::try_from(size)
        && (20..=block.len()).contains(&size)
    {
        block[16..20].fill(0);
        let crc = crc32(&[&block[..size]]);
        block[16..20].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A GPT header, as found and with its checksum mended.
pub fn gpt_header(bytes: &[u8]) {
    let disk = geometry(bytes);
    let bytes = bytes.get(2..).unwrap_or_default();
    let mut mended = bytes.to_vec();
    mended_header(&mut mended);
    for block in [bytes, &mended] {
        for (copy, at) in [(Copy::Primary, Lba(1)), (Copy::Backup, disk.last())] {
            let Ok(header) = Header::parse(block, copy, at, disk) else { continue };
            assert!(header.array_len() <= ARRAY_LEN_MAX);
            assert!(header.array_extent(disk).last() <= disk.last());
            assert_eq!(Header::parse(&header.encode(), copy, at, disk), Ok(header));
        }
    }
}

/// An entry array under a header that vouches for it.
pub fn gpt_table(bytes: &[u8]) {
    let mut array = [0; ARRAY_LEN_MAX];
    for (to, from) in array.iter_mut().zip(bytes) {
        *to = *from;
    }
    let disk = Geometry { block_size: BlockSize::B512, blocks: 160 };
    let usable = bulkhead_core::gpt::format::usable(disk).unwrap();
    let header = Header {
        copy: Copy::Primary,
        at: Lba(1),
        alternate: disk.last(),
        usable,
        disk_guid: uguid::Guid::from_bytes([1; 16]),
        array: Lba(2),
        entry_count: 128,
        array_crc: crc32(&[&array]),
    };
    let Ok(table) = Table::parse(&header, &array) else { return };
    let _ = Layout::find(&table, disk.block_size);
    let mut out = [0; ARRAY_LEN_MAX];
    let array_crc = table.encode(&mut out);
    assert_eq!(Table::parse(&Header { array_crc, ..header }, &out), Ok(table));
}

/// A whole disk, with headers that may send the reader anywhere.
pub fn gpt_reading(bytes: &[u8]) {
    let disk = geometry(bytes);
    let bytes = bytes.get(2..).unwrap_or_default();
    let mut reading = Reading::new(disk);
    let size = u64::from(disk.block_size.bytes());
    let limit = u64::try_from(ARRAY_LEN_MAX).unwrap().max(size);
    let mut rounds = 0;
    while let Some(extent) = reading.wants() {
        rounds += 1;
        assert!(rounds <= 6, "reading does not end");
        assert!(extent.last() <= disk.last(), "asks for blocks behind the disk");
        assert!(extent.bytes(disk.block_size) <= limit, "asks for more than it may");
        // The disk is the input, over and over.
        let len = usize::try_from(extent.bytes(disk.block_size)).unwrap();
        let from = usize::try_from(extent.first().byte_offset(disk.block_size) % 65_536).unwrap();
        let mut block: Vec<u8> =
            bytes.iter().cycle().skip(from % bytes.len().max(1)).take(len).copied().collect();
        mended_header(&mut block);
        reading.supply((!block.is_empty()).then_some(&block));
    }
    let Ok(found) = reading.finish() else { return };
    let _ = Layout::find(&found.table, disk.block_size);
    let Some(plan) = repair(&found, disk) else { return };
    for step in plan.steps() {
        let Step::Write { at, data } = step else { continue };
        let len = match data {
            Data::Entries => u64::try_from(found.table.array_len()).unwrap(),
            Data::Sector(_) | Data::Image { .. } => size,
        };
        let (first, last) = (at.0 / size, (at.0 + len - 1) / size);
        let usable = found.table.usable;
        assert!(last < usable.first().0 || usable.last().0 < first, "a repair writes over partitions");
    }
}

/// A boot control block.
pub fn block(bytes: &[u8]) {
    for mend in [false, true] {
        let sector = sector(bytes, mend);
        if let Ok(stored) = Stored::parse(&sector) {
            assert_eq!(stored.encode(), sector);
        }
    }
}

/// A confirmation mark.
pub fn mark(bytes: &[u8]) {
    for mend in [false, true] {
        let sector = sector(bytes, mend);
        if let Some(mark) = Mark::parse(&sector) {
            assert_eq!(mark.encode(), sector);
        }
    }
}

/// The header of an image container.
pub fn container(bytes: &[u8]) {
    for mend in [false, true] {
        let sector = sector(bytes, mend);
        let Ok(header) = Container::parse(&sector) else { continue };
        assert_eq!(header.encode(), sector);
        assert!(header.payload_len <= PAYLOAD_MAX);
        let _ = [header.efi, header.initrd, header.command_line].map(|part| part.of(bytes).len());
        let trust = Trust::default();
        assert!(trust.believe(&sector, u64::MAX, SecurityVersion(0)).is_err(), "believed without a key");
    }
}

/// A key table.
pub fn trust(bytes: &[u8]) {
    for mend in [false, true] {
        let sector = sector(bytes, mend);
        if let Ok(trust) = Trust::parse(&sector) {
            assert_eq!(trust.encode(), sector);
        }
    }
}

/// A decision over any two blocks and marks, whatever the images are.
pub fn decision(bytes: &[u8]) {
    let (knobs, bytes) = bytes.split_at(bytes.len().min(8));
    let knob = |index: usize| knobs.get(index).copied().unwrap_or(0);
    let piece = |index: usize| sector(bytes.chunks(SECTOR).nth(index).unwrap_or_default(), true);
    let blocks = [piece(0), piece(1)];
    let marks = PerSlot { a: Mark::parse(&piece(2)), b: Mark::parse(&piece(3)) };
    let copies = Copies::parse([Some(&blocks[0]), (knob(0) & 1 == 0).then_some(&blocks[1])]);
    let mut evidence = Evidence::new(copies, marks);
    evidence.can_record = knob(0) & 2 == 0;
    evidence.chosen = SlotId::ALL.get(usize::from(knob(0) >> 2 & 3)).copied();
    evidence.firmware_floor = SecurityVersion(u32::from(knob(1)));
    let recorded = evidence.copies.newest().map(|stored| stored.bcb);
    for _ in 0..3 {
        match decide(&evidence) {
            Decision::Examine(slot) => {
                assert_eq!(*evidence.checks.get(slot), Check::Unknown, "asks twice");
                *evidence.checks.get_mut(slot) =
                    check(recorded, &evidence, slot, knob(2 + usize::from(slot == SlotId::B)));
            }
            Decision::Start(start) => {
                assert_eq!(*evidence.checks.get(start.slot), Check::Good(start.image));
                assert!(start.image.security >= floor(&evidence), "V35: below the floor");
                assert_eq!(
                    evidence.chosen.is_some() && !start.record_optional,
                    evidence.chosen.is_some_and(|slot| slot != start.slot) && !start.record_optional
                );
                if let Some(SlotState::Candidate { left, .. }) =
                    recorded.map(|bcb| *bcb.slots.get(start.slot))
                    && evidence.chosen != Some(start.slot)
                {
                    assert!(left.count() > 0 && evidence.can_record && !start.record_optional, "V30");
                }
                return recordable(&evidence, &start.record);
            }
            Decision::Rescue(rescue) => return recordable(&evidence, &rescue.record),
        }
    }
    panic!("a decision that does not end");
}

fn check(recorded: Option<Bcb>, evidence: &Evidence, slot: SlotId, knob: u8) -> Check {
    let recorded = recorded.and_then(|bcb| bcb.slots.get(slot).image().copied());
    let marked = evidence.marks.get(slot).map(|mark| mark.image);
    match (knob & 3, recorded, marked) {
        (0, Some(image), _) | (1, _, Some(image)) => Check::Good(image),
        (2, ..) => Check::Bad(ImageFault::Digest),
        (..) => Check::Bad(ImageFault::Unreadable),
    }
}

/// A block that the core decided to write reads back as itself, and the floor has not fallen.
fn recordable(evidence: &Evidence, record: &Bcb) {
    let stored = Stored { seq: 1, bcb: *record };
    assert_eq!(Stored::parse(&stored.encode()), Ok(stored));
    if let Some(before) = evidence.copies.newest() {
        assert!(record.floor >= before.bcb.floor, "V35: the floor fell");
    }
}
