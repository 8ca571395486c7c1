//! `bulkhead drill`: a loss for real, beside its forecast.

use super::cluster::AgentArg;
use super::fence_agent::switch_on;
use super::{fence, plan};
use crate::agent::process::{Child, Verdict};
use crate::cluster::client::Client;
use crate::cluster::events::Event;
use crate::cluster::fence_history::CONFIRMED;
use crate::cluster::request::{PowerWord, Request};
use crate::cluster::status::Status;
use crate::failover::drill::{Seen, differences};
use crate::failover::forecast::{Forecast, forecast};
use crate::failure::{Exit, Failure};
use crate::mirror::view::State;
use crate::output::Report;
use crate::site_config::value::parse_time;
use clap::Args;
use serde_json::json;
use std::time::{Duration, Instant};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(25);
/// A command that takes a part away, or brings it back, has this long.
const COMMAND_MAX: Duration = Duration::from_secs(120);
/// A fence, and a power-on, have this long.
const FENCE_MAX: Duration = Duration::from_secs(190);

/// Lose a part for real, and compare what follows with the forecast
///
/// Takes the power of the named nodes by their fencing devices, or runs --by; watches, until all has
/// come that `bulkhead plan` forecasts, or --within is over; says what came, when, and what of it was
/// not forecast. Then it brings the part back, with the same devices or by --back, and waits until
/// every holder is in sync again. Run it on the node that leads the volumes then. A node that leads
/// now is cut by no witness: --by says how it is lost, such as a power strip's own command.
///
/// Refused, without --yes, with the forecast; and where nobody would lead afterwards.
///
/// Exit code 0: all came as forecast; 1: not all.
///
/// Examples:
///   bulkhead drill --lose node plant-b-1 --yes
///   bulkhead drill --lose compartment a --by 'strip off 3' --back 'strip on 3' --yes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Drill {
    /// What is lost: `node`, `witness` or `compartment`, and its name
    #[arg(long, num_args = 2, value_names = ["KIND", "NAME"], required = true)]
    lose: Vec<String>,
    /// The command that takes it away, for `sh`
    #[arg(long, value_name = "COMMAND")]
    by: Option<String>,
    /// The command that brings it back, for `sh`
    #[arg(long, value_name = "COMMAND")]
    back: Option<String>,
    /// Leave it lost
    #[arg(long, conflicts_with = "back")]
    stay: bool,
    /// How long what is forecast may take
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = parse_time)]
    within: Duration,
    /// Yes, lose it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn drill(args: &Drill, is_quiet: bool) -> Result<Report, Failure> {
    let mut client = args.agent.connect()?;
    let status: Status = client.ask_for(&Request::Status, "status")?;
    let forecast = forecast(&status, &plan::named(&args.lose)?)?;
    may_be_lost(args, &status, &forecast)?;
    let say = |text: &str| {
        if !is_quiet {
            eprintln!("{text}");
        }
    };
    let after = newest(&mut client)?;
    say(&format!("losing {}", forecast.lost));
    switch(args, &mut client, &forecast, PowerWord::Off)?;
    let lost = Instant::now();
    let seen = watch(args, &mut client, &forecast, after, lost)?;
    let found = differences(&forecast, &seen);
    let back = match args.stay {
        true => None,
        false => {
            say(&format!("bringing {} back", forecast.lost));
            let on = switch(args, &mut client, &forecast, PowerWord::On);
            let back = on.and_then(|()| in_sync(args, &mut client));
            // What was seen is told, whatever becomes of this.
            let seen = report(&forecast, &seen, &found, None).text;
            Some(back.map_err(|why| why.left(format!("The drill: {}", seen.trim_end())))?)
        }
    };
    Ok(report(&forecast, &seen, &found, back))
}

/// Whether this part may be lost now, and from here.
fn may_be_lost(args: &Drill, status: &Status, forecast: &Forecast) -> Result<(), Failure> {
    let nothing = |failure: Failure| Err(failure.left("Nothing was done."));
    if args.by.is_some() && args.back.is_none() && !args.stay {
        let failure = Failure::usage(format!("nothing says how {} comes back", forecast.lost));
        return nothing(failure.next("say --back COMMAND, or --stay."));
    }
    if let Some(why) = &forecast.because {
        let what = format!("without {} nobody would lead the volumes: {why}", forecast.lost);
        return nothing(Failure::refused(what).next("`bulkhead status` says what is to be repaired first."));
    }
    let me = &status.node.name;
    if !forecast.leads.contains(me) {
        let what = format!("{me} does not see what follows: another node leads then");
        let next = format!("run it on {}.", forecast.leads.join(" or "));
        return nothing(Failure::refused(what).next(next));
    }
    if !args.yes {
        let what = format!("this loses {} for real; {}", forecast.lost, plan::text(forecast).trim_end());
        return nothing(Failure::refused(what).next("say it again with --yes if you mean it."));
    }
    Ok(())
}

/// Takes the power of what is to be lost, or gives it back.
fn switch(args: &Drill, client: &mut Client, forecast: &Forecast, want: PowerWord) -> Result<(), Failure> {
    let command = if want == PowerWord::Off { &args.by } else { &args.back };
    if let Some(command) = command {
        return run(command);
    }
    let until = fence::within(FENCE_MAX);
    for name in &forecast.nodes {
        let node = fence::find(client, name)?;
        let reason = Some("a drill".to_owned());
        if want == PowerWord::On {
            switch_on(client, &node, &reason, until)?;
            continue;
        }
        let ended = fence::order_and_wait(client, &node, want, reason, until)?;
        if ended != CONFIRMED {
            let what = format!("the power of {name} was not cut: {ended}");
            let next = "`bulkhead fence status` says who may cut it; --by and --back switch it another way.";
            return Err(Failure::failed(what)
                .left("Parts that were named before it are switched.")
                .next(next));
        }
    }
    Ok(())
}

fn run(command: &str) -> Result<(), Failure> {
    let failed = |why: String| Failure::failed(format!("`{command}`: {why}")).left("What it did is done.");
    let words = ["sh", "-c", command].map(str::to_owned);
    let mut child = Child::start(&words).map_err(|error| failed(error.to_string()))?;
    let begun = Instant::now();
    while begun.elapsed() < COMMAND_MAX {
        match child.poll() {
            Verdict::Running => std::thread::sleep(LOOK),
            Verdict::Passed => return Ok(()),
            Verdict::Failed(why) => return Err(failed(why)),
        }
    }
    child.kill();
    Err(failed(format!("it did not end within {} s", COMMAND_MAX.as_secs())))
}

/// The newest event there is.
fn newest(client: &mut Client) -> Result<u64, Failure> {
    Ok(events(client, 0)?.last().map_or(0, |event| event.seq))
}

fn events(client: &mut Client, after: u64) -> Result<Vec<Event>, Failure> {
    client.ask_for(&Request::Events { after, follow: false }, "events")
}

/// Looks until all has come, or the time is over.
fn watch(
    args: &Drill,
    client: &mut Client,
    forecast: &Forecast,
    mut after: u64,
    lost: Instant,
) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    loop {
        let status: Status = client.ask_for(&Request::Status, "status")?;
        let new = events(client, after)?;
        after = new.last().map_or(after, |event| event.seq);
        let begun = new.iter().filter(|event| event.kind == "guest-begun");
        let guest = |event: &Event| event.fields.get("guest")?.as_str().map(str::to_owned);
        seen.look(lost.elapsed(), &status, begun.filter_map(guest));
        if seen.is_all(forecast) || args.within <= lost.elapsed() {
            return Ok(seen);
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits until every holder is in sync again: how long that took.
fn in_sync(args: &Drill, client: &mut Client) -> Result<Duration, Failure> {
    let begun = Instant::now();
    loop {
        let status: Status = client.ask_for(&Request::Status, "status")?;
        if status.storage.as_ref().is_some_and(|storage| storage.state == State::Synced) {
            return Ok(begun.elapsed());
        }
        if args.within <= begun.elapsed() {
            let what = format!("not every holder is in sync {} s after it was back", args.within.as_secs());
            let next =
                "`bulkhead volume list` says how far they are; `bulkhead volume wait --for in-sync` waits.";
            return Err(Failure::failed(what).left("The drill has ended.").next(next));
        }
        std::thread::sleep(LOOK);
    }
}

fn report(forecast: &Forecast, seen: &Seen, found: &[String], back: Option<Duration>) -> Report {
    let mut text = format!("{} was lost, and ", forecast.lost);
    let leads = seen.leads.as_deref().unwrap_or("nobody");
    text.push_str(&match seen.leads_ms.filter(|_| forecast.moves) {
        Some(ms) => format!("{leads} leads the volumes since {ms} ms after it\n"),
        None => format!("{leads} leads the volumes as before\n"),
    });
    let width = seen.runs_ms.keys().map(String::len).max().unwrap_or(0);
    for (guest, ms) in &seen.runs_ms {
        let how =
            if seen.begun.contains(guest) { format!("runs {ms} ms after it") } else { "went on".into() };
        text.push_str(&format!("  {guest:width$}  {how}\n"));
    }
    for guest in &seen.down {
        text.push_str(&format!("  {guest:width$}  DOWN\n"));
    }
    match found {
        [] => text.push_str("all came as forecast\n"),
        found => found.iter().for_each(|one| text.push_str(&format!("NOT AS FORECAST: {one}\n"))),
    }
    let back_ms = back.map(|back| u64::try_from(back.as_millis()).unwrap_or(u64::MAX));
    text.extend(back_ms.map(|ms| format!("it is back; every holder is in sync again {ms} ms later\n")));
    let drill = json!({ "forecast": forecast, "seen": seen, "differences": found, "inSyncMs": back_ms });
    let code = if found.is_empty() { 0 } else { Exit::Failed.code() };
    Report { text, json: json!({ "ok": found.is_empty(), "drill": drill }), code }
}
