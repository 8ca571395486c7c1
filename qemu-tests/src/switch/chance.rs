//! Chance from a seed: the same seed gives the same losses, on any machine.

/// How often something happens, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerMille(u16);

impl PerMille {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Each time.
    pub const ALWAYS: Self = Self(1000);

    /// `thousandths` of 1000; more than 1000 is each time.
    pub const fn new(thousandths: u16) -> Self {
        Self(if thousandths > 1000 { 1000 } else { thousandths })
    }
}

/// A sequence of chances.
#[derive(Clone, Debug)]
pub struct Chance {
    /// Invariant: never zero, which xorshift would not leave.
    state: u64,
}

impl Chance {
    /// The sequence number `stream` of `seed`. Streams of one seed differ from each other.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mixed = (seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x2545_f491_4f6c_dd1d);
        let mut state = if mixed == 0 { 1 } else { mixed };
        // Neighbouring seeds begin with similar values.
        for _ in 0..16 {
            state = next(state);
        }
        Self { state }
    }

    /// Whether it happens this time. Every question takes exactly one step, so that the fate of one
    /// frame does not depend on the rules that applied to the frames before.
    pub fn happens(&mut self, often: PerMille) -> bool {
        self.below(1000) < u64::from(often.0)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state = next(self.state);
        // The high bits are the better ones.
        (self.state >> 16).checked_rem(bound).unwrap_or(0)
    }
}

/// The next value of a xorshift sequence (13, 7, 17: full period for 64 bits).
pub const fn next(state: u64) -> u64 {
    let a = state ^ (state << 13);
    let b = a ^ (a >> 7);
    b ^ (b << 17)
}
