//! Bulkhead on Linux: the operator's commands and the node agent (issue of S1-01 to S1-03, S1-10).
//!
//! Decisions are made by `bulkhead-core`; this crate reads disks, carries out plans, and talks to
//! people.
//!
//! # Reading order
//!
//! 1. [`failure`], [`output`]: what a command answers, in words and as JSON.
//! 2. [`disk`]: opens disks and image files, reads what is on them, carries out plans.
//! 3. [`image`]: keys, image containers, the boot application, complete node disks.
//! 4. [`machine`]: the machine this runs on: its command line, its firmware, its disks.
//! 5. [`node_config`]: the node's identity on its infra partition.
//! 6. [`slots`]: changes of the boot control block, read back.
//! 7. [`agent`]: health, confirmation, watchdog.
//! 8. [`site_config`]: the site: its nodes, networks, timers, fencing.
//! 9. [`cluster`]: the site's nodes watch each other.
//! 10. [`node_site`]: the site on a node that boots from its boot partition.
//! 11. [`playground`]: a whole site on one machine.
//! 12. [`witness_card`]: the card of a witness on a microcontroller.
//! 13. [`witness_log`]: its log.
//! 14. [`firmware_image`]: its program, as programmers take it.
//! 15. [`tls`]: sockets that nobody else reads.
//! 16. [`nbd`]: block devices for clients on the network.
//! 17. [`storage`]: reads and writes disks for the write log.
//! 18. [`mirror`]: the mirror group of this node's pair.
//! 19. [`volume`]: the volumes in it.
//! 20. [`replication`]: the streams between the holders of a mirror group.
//! 21. [`kernel_nbd`]: volumes as block devices of this machine.
//! 22. [`vmm`]: one guest, on KVM.
//! 23. [`guests`]: the guests of this node.
//! 24. [`failover`]: those that run where their volumes are led.
//! 25. [`alerts`]: what is wrong, in the words of a plant.
//! 26. [`cli`]: the commands.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a red test"))]

pub mod agent;
pub mod alerts;
pub mod cli;
pub mod cluster;
pub mod disk;
pub mod durable;
pub mod failover;
pub mod failure;
pub mod firmware_image;
pub mod guests;
pub mod image;
pub mod kernel_nbd;
pub mod machine;
pub mod migration;
pub mod mirror;
pub mod nbd;
pub mod node_config;
pub mod node_site;
pub mod output;
mod own_socket;
pub mod playground;
pub mod replication;
pub mod site_config;
pub mod slots;
pub mod storage;
pub mod tls;
pub mod vmm;
pub mod volume;
pub mod witness_card;
pub mod witness_log;
