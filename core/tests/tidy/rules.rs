//! The tables of the house rules. A change here is a change of the design: say why in ARCHITECTURE.md.

/// Which module of the core may name which, lowest floor first: a module names only modules above it in this
/// table, and of those only the ones in its row.
pub const FLOORS: &[(&str, &[&str])] = &[
    ("crc", &[]),
    ("bytes", &[]),
    ("block", &[]),
    ("plan", &["block"]),
    ("slot", &[]),
    ("bug", &[]),
    ("time", &[]),
    ("id", &[]),
    ("actions", &[]),
    ("alert", &["time"]),
    ("link", &["bug", "bytes", "id", "time"]),
    ("register", &["actions", "bug", "bytes", "crc", "id", "time"]),
    ("monitor", &["actions", "bug", "id", "register", "time"]),
    ("fence", &["actions", "bug", "crc", "id", "register", "time"]),
    ("budget", &["time"]),
    ("placement", &["id"]),
    ("resource", &["actions", "id", "time"]),
    ("node", &["actions", "budget", "bug", "fence", "id", "link", "monitor", "register", "time"]),
    ("provision", &["budget", "bytes", "crc", "fence", "id", "link", "node", "register", "time"]),
    ("log", &["bug", "bytes", "crc", "id"]),
    ("cache", &["bytes", "crc", "log"]),
    ("mirror", &["actions", "bug", "bytes", "id", "log", "register", "time"]),
    ("volume", &["bytes", "cache", "crc", "id", "log", "mirror"]),
    ("failover", &["bug", "id", "log", "placement", "time", "volume"]),
    ("holder", &["bug", "crc", "id", "log", "mirror", "register", "time"]),
    ("container", &["block", "bytes", "crc", "plan"]),
    ("gpt", &["block", "bytes", "crc", "plan", "slot"]),
    ("bcb", &["block", "bytes", "container", "crc", "plan", "slot"]),
    ("boot", &["bcb", "block", "bytes", "container", "crc", "gpt", "plan", "slot"]),
];

/// Names that would let the outside world into the core, and what to use instead.
pub const BANNED_IN_CORE: &[(&str, &str)] = &[
    ("Instant::now", "the `now` argument"),
    ("SystemTime", "the `now` argument"),
    ("thread_rng", "a seed in the settings"),
    ("getrandom", "a seed in the settings"),
    ("HashMap", "an array or a sorted list: iteration order must not depend on the host"),
    ("HashSet", "an array or a sorted list: iteration order must not depend on the host"),
    ("extern crate alloc", "a fixed size with a reason: the core has no heap"),
    ("f32", "integers with a named unit"),
    ("f64", "integers with a named unit"),
];

/// Names that may stand nowhere.
pub const BANNED: &[(&str, &str)] = &[
    ("todo!", "a test that fails"),
    ("unimplemented!", "a test that fails"),
    ("dbg!", "a test that fails"),
    ("TODO", "an issue, or finish it before it is merged"),
    ("FIXME", "an issue, or finish it before it is merged"),
    ("XXX", "an issue, or finish it before it is merged"),
];

/// Words that mean something else here, and the word to use (docs/GLOSSARY.md says why).
pub const SYNONYMS: &[(&str, &str)] = &[
    ("leader", "`master` for infrastructure instances, `primary` for caches"),
    ("term", "`epoch`"),
    ("heartbeat timeout", "`silence`"),
    ("normal mode", "`configuration mode` or `resilient mode`"),
];

/// Longest file, function and line.
pub const FILE_LINES_MAX: usize = 500;
pub const FUNCTION_LINES_MAX: usize = 70;
pub const LINE_COLUMNS_MAX: usize = 110;

/// Functions that may be longer: `file::function`, lines, reason. Each number may only fall, and must be the
/// true one; a new row needs a reason that a reviewer accepts.
pub const LONG_FUNCTIONS: &[(&str, usize, &str)] = &[];

/// How many times the word `unsafe` stands in the code of each crate. The number is exact: fewer is good news
/// that belongs here, more is a decision that belongs in ARCHITECTURE.md.
pub const UNSAFE_SITES: &[(&str, usize)] =
    &[("boot", 21), ("core", 0), ("firmware", 37), ("host-linux", 21), ("qemu-tests", 5)];

/// What stands at the top of the repository, besides files whose name starts with a dot.
pub const TOP_LEVEL: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "boot",
    "core",
    "docs",
    "firmware",
    "host-linux",
    "qemu-tests",
    "target",
];
