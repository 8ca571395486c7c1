//! `bulkhead vm migrate --all`: all guests of this node move together (X15, S0-11, S0-09).

use super::vm_migrate::line;
use crate::cluster::client::Client;
use crate::cluster::request::Request;
use crate::cluster::status::Status;
use crate::failover::room;
use crate::failure::Failure;
use crate::guests::home::Homes;
use crate::guests::process::Leave;
use crate::guests::together::{self, Member, Moved, Together};
use crate::output::{Report, size};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Moves all guests that run by the lease of this node.
pub(super) fn run(homes: &Homes, leave: Leave<'_>, is_quiet: bool) -> Result<Report, Failure> {
    let node = leave.node;
    room::all_fit(&Client::connect(leave.agent)?.ask_for::<Status>(&Request::Status, "status")?, node)?;
    let mut shown = BTreeMap::new();
    let mut watch = |members: &[Member]| {
        for member in members.iter().filter(|member| !is_quiet && !member.view().is_null()) {
            let line = line(member.view());
            if shown.get(member.name()) != Some(&line) {
                eprint!("{}: {line}", member.name());
                shown.insert(member.name().to_owned(), line);
            }
        }
    };
    let moved = Together::new(homes, leave)?.run(&mut watch)?;
    report(node, &moved)
}

/// Has all stay that are being moved.
pub(super) fn cancel(homes: &Homes) -> Result<Report, Failure> {
    let names = together::cancel(homes)?;
    if names.is_empty() {
        return Err(Failure::refused("no guest is being moved").left(""));
    }
    let text = format!("Guests {} are not moved any more.\n", names.join(", "));
    Ok(Report::new(text, json!({ "ok": true, "names": names })))
}

/// What became of guests that were given away.
fn report(node: &str, moved: &Moved) -> Result<Report, Failure> {
    let number = |said: &Value, key: &str| said.get(key).and_then(Value::as_u64).unwrap_or(0);
    let there = moved.guests.iter().filter_map(|(name, came)| Some((name, came.as_ref().ok()?)));
    let lost = moved.guests.iter().filter_map(|(name, came)| Some((name, came.as_ref().err()?)));
    let lost: Vec<_> = lost.map(|(name, why)| format!("{name} ({})", why.what)).collect();
    if !lost.is_empty() {
        let names: Vec<_> = there.map(|(name, _)| name.as_str()).collect();
        let names = if names.is_empty() { "none".into() } else { names.join(", ") };
        let what = format!(
            "{node} leads, and not all guests went on there where they were; those that did: {names}; those \
             that did not: {}",
            lost.join(", ")
        );
        let left = "What these were told to be durable is; those that are to run are begun anew there.";
        let next = format!("look on {node} with `bulkhead vm list`.");
        return Err(Failure::failed(what).left(left).next(next));
    }
    let line = |(name, said): (&String, &Value)| {
        let (still, bytes) = (number(said, "downtimeMs"), size(number(said, "bytes")));
        format!("Guest {name} runs on {node}: it stood still for {still} ms; {bytes} were copied.\n")
    };
    let text: String = there.clone().map(line).collect();
    let guests: Vec<_> = there.map(|(name, said)| json!({ "name": name, "moved": said })).collect();
    let total = u64::try_from(moved.took.as_millis()).unwrap_or(u64::MAX);
    Ok(Report::new(text, json!({ "ok": true, "node": node, "totalMs": total, "guests": guests })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_became_of_each_is_said() {
        let said = json!({ "downtimeMs": 7, "bytes": 4096 });
        let gone = ("web1".to_owned(), Ok(said.clone()));
        let moved = |guests| Moved { took: Duration::from_millis(9), guests };
        let all = report("b1", &moved(vec![gone.clone()])).unwrap();
        assert_eq!(all.text, "Guest web1 runs on b1: it stood still for 7 ms; 4 KiB were copied.\n");
        assert_eq!(all.json["guests"], json!([{ "name": "web1", "moved": said }]));
        let lost = ("web2".to_owned(), Err(Failure::failed("its memory is gone")));
        let why = report("b1", &moved(vec![gone, lost])).unwrap_err();
        assert!(why.what.contains("did: web1;") && why.what.contains("web2 (its memory is gone)"), "{why:?}");
        assert!(why.left.contains("begun anew there"));
    }
}
