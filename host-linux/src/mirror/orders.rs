//! What an operator asks of a group: one thing after the other, each in the catalogue of all holders in sync
//! before it is answered (S1-33, S3-07, S0-06).

use super::group::Group;
use super::handle::{Ordered, Payload, Pending, lock};
use super::window::{Done, Unknown};
use super::words::Order;
use crate::failure::Failure;
use crate::storage::space::sums;
use crate::volume::catalogue::draw;
use bulkhead_core::log::Block;
use bulkhead_core::log::batch::{BlockIndex, Kind, Volume, Write};
use bulkhead_core::volume::CATALOGUE;
use bulkhead_core::volume::record::Record;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Orders that wait at once at most.
const WAITING_MAX: usize = 64;

/// What was asked, and is not answered yet.
#[derive(Default)]
pub struct Orders {
    waiting: VecDeque<(Order, Ordered)>,
    /// One is on its way to the catalogue.
    is_busy: Arc<AtomicBool>,
}

impl Group {
    /// An operator asks for something.
    pub(super) fn order(&mut self, order: Order, done: Ordered) {
        if WAITING_MAX <= self.orders.waiting.len() {
            return done(
                Err(unchanged(Failure::refused("too many requests are waiting")).next("try again.")),
            );
        }
        self.orders.waiting.push_back((order, done));
    }

    /// Begins with the next one.
    pub(super) fn next_order(&mut self) {
        while !self.orders.is_busy.load(Ordering::SeqCst) {
            if self.orders.waiting.is_empty() {
                return;
            }
            let leads = self.shared.reigns().is_some();
            let catalogue = self.logged().cloned();
            if leads && catalogue.is_none() {
                // The catalogue lacks what is not read from the log yet: a name could be given twice.
                return;
            }
            let Some((order, done)) = self.orders.waiting.pop_front() else { return };
            let Some(catalogue) = catalogue.filter(|_| leads) else {
                done(Err(self.not_here()));
                continue;
            };
            let of = |record: Record| (record.volume, record.encode());
            let block = match order {
                Order::Want(policy) => Ok((CATALOGUE, catalogue.want_of_all(policy).encode())),
                Order::Bound(max) => Ok((CATALOGUE, catalogue.bound(max).encode())),
                Order::Admit(node) => Ok((CATALOGUE, catalogue.admit(node).encode())),
                Order::Dismiss(node) => catalogue.dismiss(node).map(|group| (CATALOGUE, group.encode())),
                Order::WantOf { volume, policy } => catalogue.want(volume, policy).map(of),
                Order::Cache(algorithm) => Ok((CATALOGUE, catalogue.cache_of_all(algorithm).encode())),
                Order::CacheOf { volume, is_cached } => catalogue.cache(volume, is_cached).map(of),
                Order::Create { name, blocks } => {
                    let made = draw().and_then(|uuid| catalogue.make(&name, blocks, uuid));
                    made.and_then(|record| self.has_room(record)).map(of)
                }
                Order::Resize { volume, blocks } => {
                    let larger = catalogue.resize(volume, blocks);
                    larger.and_then(|record| self.has_room(record)).map(of)
                }
                Order::Delete { volume } => catalogue.delete(volume).map(of),
                Order::Guest { volume, guest } => catalogue.guest(volume, guest).map(of),
                Order::Count { volume, needs } => catalogue.count(volume, needs).map(of),
                Order::Seal { volume, seal } => catalogue.seal(volume, Some(seal)).map(of),
            };
            match block {
                Ok((volume, block)) => self.write_catalogue(volume, &block, done),
                Err(failure) => done(Err(failure)),
            }
        }
    }

    /// Where this node is to have a volume's content there is room for it. The other holders see for
    /// themselves, and fail by it.
    fn has_room(&self, record: Record) -> Result<Record, Failure> {
        let claims = self.shared.store.claims();
        claims.check(record.name.as_str(), record.blocks).map_err(unchanged)?;
        Ok(record)
    }

    /// Writes the block of a volume, or of the group, to the catalogue.
    fn write_catalogue(&mut self, volume: Volume, block: &Block, done: Ordered) {
        let write = Write::new(CATALOGUE, BlockIndex(volume.0.into()), 1, Kind::Data);
        let (Some(write), Some(mut buffer)) = (write, self.shared.pool.take(1)) else {
            let failure = Failure::failed("there is no memory for it now");
            return done(Err(unchanged(failure).next("try again.")));
        };
        buffer.bytes_mut().copy_from_slice(block);
        let sums = sums(buffer.bytes()).collect();
        let payload = Some(Payload::Ready(buffer.keep().piece(), sums));
        let is_busy = Arc::clone(&self.orders.is_busy);
        is_busy.store(true, Ordering::SeqCst);
        let done: Done = Box::new(move |end| {
            is_busy.store(false, Ordering::SeqCst);
            done(end.map(|()| volume).map_err(|Unknown| lost(volume)));
        });
        self.waiting.push_back(Pending { write, payload, done: Some(done) });
        self.write();
    }

    fn not_here(&self) -> Failure {
        let primary = lock(&self.shared.view).primary;
        let what = "this node does not lead the group of its volumes";
        let next = match primary {
            Some(node) => format!("ask node {node}, which does."),
            None => "`bulkhead status` says who does, or what is waited for.".to_owned(),
        };
        unchanged(Failure::refused(what)).next(next)
    }
}

fn unchanged(failure: Failure) -> Failure {
    failure.left("Nothing was changed.")
}

fn lost(volume: Volume) -> Failure {
    let what = match volume {
        CATALOGUE => "its settings were".to_owned(),
        Volume(number) => format!("volume {number} was"),
    };
    Failure::failed(format!("this node lost the group of its volumes while {what} changed"))
        .left("The change may be made, or not.")
        .next("look at it with `bulkhead volume list`, and repeat what is not done.")
}
