//! Guests: each writes its own blocks all the time, several at once, and goes on over another path when one
//! dies.

use super::history::{BLOCK, History};
use bulkhead::nbd::client::connection::Client;
use bulkhead::nbd::export::{Answer, Content, Export as _, Failed, Piece, Reply, Request, Span};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A path that is silent for so long is given up: longer than docs/nbd.md demands.
const GIVEN_UP: Duration = Duration::from_secs(9);
/// Every request comes to its end on some path within this.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two turns: a holder that comes back must read faster what it missed than guests write, on a
/// machine that does ten other things.
const REST: Duration = Duration::from_millis(25);
const BLOCKS: u64 = 24;
const AT_ONCE: usize = 4;

/// What guests and the test share.
#[derive(Default)]
pub struct Board {
    over: AtomicBool,
    /// The guests look at all their blocks on all paths, once for each number.
    pub look: AtomicU64,
    pub guests: Vec<Progress>,
    /// What is wrong.
    pub wrong: Mutex<Option<String>>,
}

#[derive(Default)]
pub struct Progress {
    pub acknowledged: AtomicU64,
    /// The last number for which everything was looked at.
    pub looked: AtomicU64,
}

/// The guests; they end when this is dropped.
pub struct Guests {
    pub board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
}

impl Guests {
    pub fn start(count: usize, uris: &[String], seed: u64) -> Self {
        let guests = (0..count).map(|_| Progress::default()).collect();
        let board = Arc::new(Board { guests, ..Board::default() });
        let start = |me: usize| {
            let first = me as u64 * BLOCKS;
            let guest = Guest {
                me,
                board: Arc::clone(&board),
                uris: uris.to_vec(),
                paths: uris.iter().map(|_| None).collect(),
                current: me % uris.len(),
                blocks: (first..first + BLOCKS).map(History::new).collect(),
                chance: Chance(seed ^ (me as u64 + 1) << 32),
            };
            std::thread::spawn(move || guest.run())
        };
        let threads = (0..count).map(start).collect();
        Self { board, threads }
    }

    pub fn total(&self) -> u64 {
        self.board.guests.iter().map(|guest| guest.acknowledged.load(Ordering::SeqCst)).sum()
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.board.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // It has said what is wrong on the board.
            let _ = thread.join();
        }
    }
}

/// A sequence of numbers that a seed repeats.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

struct Guest {
    me: usize,
    board: Arc<Board>,
    uris: Vec<String>,
    paths: Vec<Option<Client>>,
    current: usize,
    blocks: Vec<History>,
    chance: Chance,
}

impl Guest {
    fn run(mut self) {
        while !self.is_over() {
            if let Err(wrong) = self.turn() {
                self.board.wrong.lock().unwrap().get_or_insert(format!("guest {}: {wrong}", self.me));
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.board.over.load(Ordering::SeqCst) || self.board.wrong.lock().unwrap().is_some()
    }

    fn turn(&mut self) -> Result<(), String> {
        std::thread::sleep(REST);
        let first = self.chance.below(BLOCKS) as usize;
        let mine: Vec<usize> = (0..AT_ONCE).map(|step| (first + step * 5) % BLOCKS as usize).collect();
        self.write(&mine)?;
        let block = mine[self.chance.below(AT_ONCE as u64) as usize];
        self.read(block, None)?;
        let look = self.board.look.load(Ordering::SeqCst);
        if self.board.guests[self.me].looked.load(Ordering::SeqCst) < look {
            for path in 0..self.uris.len() {
                (0..BLOCKS as usize).try_for_each(|block| self.read(block, Some(path)))?;
            }
            self.board.guests[self.me].looked.store(look, Ordering::SeqCst);
            // From now on over another one.
            self.current = self.chance.below(self.uris.len() as u64) as usize;
        }
        Ok(())
    }

    /// Writes these blocks at once. Each is acknowledged, or open for ever and written again.
    fn write(&mut self, blocks: &[usize]) -> Result<(), String> {
        let begin = Instant::now();
        let mut left = blocks.to_vec();
        while !left.is_empty() && !self.is_over() {
            self.patient(begin)?;
            let Some(client) = self.path(self.current) else {
                self.next();
                continue;
            };
            let mut under_way = Vec::new();
            for block in left.drain(..) {
                let (value, data) = self.blocks[block].begin();
                let offset = self.blocks[block].block() * BLOCK as u64;
                under_way.push((block, value, ask(&client, Request::Write { offset, data, durable: true })));
            }
            for (block, value, answer) in under_way {
                match answer.recv() {
                    Ok(Ok(_)) => {
                        self.blocks[block].acknowledged(value);
                        self.board.guests[self.me].acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(Err(_)) | Err(_) => left.push(block),
                }
            }
            self.paths[self.current] = Some(client);
            if !left.is_empty() {
                self.give_up();
            }
        }
        Ok(())
    }

    /// Reads a block over this path, or over any, and judges it.
    fn read(&mut self, block: usize, path: Option<usize>) -> Result<(), String> {
        let begin = Instant::now();
        let offset = self.blocks[block].block() * BLOCK as u64;
        while !self.is_over() {
            self.patient(begin)?;
            self.current = path.unwrap_or(self.current);
            let Some(client) = self.path(self.current) else {
                self.next();
                continue;
            };
            let answer = ask(&client, Request::Read { span: Span { offset, length: BLOCK as u32 } }).recv();
            self.paths[self.current] = Some(client);
            match answer {
                Ok(Ok(content)) => {
                    let uri = &self.uris[self.current];
                    return self.blocks[block]
                        .read(&bytes(content))
                        .map_err(|wrong| format!("{wrong}, over {uri}"));
                }
                Ok(Err(_)) | Err(_) => self.give_up(),
            }
        }
        Ok(())
    }

    fn patient(&self, begin: Instant) -> Result<(), String> {
        match begin.elapsed() < PATIENCE {
            true => Ok(()),
            false => Err(format!("no path answers for {PATIENCE:?}")),
        }
    }

    /// Takes a connection out of its place, opened if it has ended.
    fn path(&mut self, index: usize) -> Option<Client> {
        let open = self.paths[index].take().filter(|client| client.ended().is_none());
        open.or_else(|| Client::connect(&self.uris[index].parse().unwrap(), GIVEN_UP).ok())
    }

    /// Closes the path, and goes on over the next one.
    fn give_up(&mut self) {
        self.paths[self.current] = None;
        self.next();
    }

    fn next(&mut self) {
        self.current = (self.current + 1) % self.uris.len();
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ask(client: &Client, request: Request) -> Receiver<Result<Content, Failed>> {
    let (sender, receiver) = channel();
    client.submit(request, Reply::new(move |answer: Answer| drop(sender.send(answer))));
    receiver
}

fn bytes(content: Content) -> Vec<u8> {
    let Content::Data(pieces) = content else { return Vec::new() };
    let one = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => (**bytes).as_ref().to_vec(),
        Piece::Zeroes(count) => vec![0; *count as usize],
    };
    pieces.iter().flat_map(one).collect()
}
