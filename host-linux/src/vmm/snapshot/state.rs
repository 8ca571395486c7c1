//! All of a guest but its memory, in one record (S3-06).

use super::super::virtio::saved::Saved;
use super::chips::Chips;
use super::format::Unreadable;
use super::processor::Processor;
use serde::{Deserialize, Serialize};
use vm_superio::serial::SerialState;

/// All of a guest but its memory. The order of fields is that of the bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// Its processors, in their order.
    pub processors: Vec<Processor>,
    /// What they share.
    pub chips: Chips,
    /// Its console.
    #[serde(with = "SerialRecord")]
    pub serial: SerialState,
    /// Its virtio devices, in the order of their places.
    pub devices: Vec<Saved>,
}

/// The registers of a serial line.
#[derive(Serialize, Deserialize)]
#[serde(remote = "SerialState")]
struct SerialRecord {
    baud_divisor_low: u8,
    baud_divisor_high: u8,
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    in_buffer: Vec<u8>,
}

impl State {
    /// Its bytes.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub fn bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_extend(self, Vec::new())
    }

    /// What these bytes are.
    ///
    /// # Errors
    ///
    /// Nothing that this program writes.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let nonsense = |why: String| Unreadable::Nonsense(format!("the state of its processors: {why}"));
        let (state, rest) = postcard::take_from_bytes(bytes).map_err(|error| nonsense(error.to_string()))?;
        match rest {
            [] => Ok(state),
            rest => Err(nonsense(format!("{} bytes too many", rest.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::virtio::saved::{Parts, SavedQueue};
    use super::*;
    use kvm_bindings::{kvm_cpuid_entry2, kvm_regs};
    use proptest::prelude::*;

    /// A state with something in each of its parts.
    fn small() -> State {
        let identity = vec![kvm_cpuid_entry2 { function: 1, ecx: 2, ..kvm_cpuid_entry2::default() }];
        let general = kvm_regs { rax: 3, rip: 0x10_0000, ..kvm_regs::default() };
        let model = vec![(0x10, 4), (0x6e0, u64::MAX)];
        let mut processor = Processor { identity, general, model, ..Processor::default() };
        (processor.tsc_khz, processor.extended.region[1023]) = (Some(5), 6);
        let mut chips = Chips { clock: 7, ..Chips::default() };
        (chips.controllers[2].chip_id, chips.timer.flags) = (2, 8);
        let chain = Parts { head: 9, readable: vec![(10, 11)], writable: vec![(12, 13)] };
        let queue =
            SavedQueue { size_max: 128, size: 16, next_used: 14, taken: vec![chain], ..Default::default() };
        let device = Saved { kind: 2, config: vec![15], why: 1, queues: vec![queue], ..Saved::default() };
        let serial = SerialState { in_buffer: b"typed".into(), ..SerialState::default() };
        State { processors: vec![processor], chips, serial, devices: vec![device] }
    }

    /// These bytes are in the field. If this test fails, add a version; do not edit the numbers.
    #[test]
    fn version_1_never_changes() {
        let bytes = small().bytes().unwrap();
        assert_eq!((bytes.len(), crc32c::crc32c(&bytes)), (7962, 0xd28c_2598));
        let read = State::read(&bytes).unwrap();
        assert_eq!(read.bytes().unwrap(), bytes);
        assert_eq!(read.devices, small().devices);
        assert_eq!((read.processors[0].general.rip, read.serial.in_buffer.len()), (0x10_0000, 5));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// I11: any bytes are a state or none, without a panic, and cost little.
        #[test]
        fn any_bytes_are_read(
            place in any::<prop::sample::Index>(), with in any::<[u8; 9]>(), cut in any::<bool>(),
        ) {
            let mut bytes = small().bytes().unwrap();
            let at = place.index(bytes.len());
            let rest = bytes.split_off(at);
            bytes.extend(&with);
            bytes.extend(rest.iter().skip(with.len()));
            bytes.truncate(if cut { at } else { usize::MAX });
            if let Ok(state) = State::read(&bytes) {
                prop_assert!(state.bytes().unwrap().len() <= 2 * bytes.len());
            }
        }
    }
}
