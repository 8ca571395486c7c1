//! `bulkhead volume cache`: which blocks stay in the read caches of a pair (S4-02).

use super::cluster::AgentArg;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::mirror::view::Algorithm;
use crate::output::Report;
use clap::{Args, ValueEnum};

/// Say what stays in memory of what is read
///
/// A node with `read_cache` in its [local.storage] keeps blocks there that were read from the
/// backing store. All volumes of the pair share that memory, by one algorithm: arc keeps what is
/// read again and again also while somebody reads everything once, as a backup does. Of a volume
/// it can be said that nothing of it stays there: none, or pair for as the others. It is kept:
/// whoever leads next does the same. What is in memory stays there when the algorithm changes.
///
/// Examples:
///   bulkhead volume cache --algorithm lru
///   bulkhead volume cache --algorithm none
///   bulkhead volume cache vm1 --algorithm none
///   bulkhead volume cache vm1 --algorithm pair
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Cache {
    /// Of this volume alone: `none` or `pair`
    #[arg(value_name = "VOLUME")]
    volume: Option<String>,
    /// Who leaves when there is no room for another one
    #[arg(long, value_enum)]
    algorithm: Word,
    #[command(flatten)]
    agent: AgentArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    /// What was not read for the longest time
    Lru,
    /// Nearly so, at less expense: what was not read since the hand went by it
    Clock,
    /// By what is missed: of what was read once, or of what was read again
    Arc,
    /// Nothing stays there
    None,
    /// As of the other volumes of the pair
    Pair,
}

pub(super) fn cache(args: &Cache) -> Result<Report, Failure> {
    let (algorithm, what) = match args.algorithm {
        Word::Lru => (Some(Algorithm::Lru), "stays in memory by LRU"),
        Word::Clock => (Some(Algorithm::Clock), "stays in memory by the clock"),
        Word::Arc => (Some(Algorithm::Arc), "stays in memory by ARC"),
        Word::None => (Some(Algorithm::Off), "does not stay in the read caches"),
        Word::Pair => (None, "stays in memory as that of the other volumes of the pair"),
    };
    let whose = args.volume.as_ref().map_or_else(String::new, |volume| format!(" of {volume}"));
    let request = Request::VolumeCache { volume: args.volume.clone(), algorithm };
    let answer = args.agent.connect()?.ask(&request)?;
    Ok(Report::new(format!("what is read{whose} {what}\n"), answer))
}
