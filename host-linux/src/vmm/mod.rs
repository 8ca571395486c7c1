//! A virtual machine monitor, made for failing over: one process runs one guest on KVM, with few devices, so
//! that all of its state can be named (P3; S2-01, S3-06, S4-01).
//!
//! # Reading order
//!
//! 1. [`description`]: what a guest is, as its file says it.
//! 2. [`layout`]: what is where in a guest's memory; [`memory`]: that memory, and the [`pages`] that
//!    it is made of.
//! 3. [`machine`]: a guest put together, run, and ended; [`vcpu`]: its processors, which pass a [`gate`],
//!    and less often by a [`throttle`]; [`registers`]: how the first of them begins.
//! 4. [`boot`]: a kernel in memory, by PVH or by Linux's own protocol; [`acpi`]: what it is told of devices.
//! 5. [`ports`]: the serial line, the [`heartbeat`], reset and power; [`virtio`]: disks, networks and chance;
//!    [`disk`]: what a disk's content comes from, [`changes`]: which of it is written; [`tap`]: where a
//!    network's frames go, and [`mac`], its address; [`traffic`]: what both have carried; [`console`]: where
//!    the line goes, into a [`log`] and to who is [`attach`]ed, and [`keys`], what is typed there.
//! 6. [`guest`]: a guest's life over its resets; [`order`]: what it is told, and [`api`]: by whom;
//!    [`listener`]: what a lost heartbeat comes to, [`reporter`]: who tells the agent; [`in_use`]: once on
//!    a node.
//! 7. [`snapshot`]: its state in bytes, and how it goes on from there.
//! 8. [`lease`]: that it runs only while its node leads its volumes; [`permit`]: for how long that is,
//!    [`deadline`]: the kernel's own end of it.
//! 9. [`sandbox`]: what this process may do beside that.

pub mod acpi;
pub mod api;
pub mod attach;
pub mod begins;
pub mod boot;
pub mod changes;
pub mod console;
pub mod deadline;
pub mod description;
pub mod disk;
pub mod gate;
pub mod guest;
pub mod heartbeat;
pub mod in_use;
pub mod keys;
pub mod layout;
pub mod lease;
pub mod listener;
pub mod log;
pub mod mac;
pub mod machine;
pub mod memory;
#[cfg(test)]
mod namespace;
pub mod order;
pub mod pages;
pub mod permit;
pub mod ports;
pub mod registers;
pub mod reporter;
#[cfg(test)]
pub(crate) mod said;
pub mod sandbox;
pub mod snapshot;
pub mod tap;
mod tap_ioctl;
#[cfg(test)]
pub(crate) mod testing;
pub mod throttle;
pub mod traffic;
pub mod vcpu;
pub mod virtio;
