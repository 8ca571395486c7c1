//! What a card holds, as the firmware would read it, and all that is damaged on it (F8, F25, F54).

use bulkhead_core::provision::records::{Record, Ring};
use bulkhead_core::provision::{
    Block, Fault, Head, PEERS_PER_BLOCK, Peer, SETTINGS_AT, STARTS_AT, Secrets, VOTES_AT, parse_peers,
    parse_starts,
};
use bulkhead_core::register::store::{self, Owner, STRIDE, Stored, newest, offset};
use std::collections::BTreeMap;
use std::io;

/// Reads one block at a place in bytes.
pub type Blocks<'a> = &'a mut dyn FnMut(u64) -> io::Result<Block>;

/// A whole copy of the settings.
#[derive(Clone)]
pub struct Settings {
    /// Which copy: 0 or 1.
    pub copy: usize,
    /// The head.
    pub head: Head,
    /// Its keys.
    pub secrets: Secrets,
    /// Its peers.
    pub peers: Vec<Peer>,
}

/// What a card holds.
#[derive(Clone, Debug)]
pub struct Card {
    /// Each copy of the settings, or why it is none.
    pub copies: [Result<Settings, Fault>; 2],
    /// Each copy of the owner of the votes, or why it is none.
    pub owners: [Result<Owner, store::Fault>; 2],
    /// Each number of starts of that owner that is whole.
    pub starts: [Option<u64>; 2],
    /// The registers in the order of their places.
    pub registers: Vec<Stored>,
    /// What was asked for about the power of nodes, oldest first; of each order the last word.
    pub records: Vec<Record>,
    /// What is damaged, in words; what the firmware repairs by itself, too.
    pub damage: Vec<String>,
    /// Nothing was ever written where a card keeps anything.
    pub is_blank: bool,
}

impl std::fmt::Debug for Settings {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { copy, head, secrets: _, peers } = self;
        let mut shown = f.debug_struct("Settings");
        shown.field("copy", copy).field("head", head).field("peers", peers).finish_non_exhaustive()
    }
}

impl Card {
    /// Reads a card that has room for `places` registers.
    ///
    /// # Errors
    ///
    /// The card cannot be read.
    pub fn read(places: u16, blocks: Blocks<'_>) -> io::Result<Self> {
        let (mut damage, mut is_blank) = (Vec::new(), true);
        let mut copies = [Err(Fault::Blank), Err(Fault::Blank)];
        for ((number, at), copy) in SETTINGS_AT.into_iter().enumerate().zip(&mut copies) {
            *copy = settings(number, at, blocks)?;
            is_blank &= matches!(copy, Err(Fault::Blank));
            if let Err(fault) = copy {
                damage.push(format!("copy {} of the settings: {fault}", number.saturating_add(1)));
            }
        }
        let mut owners = [Err(store::Fault::Blank), Err(store::Fault::Blank)];
        for ((number, at), owner) in [0, STRIDE].into_iter().enumerate().zip(&mut owners) {
            *owner = Owner::parse(&blocks(VOTES_AT.saturating_add(at))?);
            is_blank &= *owner == Err(store::Fault::Blank);
            if let Err(fault) = owner {
                damage.push(format!("copy {} of the owner of the votes: {fault}", number.saturating_add(1)));
            }
        }
        let mut card = Self {
            copies,
            owners,
            starts: [None; 2],
            registers: Vec::new(),
            records: Vec::new(),
            damage,
            is_blank,
        };
        if let Some(owner) = card.owner() {
            card.read_starts(&owner, blocks)?;
            card.read_registers(&owner, places, blocks)?;
            card.read_records(&owner, blocks)?;
        }
        if card.is_blank {
            card.damage.clear();
        }
        Ok(card)
    }

    /// The settings in force.
    pub fn settings(&self) -> Option<&Settings> {
        let whole = self.copies.iter().flatten();
        // Of two with one number the first counts, as on the board.
        whole.rev().max_by_key(|settings| settings.head.seq)
    }

    /// Whose votes it keeps; `None` when no copy says so, or two say otherwise.
    pub fn owner(&self) -> Option<Owner> {
        match &self.owners {
            [Ok(one), Ok(two)] => (one == two).then_some(*one),
            [Ok(one), Err(_)] | [Err(_), Ok(one)] => Some(*one),
            [Err(_), Err(_)] => None,
        }
    }

    /// How often its witness started; `None` when that is lost.
    pub fn started(&self) -> Option<u64> {
        self.starts.iter().flatten().max().copied()
    }

    /// A version of a format that this Bulkhead does not know.
    pub fn newer(&self) -> Option<u8> {
        let of_settings = self.copies.iter().find_map(|copy| match copy {
            Err(Fault::NewerFormat { found }) => Some(*found),
            Ok(_) | Err(Fault::Blank | Fault::Damaged | Fault::OtherSeq) => None,
        });
        let of_votes = self.owners.iter().find_map(|owner| match owner {
            Err(store::Fault::NewerFormat { found }) => Some(*found),
            Ok(_) | Err(store::Fault::Blank | store::Fault::Damaged | store::Fault::Foreign) => None,
        });
        of_settings.or(of_votes)
    }

    /// Whether a witness starts with it and votes: settings, votes and the number of starts are of one
    /// witness.
    pub fn is_usable(&self) -> bool {
        let lost = self.damage.iter().any(|damage| damage.starts_with(PLACE));
        let is_one = self.settings().is_some_and(|settings| Some(settings.head.owner) == self.owner());
        is_one && self.started().is_some() && !lost
    }

    fn read_starts(&mut self, owner: &Owner, blocks: Blocks<'_>) -> io::Result<()> {
        for ((number, at), starts) in STARTS_AT.into_iter().enumerate().zip(&mut self.starts) {
            *starts = parse_starts(&blocks(at)?, owner);
            if starts.is_none() {
                self.damage
                    .push(format!("copy {} of the number of starts is none", number.saturating_add(1)));
            }
        }
        Ok(())
    }

    fn read_records(&mut self, owner: &Owner, blocks: Blocks<'_>) -> io::Result<()> {
        let mut all = BTreeMap::new();
        for (ring, at) in Ring::ALL.into_iter().flat_map(|ring| ring.places().map(move |at| (ring, at))) {
            match Record::parse(&blocks(at)?, owner) {
                Ok(record) => {
                    let key = (record.start, record.entry.number);
                    let known: &mut Record = all.entry(key).or_insert(record);
                    if known.seq < record.seq {
                        *known = record;
                    }
                }
                // Of an earlier owner of this card, or never written.
                Err(Fault::Blank | Fault::OtherSeq) => {}
                Err(fault) => {
                    let what = if ring == Ring::Orders { "an order" } else { "a refusal" };
                    self.damage.push(format!("the record of {what} at byte {at}: {fault}"));
                }
            }
        }
        self.records = all.into_values().collect();
        Ok(())
    }

    fn read_registers(&mut self, owner: &Owner, places: u16, blocks: Blocks<'_>) -> io::Result<()> {
        let mut is_ended = false;
        for place in 0..places {
            let mut copies = [Err(store::Fault::Blank), Err(store::Fault::Blank)];
            for (number, copy) in (0..).zip(&mut copies) {
                let at = VOTES_AT.saturating_add(offset(place, number));
                *copy = Stored::parse(&blocks(at)?, owner);
                if let Err(fault) = copy.as_ref().map(drop)
                    && *fault != store::Fault::Blank
                {
                    self.damage.push(format!("copy {} of place {place}: {fault}", number.saturating_add(1)));
                }
            }
            match newest(copies) {
                Ok(_) if is_ended => self.damage.push(format!("{PLACE} {place} stands behind an empty one")),
                Ok(stored) => self.registers.push(stored),
                Err(store::Fault::Blank) => is_ended = true,
                Err(fault) => self.damage.push(format!("{PLACE} {place} is lost: {fault}")),
            }
        }
        Ok(())
    }
}

/// How damage begins with which a witness does not vote.
const PLACE: &str = "the register at place";

fn settings(copy: usize, at: u64, blocks: Blocks<'_>) -> io::Result<Result<Settings, Fault>> {
    let first = blocks(at)?;
    let head = match Head::parse(&first) {
        Ok(head) => head,
        Err(fault) => return Ok(Err(fault)),
    };
    let (mut peers, mut left) = (Vec::new(), usize::from(head.peers));
    for number in (1..).take(head.peer_blocks()) {
        let place = at.saturating_add(512_u64.saturating_mul(number));
        let parsed = parse_peers(&blocks(place)?, head.seq, left, |peer| peers.push(peer));
        if let Err(fault) = parsed {
            return Ok(Err(fault));
        }
        left = left.saturating_sub(PEERS_PER_BLOCK);
    }
    Ok(Ok(Settings { copy, head, secrets: Secrets::of(&first), peers }))
}
