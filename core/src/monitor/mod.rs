//! Who is alive, who is master, and what is done about a peer that is missing (S1-17 to S1-20, S2-03).
//!
//! - [`pair`]: the rule by which two instances (infra or admin) watch each other, and by which the designated
//!   controller of the site is found. It asks for its register and never acts without it.
//! - [`alone`]: who decides while voters are missing, so that a second loss stops nobody who may go on (X04).

pub mod alone;
pub mod pair;
