//! The signed images there are, and their verification by the core's own path.

use super::disk::Disk;
use bulkhead_core::boot::choice::Check;
use bulkhead_core::container::header::{Header, PAYLOAD_START, Part};
use bulkhead_core::container::image::{Digest, ImageId, ImageVersion, SecurityVersion};
use bulkhead_core::container::trust::{ImageFault, Key, Trust};
use bulkhead_core::gpt::layout::SlotPlace;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Bytes of a payload: eight sectors, the smallest whole part.
pub const PAYLOAD: usize = 4096;
/// Bytes of a container.
pub const CONTAINER: usize = 4096 + PAYLOAD;

/// An image as a builder hands it out.
#[derive(Clone, Debug)]
pub struct Image {
    pub id: ImageId,
    pub container: Vec<u8>,
}

/// What names the bytes of a slot, and the floor they were examined under.
type Content = ((u64, u64), u32);

/// All images, the keys that are trusted, and what was verified before.
#[derive(Debug)]
pub struct Images {
    pub images: Vec<Image>,
    trust: Trust,
    /// Signatures and digests are slow without optimisation; the same bytes give the same answer.
    verified: RefCell<HashMap<Content, Check>>,
}

/// Image 0 and 1 have security version 1, image 2 has 2.
pub const SECURITY: [u32; 3] = [1, 1, 2];

impl Images {
    pub fn new() -> Self {
        let signing = SigningKey::from_bytes(&[7; 32]);
        let key = Key { public: signing.verifying_key().to_bytes(), revoked: false };
        let build = |(index, security): (u8, u32)| {
            let payload = [index + 1; PAYLOAD];
            let id = ImageId {
                version: ImageVersion(u64::from(index) + 1),
                security: SecurityVersion(security),
                digest: Digest(Sha256::digest(payload).into()),
            };
            let len = u64::try_from(PAYLOAD).unwrap();
            let unsigned = Header {
                image: id,
                payload_len: len,
                efi: Part { offset: 0, len },
                initrd: Part::default(),
                command_line: Part::default(),
                key: key.id(),
                signature: [0; 64],
            };
            let signature = signing.sign(&unsigned.message()).to_bytes();
            let mut container = Header { signature, ..unsigned }.encode().to_vec();
            container.resize(usize::try_from(PAYLOAD_START).unwrap(), 0);
            container.extend_from_slice(&payload);
            Image { id, container }
        };
        let images = (0_u8..).zip(SECURITY).map(build).collect();
        let trust = Trust { keys: [key].into_iter().collect() };
        Self { images, trust, verified: RefCell::default() }
    }

    /// Which image the slot at `place` holds, whole. Compares bytes; believes nobody. The unused
    /// bytes behind the header are nobody's, and may be anything.
    pub fn whole(&self, disk: &Disk, place: SlotPlace) -> Option<usize> {
        let bytes = disk.bytes(place.image.0, CONTAINER)?;
        let same = |image: &Image| {
            image.container[..512] == bytes[..512] && image.container[4096..] == bytes[4096..]
        };
        self.images.iter().position(same)
    }

    /// Examines a slot as a shell does.
    pub fn examine(&self, disk: &Disk, place: SlotPlace, floor: SecurityVersion) -> Check {
        let Some(bytes) = disk.bytes(place.image.0, CONTAINER) else {
            return Check::Bad(ImageFault::Unreadable);
        };
        let digest = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &bytes).hash(&mut hasher);
            hasher.finish()
        };
        let content = match self.images.iter().position(|image| image.container == bytes) {
            Some(index) => (u64::try_from(index).unwrap(), 0),
            None => (digest(1), digest(2)),
        };
        let key = (content, floor.0);
        if let Some(known) = self.verified.borrow().get(&key) {
            return *known;
        }
        let check = match self.verify(&bytes, place.capacity, floor) {
            Ok(image) => Check::Good(image),
            Err(fault) => Check::Bad(fault),
        };
        self.verified.borrow_mut().insert(key, check);
        check
    }

    fn verify(&self, bytes: &[u8], capacity: u64, floor: SecurityVersion) -> Result<ImageId, ImageFault> {
        let header = bytes.first_chunk().ok_or(ImageFault::Unreadable)?;
        let signed = self.trust.believe(header, capacity, floor)?;
        let len = usize::try_from(signed.header().payload_len).unwrap();
        let payload = &bytes[4096..4096 + len];
        let command_line = signed.header().command_line.of(payload);
        let digest = Digest(Sha256::digest(payload).into());
        signed.verify(digest, command_line).map(|verified| verified.image())
    }
}
