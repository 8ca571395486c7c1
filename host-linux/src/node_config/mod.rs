//! Who a node is: its configuration, kept on its own infra partition, so that one image serves
//! every node (S1-03).
//!
//! Reading order: [`schema`] is what it says, [`record`] its form on the disk, [`store`] reads and
//! writes it.

pub mod record;
pub mod schema;
pub mod store;
