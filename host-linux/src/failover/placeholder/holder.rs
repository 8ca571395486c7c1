//! The process that holds memory for guests: as much as it is told, locked, and none that others need now.

use crate::failure::Failure;
use rustix::mm::{MlockAllFlags, mlockall};
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use vm_memory::MmapRegion;

/// It takes so many MiB at once, and then pauses: whoever else needs memory or a processor gets it.
const STEP: u64 = 16;
const PAUSE: Duration = Duration::from_millis(5);
/// MiB that it leaves to others.
const LEFT: u64 = 128;
/// Where there is not enough, it looks again so often.
const LOOK: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;

/// What it says: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// It holds so many MiB.
    pub held: u64,
    /// Why that is all.
    pub short: Option<String>,
}

impl Said {
    fn line(&self) -> String {
        match &self.short {
            None => format!("held {}", self.held),
            Some(why) => format!("short {} {why}", self.held),
        }
    }

    /// What a line says, if it is one.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ');
        let (what, held) = (words.next()?, words.next()?.parse().ok()?);
        match (what, words.next()) {
            ("held", None) => Some(Self { held, short: None }),
            ("short", Some(why)) => Some(Self { held, short: Some(why.to_owned()) }),
            (_, _) => None,
        }
    }
}

/// Holds as many MiB as the last line of `orders` says, until there are no more; says how many these are.
///
/// # Errors
///
/// Nobody hears it, or the system has no thread.
pub fn run(orders: impl BufRead + Send + 'static, says: &mut dyn Write) -> Result<(), Failure> {
    let (tell, told) = channel();
    let thread = std::thread::Builder::new().name("orders".into());
    let failed = |error| Failure::failed(format!("no memory is held for guests: {error}"));
    thread.spawn(move || read(orders, &tell)).map_err(failed)?;
    // What it maps from now on; of the program itself nothing.
    let done = match mlockall(MlockAllFlags::FUTURE) {
        Ok(()) => Hold::default().obey(&told, says, &available),
        Err(error) => hold_nothing(&told, says, &error.to_string()),
    };
    done.map_err(failed)
}

/// It may not lock memory, and what is not locked is nobody's.
fn hold_nothing(told: &Receiver<u64>, says: &mut dyn Write, error: &str) -> std::io::Result<()> {
    let why = format!("it cannot be locked ({error}): grant CAP_IPC_LOCK or LimitMEMLOCK=infinity");
    writeln!(says, "{}", Said { held: 0, short: Some(why) }.line())?;
    says.flush()?;
    told.iter().for_each(drop);
    Ok(())
}

fn read(orders: impl BufRead, tell: &Sender<u64>) {
    for line in orders.lines().map_while(Result::ok) {
        // Nobody asks for what is no number.
        let Ok(wanted) = line.trim().parse() else { continue };
        if tell.send(wanted).is_err() {
            return;
        }
    }
}

/// MiB that the node has left, as far as it says so.
fn available() -> u64 {
    let all = std::fs::read_to_string(Path::new("/proc/meminfo")).unwrap_or_default();
    let line = all.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib >> 10)
}

#[derive(Default)]
struct Hold {
    pieces: Vec<(u64, MmapRegion)>,
}

impl Hold {
    fn held(&self) -> u64 {
        self.pieces.iter().map(|(mib, _)| mib).sum()
    }

    fn obey(
        &mut self,
        told: &Receiver<u64>,
        says: &mut dyn Write,
        available: &dyn Fn() -> u64,
    ) -> std::io::Result<()> {
        let (mut wanted, mut said) = (0, None);
        loop {
            let step = self.step(wanted, available);
            let now = Said { held: self.held(), short: step.clone().err() };
            if said.as_ref() != Some(&now) {
                writeln!(says, "{}", now.line())?;
                says.flush()?;
            }
            said = Some(now);
            let next = match step {
                Ok(true) => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Ok(false) => told.recv_timeout(PAUSE),
                Err(_) => told.recv_timeout(LOOK),
            };
            match next {
                Ok(mib) => wanted = mib,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            // What was said meanwhile counts, not what came before it.
            wanted = told.try_iter().last().unwrap_or(wanted);
        }
    }

    /// Lets go of what is too much, or takes a piece more; whether that is all, or why it cannot.
    fn step(&mut self, wanted: u64, available: &dyn Fn() -> u64) -> Result<bool, String> {
        while wanted < self.held() {
            self.pieces.pop();
        }
        let piece = wanted.saturating_sub(self.held()).min(STEP);
        if piece == 0 {
            return Ok(true);
        }
        let left = available();
        if left < piece.saturating_add(LEFT) {
            return Err(format!("this node has {left} MiB of memory left"));
        }
        let bytes = usize::try_from(piece.saturating_mul(MIB)).unwrap_or(usize::MAX);
        // The kernel fills what a process that locks all its memory maps.
        let region = MmapRegion::new(bytes).map_err(|error| format!("it was not given: {error}"))?;
        self.pieces.push((piece, region));
        Ok(self.held() == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_is_said_is_understood() {
        for said in [
            Said { held: 0, short: None },
            Said { held: 512, short: None },
            Said { held: 16, short: Some("this node has 3 MiB of memory left".into()) },
        ] {
            assert_eq!(Said::parse(&said.line()), Some(said));
        }
        for wrong in ["", "held", "held x", "held 1 2", "short 1", "holds 1", "held -1"] {
            assert_eq!(Said::parse(wrong), None, "{wrong}");
        }
    }

    /// S4-04: as much as was asked for, exactly; no more than the node has; and given back at once.
    #[test]
    fn as_much_is_held_as_is_wanted_and_there() {
        let left = Cell::new(1000);
        let available = || left.get();
        let mut hold = Hold::default();
        let all = |hold: &mut Hold, wanted| loop {
            match hold.step(wanted, &available) {
                Ok(false) => {}
                done => return (done, hold.held()),
            }
        };
        assert_eq!(all(&mut hold, 0), (Ok(true), 0));
        assert_eq!(all(&mut hold, 40), (Ok(true), 40));
        assert_eq!(all(&mut hold, 33), (Ok(true), 33), "less than the pieces that it was taken by");
        assert_eq!(all(&mut hold, 100), (Ok(true), 100));
        left.set(LEFT + STEP - 1);
        let short = Err(format!("this node has {} MiB of memory left", LEFT + STEP - 1));
        assert_eq!(all(&mut hold, 200), (short, 100), "others have the rest");
        left.set(1000);
        assert_eq!(all(&mut hold, 200), (Ok(true), 200));
        assert_eq!(all(&mut hold, 0), (Ok(true), 0));
    }

    /// What is said is each change, once; it ends when nobody can say anything any more.
    #[test]
    fn who_holds_says_so_and_ends_with_who_asked() {
        let (tell, told) = channel();
        for wanted in [48, 20] {
            tell.send(wanted).unwrap();
        }
        drop(tell);
        let mut said = Vec::new();
        Hold::default().obey(&told, &mut said, &|| 1000).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>(), ["held 0", "held 16"], "the last word counts");
        let (tell, told) = channel();
        tell.send(48).unwrap();
        drop(tell);
        let mut said = Vec::new();
        hold_nothing(&told, &mut said, "no").unwrap();
        let said = Said::parse(std::str::from_utf8(&said).unwrap().trim_end()).unwrap();
        assert!(said.held == 0 && said.short.is_some_and(|why| why.contains("CAP_IPC_LOCK")));
    }
}
