//! Whose a store is that several holders reach (S4-03; I1, F19, V5).
//!
//! A tenure, 96 bytes, little-endian, in the file `shared` of the store's directory. Whoever leads has that
//! file locked, and says in it that it does, before it writes anything else there. No disk tears it: it is
//! less than a sector.
//!
//! |   at | len | field    | unit, values                                                             |
//! |-----:|----:|----------|--------------------------------------------------------------------------|
//! |    0 |   8 | magic    | "BHTENUR", version 1                                                     |
//! |    8 |   2 | node     | that leads, or led last; not 0                                           |
//! |   10 |   6 | reserved | zero                                                                     |
//! |   16 |  16 | site     |                                                                          |
//! |   32 |  16 | group    | whose volumes these are                                                  |
//! |   48 |   8 | epoch    | under which it took the register; not 0                                  |
//! |   56 |  36 | host     | ASCII: the system's boot id of the machine it runs on; the rest zero     |
//! |   92 |   4 | crc      | CRC-32C of bytes 0..92                                                   |

use super::record::Fault;
use crate::bytes::{Reader, Writer};
use crate::crc::crc32c;
use crate::id::{Epoch, GroupId, NodeId, SiteId};

const MAGIC: [u8; 7] = *b"BHTENUR";
const VERSION: u8 = 1;

/// Bytes of a tenure.
pub const TENURE_LEN: usize = 96;
/// Bytes that its checksum covers.
const BODY_LEN: usize = TENURE_LEN - 4;
/// Bytes of a boot id: a UUID in text.
pub const HOST_LEN: usize = 36;

/// Who has a store, or had it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Of which site.
    pub site: SiteId,
    /// Of which group.
    pub group: GroupId,
    /// Who leads. Invariant: not 0.
    pub node: NodeId,
    /// Under which it took the register. Invariant: not 0.
    pub epoch: Epoch,
    /// The boot id of the machine it runs on: as the system says it, or zeroes.
    pub host: [u8; HOST_LEN],
}

impl Tenure {
    /// The bytes to write.
    pub fn encode(&self) -> [u8; TENURE_LEN] {
        let mut body = Writer::<BODY_LEN>::default();
        body.put(&MAGIC);
        body.u8(VERSION);
        body.u16(self.node.0);
        body.reserved(6);
        body.put(&self.site.0);
        body.put(&self.group.0);
        body.u64(self.epoch.0);
        body.put(&self.host);
        let body = body.finish();
        let mut all = Writer::<TENURE_LEN>::default();
        all.put(&body);
        all.u32(crc32c(&body));
        all.finish()
    }

    /// Reads a tenure.
    ///
    /// # Errors
    ///
    /// [`Fault`]. What does not encode to the same bytes again is damaged: one tenure, one form.
    pub fn decode(bytes: &[u8; TENURE_LEN]) -> Result<Self, Fault> {
        let mut fields = Reader::new(bytes);
        match (fields.array::<7>(), fields.u8()) {
            (Some(MAGIC), Some(VERSION)) => {}
            (Some(MAGIC), Some(found)) if VERSION < found => {
                return Err(Fault::NewerFormat { found, reads: VERSION });
            }
            (Some(_) | None, Some(_) | None) => return Err(Fault::Damaged),
        }
        let mut read = || {
            let node = NodeId(fields.u16()?);
            fields.reserved::<6>()?.then_some(())?;
            let (site, group) = (SiteId(fields.array()?), GroupId(fields.array()?));
            Some(Self { site, group, node, epoch: Epoch(fields.u64()?), host: fields.array()? })
        };
        let tenure = read().filter(|one| one.node != NodeId(0) && one.epoch != Epoch(0));
        tenure.filter(|one| one.encode() == *bytes).ok_or(Fault::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TENURE: Tenure = Tenure {
        site: SiteId([1; 16]),
        group: GroupId([2; 16]),
        node: NodeId(3),
        epoch: Epoch(0x0405),
        host: *b"01234567-89ab-cdef-0123-456789abcdef",
    };

    /// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
    #[test]
    fn version_1_never_changes() {
        let mut expected = [0; TENURE_LEN];
        expected[..10].copy_from_slice(b"BHTENUR\x01\x03\0");
        expected[16..32].fill(1);
        expected[32..48].fill(2);
        expected[48..50].copy_from_slice(&[5, 4]);
        expected[56..92].copy_from_slice(b"01234567-89ab-cdef-0123-456789abcdef");
        let crc = crc32c(&expected[..92]).to_le_bytes();
        expected[92..].copy_from_slice(&crc);
        assert_eq!(TENURE.encode(), expected);
        assert_eq!(Tenure::decode(&expected), Ok(TENURE));
    }

    #[test]
    fn what_is_none_is_refused() {
        let changed = |change: &dyn Fn(&mut Tenure)| {
            let mut tenure = TENURE;
            change(&mut tenure);
            Tenure::decode(&tenure.encode())
        };
        assert_eq!(changed(&|one| one.node = NodeId(0)), Err(Fault::Damaged));
        assert_eq!(changed(&|one| one.epoch = Epoch(0)), Err(Fault::Damaged));
        assert_eq!(Tenure::decode(&[0; TENURE_LEN]), Err(Fault::Damaged));
        let mut newer = TENURE.encode();
        newer[7] = 2;
        assert_eq!(Tenure::decode(&newer), Err(Fault::NewerFormat { found: 2, reads: 1 }));
    }

    proptest! {
        #[test]
        fn no_changed_bit_goes_unnoticed(at in 0..TENURE_LEN, bit in 0..8_u8) {
            let mut bytes = TENURE.encode();
            bytes[at] ^= 1 << bit;
            prop_assert!(Tenure::decode(&bytes).is_err());
        }

        #[test]
        fn no_bytes_are_too_bad(bytes: [u8; TENURE_LEN]) {
            let _ = Tenure::decode(&bytes);
        }
    }
}
