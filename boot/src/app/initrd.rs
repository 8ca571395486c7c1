//! Offers the initrd to the Linux EFI stub, which asks for it with LoadFile2 under a GUID of its own
//! (Linux `Documentation/admin-guide/efi-stub.rst`; UEFI 2.10, section 13.2).
#![allow(unsafe_code, reason = "a protocol is a table of functions over raw pointers")]

use super::alloc::boxed::Box;
use core::ffi::c_void;
use uefi::proto::device_path::DevicePath;
use uefi::{Guid, Handle, Identify, Status, boot, guid};

const LOAD_FILE_2: Guid = guid!("4006c0c1-fcb3-403e-996d-4a6c8724e06d");

/// A vendor media node with LINUX_EFI_INITRD_MEDIA_GUID (5568e427-68fc-4f3d-ac74-ca555231cc68), then the end.
static PATH: [u8; 24] = [
    4, 3, 20, 0, 0x27, 0xe4, 0x68, 0x55, 0xfc, 0x68, 0x3d, 0x4f, 0xac, 0x74, 0xca, 0x55, 0x52, 0x31, 0xcc,
    0x68, 0x7f, 0xff, 4, 0,
];

type LoadFile =
    unsafe extern "efiapi" fn(*mut Protocol, *const c_void, u8, *mut usize, *mut c_void) -> Status;

#[repr(C)]
struct Protocol {
    load_file: LoadFile,
    data: *const u8,
    len: usize,
}

/// An initrd on offer, until dropped. The bytes it was made of must live as long: they belong to
/// the image that is being started.
pub(super) struct Initrd {
    offer: Option<(Handle, *mut Protocol)>,
}

impl Initrd {
    /// Offers `bytes`; nothing when there are none.
    pub(super) fn offer(bytes: &[u8]) -> Result<Self, Status> {
        if bytes.is_empty() {
            return Ok(Self { offer: None });
        }
        let protocol = Box::new(Protocol { load_file, data: bytes.as_ptr(), len: bytes.len() });
        let protocol = Box::into_raw(protocol);
        // SAFETY: the path is static and ends in an end node; the protocol lives until `drop`.
        let handle = unsafe {
            boot::install_protocol_interface(None, &DevicePath::GUID, PATH.as_ptr().cast::<c_void>())
                .and_then(|handle| {
                    boot::install_protocol_interface(Some(handle), &LOAD_FILE_2, protocol.cast::<c_void>())
                })
        };
        let handle = handle.map_err(|error| error.status())?;
        Ok(Self { offer: Some((handle, protocol)) })
    }
}

impl Drop for Initrd {
    fn drop(&mut self) {
        let Some((handle, protocol)) = self.offer.take() else { return };
        // SAFETY: exactly what `offer` installed. The image that could call it has ended.
        unsafe {
            let gone = boot::uninstall_protocol_interface(handle, &LOAD_FILE_2, protocol.cast::<c_void>());
            let _ =
                boot::uninstall_protocol_interface(handle, &DevicePath::GUID, PATH.as_ptr().cast::<c_void>());
            if gone.is_ok() {
                drop(Box::from_raw(protocol));
            }
        }
    }
}

/// LoadFile2: without a buffer it tells the size, with one it copies.
///
/// # Safety
///
/// Called by the firmware alone, with the protocol that [`Initrd::offer`] installed.
unsafe extern "efiapi" fn load_file(
    this: *mut Protocol,
    _path: *const c_void,
    boot_policy: u8,
    size: *mut usize,
    buffer: *mut c_void,
) -> Status {
    if this.is_null() || size.is_null() {
        return Status::INVALID_PARAMETER;
    }
    if boot_policy != 0 {
        return Status::UNSUPPORTED;
    }
    // SAFETY: the firmware calls us with the protocol we installed and a valid size; the buffer, if
    // there is one, has `*size` bytes, and is not our own memory.
    unsafe {
        let Protocol { data, len, .. } = *this;
        let room = size.replace(len);
        if buffer.is_null() || room < len {
            return Status::BUFFER_TOO_SMALL;
        }
        core::ptr::copy_nonoverlapping(data, buffer.cast::<u8>(), len);
    }
    Status::SUCCESS
}
