//! Frames of a made-up firmware, whole and spoilt.

use super::*;

/// An ELF file with the given strings at the addresses 1, 2, … of the section `.defmt`: what a linker makes
/// of a firmware that says them.
fn elf(strings: &[(&str, &str)]) -> Vec<u8> {
    let symbol = |tag: &str, data: &str, id: usize| {
        let id = id.to_string();
        let symbol = serde_json::json!({ "package": "p", "tag": tag, "data": data, "disambiguator": id });
        symbol.to_string()
    };
    let mut symbols =
        vec![("_defmt_version_ = 4".to_owned(), 0), ("_defmt_encoding_ = rzcobs".to_owned(), 0)];
    symbols.extend((1..).zip(strings).map(|(at, (tag, data))| (symbol(tag, data, at), at)));
    let (mut names, mut table) = (vec![0_u8], vec![0_u8; 16]);
    for (name, address) in symbols {
        let at = u32::try_from(names.len()).unwrap();
        names.extend(name.as_bytes());
        names.push(0);
        table.extend(at.to_le_bytes());
        table.extend(u32::try_from(address).unwrap().to_le_bytes());
        // Size, then: a global object of section 1.
        table.extend([1, 0, 0, 0, 0x11, 0, 1, 0]);
    }
    let section_names = b"\0.defmt\0.symtab\0.strtab\0.shstrtab\0";
    let defmt = [0; 64];
    // Name, type, link, information, size of an entry.
    let sections = [
        ([1_u32, 1, 0, 0, 0], &defmt[..]),
        ([8, 2, 3, 1, 16], &table),
        ([16, 3, 0, 0, 0], &names),
        ([24, 3, 0, 0, 0], section_names),
    ];
    let mut body: Vec<u8> = Vec::new();
    let mut heads = vec![0_u8; 40];
    for ([name, kind, link, info, entry], bytes) in sections {
        let (at, len) = (u32::try_from(52 + body.len()).unwrap(), u32::try_from(bytes.len()).unwrap());
        for field in [name, kind, 0, 0, at, len, link, info, 1, entry] {
            heads.extend(field.to_le_bytes());
        }
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    // A program for ARM.
    file.extend([2, 0, 40, 0, 1, 0, 0, 0]);
    for field in [0, 0, u32::try_from(52 + body.len()).unwrap(), 0] {
        file.extend(u32::to_le_bytes(field));
    }
    for field in [52, 32, 0, 40, 5, 4] {
        file.extend(u16::to_le_bytes(field));
    }
    file.extend(body);
    file.extend(heads);
    file
}

/// The frame as rzCOBS encodes it, with its end.
fn encoded(frame: &[u8]) -> Vec<u8> {
    let (mut out, mut run, mut zeros) = (Vec::new(), 0, 0_u8);
    for byte in frame {
        if *byte == 0 {
            zeros |= 1 << run;
        } else {
            out.push(*byte);
        }
        run += 1;
        if run == 7 {
            out.push(zeros);
            (run, zeros) = (0, 0);
            assert_ne!(out.last(), Some(&END), "seven bytes without a zero are not needed here");
        }
    }
    if run != 0 {
        out.push(zeros | (0x7f << run) & 0x7f);
    }
    out.push(END);
    out
}

fn words() -> Words {
    Words::parse(&elf(&[
        ("defmt_info", "votes {=u16}"),
        ("defmt_timestamp", "{=u8:us}"),
        ("defmt_error", "a {=str}"),
    ]))
    .unwrap()
}

fn said(level: &'static str, text: &str) -> Line {
    Line::Said { time: "0.000005".into(), level, text: text.into(), at: None }
}

fn lines(parts: &[&[u8]]) -> Vec<Line> {
    let words = words();
    let (mut reader, mut lines) = (words.reader(), Vec::new());
    for part in parts {
        reader.take(part, &mut |line| lines.push(line));
    }
    lines
}

#[test]
fn frames_are_read_however_they_are_cut() {
    let stream = [encoded(&[1, 0, 5, 7, 0]), encoded(&[3, 0, 5, 2, 0, 0, 0, b'h', b'i'])].concat();
    let wanted = [said("info", "votes 7"), said("error", "a hi")];
    assert_eq!(lines(&[&stream]), wanted);
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(lines(&bytes), wanted);
    assert_eq!(wanted[1].to_string(), "0.000005 ERROR a hi");
}

/// The line begins in the middle of a frame, loses bytes, carries another firmware: each is shown, the next
/// one is whole, and nothing grows.
#[test]
fn a_frame_that_cannot_be_read_is_said_to_be_one_and_the_next_is_whole() {
    let good = encoded(&[1, 0, 5, 7, 0]);
    let unknown = encoded(&[99, 0, 5, 7, 0]);
    let long = [vec![0x55; 3 * FRAME_MAX], vec![END]].concat();
    let found = lines(&[&good[2..], &good, &unknown, &long, &[END, END], &good]);
    assert_eq!(found.iter().filter(|line| **line == said("info", "votes 7")).count(), 2, "{found:?}");
    assert_eq!(found.last(), Some(&said("info", "votes 7")));
    assert_eq!(found[3], Line::Unreadable(3 * FRAME_MAX));
    let (mut chance, words) = (88_172_645_463_325_252_u64, words());
    let mut reader = words.reader();
    for _ in 0..20_000 {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        reader.take(&chance.to_le_bytes(), &mut |_| {});
        assert!(reader.frame.len() <= FRAME_MAX);
    }
}

#[test]
fn a_file_without_words_is_refused() {
    for (bytes, why) in [(&b"MZ"[..], ""), (&elf(&[])[..], "logs nothing by defmt")] {
        let found = Words::parse(bytes).unwrap_err();
        assert!(found.contains(why) && !found.is_empty(), "{found}");
    }
    let failure = Words::read(Path::new("/nowhere/witness.elf")).unwrap_err();
    assert!(failure.text().contains("give the ELF file that was flashed"), "{}", failure.text());
}
