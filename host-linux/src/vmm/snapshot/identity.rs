//! What a processor says of itself, compared: a guest that has seen what this node's processors can do not
//! goes on where they can (S0-11).

use kvm_bindings::kvm_cpuid_entry2;
use std::fmt::Write as _;

/// A register of an answer.
type Register = fn(&kvm_cpuid_entry2) -> u32;
const EAX: Register = |entry| entry.eax;
const EBX: Register = |entry| entry.ebx;
const ECX: Register = |entry| entry.ecx;
const EDX: Register = |entry| entry.edx;

/// Answers of which each bit is something that a processor can do: leaf, sub-leaf, register and its name.
const ABILITIES: [(u32, u32, Register, &str); 18] = [
    (1, 0, ECX, "ecx"),
    (1, 0, EDX, "edx"),
    (7, 0, EBX, "ebx"),
    (7, 0, ECX, "ecx"),
    (7, 0, EDX, "edx"),
    (7, 1, EAX, "eax"),
    (7, 1, EDX, "edx"),
    (7, 2, EDX, "edx"),
    // What XSAVE saves.
    (0xd, 0, EAX, "eax"),
    (0xd, 0, EDX, "edx"),
    (0xd, 1, EAX, "eax"),
    (0xd, 1, ECX, "ecx"),
    // KVM's own.
    (0x4000_0001, 0, EAX, "eax"),
    (0x8000_0001, 0, ECX, "ecx"),
    (0x8000_0001, 0, EDX, "edx"),
    (0x8000_0007, 0, EDX, "edx"),
    (0x8000_0008, 0, EBX, "ebx"),
    (0x8000_0021, 0, EAX, "eax"),
];

/// The components of XSAVE: each must lie where it lay.
const COMPONENTS: std::ops::Range<u32> = 2..63;

fn of(entries: &[kvm_cpuid_entry2], leaf: u32, sub: u32) -> Option<&kvm_cpuid_entry2> {
    entries.iter().find(|entry| (entry.function, entry.index) == (leaf, sub))
}

/// What a guest has seen that `here` is not so, by leaf and register. Empty: it goes on here.
#[must_use]
pub fn missing(seen: &[kvm_cpuid_entry2], here: &[kvm_cpuid_entry2]) -> String {
    let mut missing = String::new();
    let mut miss = |what: std::fmt::Arguments<'_>| {
        let comma = if missing.is_empty() { "" } else { ", " };
        // Writing into a string does not fail.
        let _ = write!(missing, "{comma}{what}");
    };
    let maker = |entries| of(entries, 0, 0).map(|entry| (entry.ebx, entry.ecx, entry.edx));
    if maker(seen) != maker(here) {
        miss(format_args!("leaf 0x0 (another maker's processor)"));
    }
    for (leaf, sub, register, name) in ABILITIES {
        let bits = |entries| of(entries, leaf, sub).map_or(0, register);
        let lacks = bits(seen) & !bits(here);
        if lacks != 0 {
            miss(format_args!("leaf {leaf:#x}.{sub} {name} (bits {lacks:#x})"));
        }
    }
    for sub in COMPONENTS {
        let place = |entries| of(entries, 0xd, sub).map(|entry| (entry.eax, entry.ebx));
        if place(seen).is_some_and(|seen| seen.0 != 0 && place(here) != Some(seen)) {
            miss(format_args!("leaf 0xd.{sub} (it lies elsewhere)"));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..kvm_cpuid_entry2::default() }
    }

    /// A guest goes where there is more, and not where there is less; what it lacks there is said by name.
    #[test]
    fn a_guest_goes_on_where_a_processor_can_as_much() {
        let maker = entry(0, 0, [13, 1, 2, 3]);
        let few = [maker, entry(1, 0, [7, 9, 0x11, 0x3]), entry(0xd, 2, [256, 576, 0, 0])];
        let many = [
            entry(0, 0, [32, 1, 2, 3]),
            entry(1, 0, [8, 10, 0x31, 0x7]),
            entry(7, 0, [0, 1, 0, 0]),
            entry(0xd, 2, [256, 576, 0, 0]),
        ];
        assert_eq!(missing(&few, &few), "");
        assert_eq!(missing(&few, &many), "");
        assert_eq!(
            missing(&many, &few),
            "leaf 0x1.0 ecx (bits 0x20), leaf 0x1.0 edx (bits 0x4), leaf 0x7.0 ebx (bits 0x1)"
        );
        let mut other = many;
        (other[0].ebx, other[3].ebx) = (9, 600);
        let expected = "leaf 0x0 (another maker's processor), leaf 0xd.2 (it lies elsewhere)";
        assert_eq!(missing(&few, &other), expected);
        assert_eq!(missing(&few[..1], &[]), "leaf 0x0 (another maker's processor)");
    }
}
