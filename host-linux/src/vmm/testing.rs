//! Guests of a few instructions, for tests beside the code and for those of the commands.

/// An ELF file with this code at 1 MiB; 32-bit code that starts by PVH, or 64-bit code.
pub fn elf(code: &[u8], is_pvh: bool) -> Vec<u8> {
    const ENTRY: u64 = 0x10_0000;
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([2_u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([ENTRY, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, if is_pvh { 2 } else { 1 }, 64, 0, 0].map(u16::to_le_bytes).concat());
    let (note_at, code_at) = (64 + 2 * 56, 64 + 2 * 56 + 24);
    let length = u64::try_from(code.len()).unwrap();
    for (kind, at, address, length) in [(1_u32, code_at, ENTRY, length), (4, note_at, 0, 24)] {
        file.extend([kind, 5].map(u32::to_le_bytes).concat());
        file.extend([at, address, address, length, length, 4].map(u64::to_le_bytes).concat());
    }
    // XEN_ELFNOTE_PHYS32_ENTRY
    file.extend([4_u32, 8, 18].map(u32::to_le_bytes).concat());
    file.extend(b"Xen\0");
    file.extend(ENTRY.to_le_bytes());
    file.extend(code);
    file
}

/// `out` of a byte to a port, in 32-bit and in 64-bit code.
pub fn out(port: u16, byte: u8) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    vec![0x66, 0xba, low, high, 0xb0, byte, 0xee]
}

pub fn say(text: &str) -> Vec<u8> {
    text.bytes().flat_map(|byte| out(0x3f8, byte)).collect()
}

/// A loop without end.
pub const FOR_EVER: [u8; 2] = [0xeb, 0xfe];
