//! A guest that writes without end and remembers what was acknowledged (V1, V4, V42).

use crate::failure::Failure;
use crate::nbd::client::connection::Client;
use crate::nbd::export::{Content, Export as _, Failed, Piece, Reply, Request, Span};
use crate::nbd::uri::Uri;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of a block.
const BLOCK: u32 = 4096;
/// Words of eight bytes in a block.
const WORDS: usize = 512;
/// Writes that are under way at once.
const DEPTH: u64 = 8;
/// Longer than any takeover, and than the nodes' own patience with each other.
const PATIENCE: Duration = Duration::from_secs(60);

/// A guest.
#[derive(Debug)]
pub struct Guest {
    shared: Arc<Shared>,
    blocks: u64,
    uri: Uri,
    thread: JoinHandle<Result<(), Failure>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Writes that were acknowledged: block by block, in rounds.
    written: AtomicU64,
    longest: Mutex<Duration>,
}

impl Guest {
    /// Begins to write into the first `blocks` blocks of a volume.
    ///
    /// # Errors
    ///
    /// It is not there yet.
    pub fn start(uri: &Uri, blocks: u64) -> Result<Self, Failure> {
        let client = connect(uri)?;
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("guest".into());
        let thread = thread
            .spawn(move || write(&client, blocks, &own))
            .map_err(|error| Failure::failed(format!("the guest has no thread: {error}")))?;
        Ok(Self { shared, blocks, uri: uri.clone(), thread })
    }

    /// How many writes were acknowledged.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }

    /// The longest that one of them took.
    pub fn longest(&self) -> Duration {
        *self.shared.longest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops writing, and reads everything that was acknowledged.
    ///
    /// # Errors
    ///
    /// A write failed, or something else is read.
    pub fn end_and_check(self) -> Result<(), Failure> {
        self.shared.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.join().unwrap_or_else(|_| Err(Failure::failed("the guest panicked")));
        ended?;
        let written = self.shared.written.load(Ordering::SeqCst);
        let client = connect(&self.uri)?;
        for block in 0..self.blocks.min(written) {
            let found = read(&client, block)?;
            let expected = content(block, round_of(block, self.blocks, written));
            if found != expected {
                let what = format!("block {block} of the guest does not say what was acknowledged last");
                return Err(Failure::failed(what).left("An acknowledged write was lost."));
            }
        }
        Ok(())
    }
}

/// The last round in which a block was written, when so many writes were acknowledged, in order.
fn round_of(block: u64, blocks: u64, written: u64) -> u64 {
    written.saturating_sub(block).div_ceil(blocks.max(1))
}

/// What a block says in a round, from 1.
fn content(block: u64, round: u64) -> Vec<u8> {
    let word = block.wrapping_shl(32).wrapping_add(round).to_le_bytes();
    word.repeat(WORDS)
}

fn write(client: &Client, blocks: u64, shared: &Shared) -> Result<(), Failure> {
    let mut next = 0_u64;
    while !shared.stop.load(Ordering::SeqCst) {
        let begun = Instant::now();
        let under_way: Vec<_> = (next..next.saturating_add(DEPTH))
            .map(|number| {
                let (block, round) = (number.checked_rem(blocks), number.checked_div(blocks));
                let (block, round) = (block.unwrap_or(0), round.unwrap_or(0).saturating_add(1));
                let offset = block.saturating_mul(BLOCK.into());
                ask(client, Request::Write { offset, data: content(block, round), durable: true })
            })
            .collect();
        for answer in under_way {
            answered(&answer, "a write of the guest")?;
            next = next.saturating_add(1);
        }
        shared.written.store(next, Ordering::SeqCst);
        let mut longest = shared.longest.lock().unwrap_or_else(PoisonError::into_inner);
        *longest = longest.max(begun.elapsed());
    }
    Ok(())
}

fn read(client: &Client, block: u64) -> Result<Vec<u8>, Failure> {
    let span = Span { offset: block.saturating_mul(BLOCK.into()), length: BLOCK };
    let Content::Data(pieces) = answered(&ask(client, Request::Read { span }), "a read of the guest")? else {
        return Ok(Vec::new());
    };
    let bytes = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => (**bytes).as_ref().to_vec(),
        Piece::Zeroes(count) => vec![0; usize::try_from(*count).unwrap_or(0)],
    };
    Ok(pieces.iter().flat_map(bytes).collect())
}

fn ask(client: &Client, request: Request) -> Receiver<Result<Content, Failed>> {
    let (tell, told) = channel();
    client.submit(request, Reply::new(move |answer| drop(tell.send(answer))));
    told
}

fn answered(answer: &Receiver<Result<Content, Failed>>, what: &str) -> Result<Content, Failure> {
    match answer.recv_timeout(PATIENCE) {
        Ok(Ok(content)) => Ok(content),
        Ok(Err(failed)) => Err(Failure::failed(format!("{what} failed: {}", failed.why))),
        Err(_) => Err(Failure::failed(format!("{what} was not answered within {} s", PATIENCE.as_secs()))),
    }
}

fn connect(uri: &Uri) -> Result<Client, Failure> {
    Client::connect(uri, PATIENCE)
        .map_err(|refused| Failure::failed(format!("the guest cannot use {uri}: {refused}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_round_of_a_block_follows_from_how_many_were_written() {
        for (block, written, round) in [(0, 1, 1), (9, 10, 1), (0, 11, 2), (1, 11, 1), (1, 12, 2), (9, 20, 2)]
        {
            assert_eq!(round_of(block, 10, written), round, "block {block} of {written}");
        }
    }
}
