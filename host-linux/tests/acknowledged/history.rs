//! What a block may say: the last value that was acknowledged or read, or one that was written after it and
//! never answered. Nothing older, and nothing that nobody wrote there.

use std::collections::BTreeSet;

pub const BLOCK: usize = 4096;

/// The history of one block, which has one writer. Its values are numbers that grow.
#[derive(Clone, Debug)]
pub struct History {
    block: u64,
    /// The newest that must be there; 0: nothing was written.
    floor: u64,
    /// Written after it; whether they are there nobody knows.
    open: BTreeSet<u64>,
    next: u64,
}

impl History {
    pub const fn new(block: u64) -> Self {
        Self { block, floor: 0, open: BTreeSet::new(), next: 0 }
    }

    pub const fn block(&self) -> u64 {
        self.block
    }

    /// The next content, which is written from now on.
    pub fn begin(&mut self) -> (u64, Vec<u8>) {
        self.next += 1;
        self.open.insert(self.next);
        (self.next, content(self.block, self.next))
    }

    /// This value was acknowledged.
    pub fn acknowledged(&mut self, value: u64) {
        self.floor = self.floor.max(value);
        self.open = self.open.split_off(&(self.floor + 1));
    }

    /// This is read. From now on nothing older may be.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        let value = self.value(bytes)?;
        if value != self.floor && !self.open.contains(&value) {
            let Self { block, floor, open, next } = self;
            let what =
                if value < *floor { "an older value came back" } else { "a value that was not written" };
            return Err(format!(
                "block {block}: {what}: {value}; {floor} is certain, {open:?} open, last {next}"
            ));
        }
        self.acknowledged(value);
        Ok(())
    }

    fn value(&self, bytes: &[u8]) -> Result<u64, String> {
        let block = self.block;
        let words: BTreeSet<u64> =
            bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        match (bytes.len(), words.first(), words.len()) {
            (BLOCK, Some(0), 1) => Ok(0),
            (BLOCK, Some(word), 1) if word >> 40 == block + 1 => Ok(word & ((1 << 40) - 1)),
            (BLOCK, Some(word), 1) => Err(format!("block {block}: foreign content {word:#x}")),
            (length, _, _) => Err(format!("block {block}: torn: {length} bytes, {words:x?}")),
        }
    }
}

fn content(block: u64, value: u64) -> Vec<u8> {
    ((block + 1) << 40 | value).to_le_bytes().repeat(BLOCK / 8)
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let mut history = History::new(7);
    assert!(history.read(&[0; BLOCK]).is_ok(), "never written");
    let (one, first) = history.begin();
    let (two, second) = history.begin();
    assert!(history.clone().read(&[0; BLOCK]).is_ok(), "neither was acknowledged");
    history.acknowledged(one);
    assert!(
        history.clone().read(&[0; BLOCK]).unwrap_err().contains("older"),
        "an acknowledged write is lost"
    );
    assert!(history.clone().read(&first).is_ok());
    history.read(&second).unwrap();
    assert!(history.read(&first).unwrap_err().contains("older"), "what was read cannot be unread");
    assert!(history.read(&content(7, two + 1)).unwrap_err().contains("not written"));
    assert!(history.read(&content(8, two)).unwrap_err().contains("foreign"));
    let torn = [&second[..2048], &first[..2048]].concat();
    assert!(history.read(&torn).unwrap_err().contains("torn"));
    assert!(history.read(&second[..4088]).unwrap_err().contains("torn"));
}
