//! Golden bytes of both forms, and files that are none.

use super::hex::hex;
use super::*;

/// An ELF file of parts, each at an address, with one that is not loaded from the file.
fn elf(parts: &[(u32, &[u8])]) -> Vec<u8> {
    let count = parts.len() + 1;
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 40, 0]);
    for field in [1, 0x401, 52, 0, 0_u32] {
        file.extend(field.to_le_bytes());
    }
    for field in [52, 32, u16::try_from(count).unwrap(), 40, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    let mut from = u32::try_from(52 + 32 * count).unwrap();
    for (at, bytes) in parts {
        let len = u32::try_from(bytes.len()).unwrap();
        for field in [LOAD, from, 0x2000_0000, *at, len, len, 5, 4] {
            file.extend(field.to_le_bytes());
        }
        from += len;
    }
    for field in [LOAD, from, 0x2000_1000, 0x2000_1000, 0, 64, 6, 4_u32] {
        file.extend(field.to_le_bytes());
    }
    parts.iter().for_each(|(_, bytes)| file.extend(*bytes));
    file
}

#[test]
fn a_program_is_what_its_file_loads() {
    let program = Program::parse(&elf(&[(0x10, b"later"), (0, b"first")])).unwrap();
    assert_eq!((program.entry, program.span()), (0x401, (0, 0x15)));
    assert_eq!(program.binary(), b"first\0\0\0\0\0\0\0\0\0\0\0later");
}

/// Worked out by hand from Intel's description: count, address, kind, data, two's complement of the sum.
#[test]
fn intel_hex_is_as_intel_wrote_it() {
    let long: Vec<u8> = (0..18).collect();
    let program = Program::parse(&elf(&[(0xfff8, &long), (0x0002_0000, &[0xff])])).unwrap();
    let wanted = [
        ":08FFF8000001020304050607E5",
        ":020000040001F9",
        ":0A00000008090A0B0C0D0E0F101179",
        ":020000040002F8",
        ":01000000FF00",
        ":0400000500000401F2",
        ":00000001FF",
    ];
    assert_eq!(hex(&program).lines().collect::<Vec<_>>(), wanted);
}

/// The same bytes as the tools of others make, where they are installed.
#[test]
fn objcopy_reads_what_we_write() {
    let bytes: Vec<u8> = (0..70_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let file = elf(&[(0x100, &bytes), (0x0002_0000, b"more")]);
    let program = Program::parse(&file).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("in.hex"), hex(&program)).unwrap();
    let mut objcopy = std::process::Command::new("objcopy");
    objcopy.args(["-I", "ihex", "-O", "binary"]).arg(path("in.hex")).arg(path("out.bin"));
    let Ok(status) = objcopy.status() else { return };
    assert!(status.success());
    assert_eq!(std::fs::read(path("out.bin")).unwrap(), program.binary());
}

#[test]
fn a_damaged_file_is_an_error() {
    let good = elf(&[(0, &[1; 40]), (0x40, &[2; 40])]);
    for len in 0..good.len() {
        assert!(Program::parse(&good[..len]).is_err(), "cut at {len}");
    }
    for at in 0..52 + 64 {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            // An error or a program, and both at once.
            let _ = Program::parse(&bad).map(|program| (program.binary().len(), hex(&program).len()));
        }
    }
    for (parts, why) in [
        (&[(0, &[1_u8; 40][..]), (39, &[2; 2])][..], "overlap"),
        (&[(0, &[1]), (0x3000_0000, &[2])], "one flash"),
        (&[], "no program"),
    ] {
        assert!(Program::parse(&elf(parts)).unwrap_err().contains(why), "{why}");
    }
}

#[test]
fn a_secret_is_found_in_any_form() {
    let secret: [u8; 32] = std::array::from_fn(|at| 0xa0 ^ u8::try_from(at).unwrap());
    let digits: String = secret.iter().map(|byte| format!("{byte:02X}")).collect();
    let around = |inside: &[u8]| [b"before ", inside, b" after"].concat();
    assert!(holds_secret(&around(&secret), &secret) && holds_secret(&around(digits.as_bytes()), &secret));
    assert!(holds_secret(&around(digits.to_lowercase().as_bytes()), &secret));
    assert!(!holds_secret(&around(&secret[1..]), &secret) && !holds_secret(b"", &secret));
}
