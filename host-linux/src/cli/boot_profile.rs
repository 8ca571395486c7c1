//! `bulkhead boot explain --contacted N --configured M ...`: which boot profile a control domain starts, by
//! the same table as the agent (X01).

use crate::output::Report;
use bulkhead_core::boot::profile::{Inputs, LeaseView, Outcome, Reach, decide};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::fmt::Write as _;

/// The inputs of a boot profile.
#[derive(Debug, Args)]
#[group(id = "profile")]
pub(super) struct Profile {
    /// Explain the boot profile instead: so many other nodes completed a handshake in time
    #[arg(long, value_name = "N", requires = "configured")]
    contacted: Option<u16>,
    /// So many other nodes are configured
    #[arg(long, value_name = "N", requires = "contacted")]
    configured: Option<u16>,
    /// The management system already runs on a contacted node
    #[arg(long, requires = "contacted")]
    management_runs: bool,
    /// This node has the highest priority among those contacted
    #[arg(long, requires = "contacted")]
    highest_priority: bool,
    /// Neither external interfaces nor quorum devices of any missing node answer
    #[arg(long, requires = "contacted")]
    missing_unreachable: bool,
    /// What is known of the lease on the register
    #[arg(long, value_enum, default_value_t = Lease::Unknown, requires = "contacted")]
    lease: Lease,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Lease {
    /// Held, or won
    Held,
    /// It cannot be won
    CannotWin,
    /// Not known yet
    Unknown,
}

/// The profile for these inputs; `None` when they were not given.
pub(super) fn explain(args: &Profile) -> Option<Report> {
    let (contacted, configured) = (args.contacted?, args.configured?);
    let lease = match args.lease {
        Lease::Held => LeaseView::Held,
        Lease::CannotWin => LeaseView::CannotWin,
        Lease::Unknown => LeaseView::Unknown,
    };
    let outcome = decide(Inputs {
        reach: Reach::of(contacted, configured),
        management_runs: args.management_runs,
        highest_priority: args.highest_priority,
        missing_unreachable: args.missing_unreachable,
        lease,
    });
    Some(report(contacted, configured, &outcome))
}

fn report(contacted: u16, configured: u16, outcome: &Outcome) -> Report {
    let Outcome { row, profile, inputs } = outcome;
    let yes = |answer| if answer { "yes" } else { "no" };
    let reach = match inputs.reach {
        Reach::None => "none",
        Reach::Minority => "less than half",
        Reach::Half => "exactly half",
        Reach::Majority => "more than half",
        Reach::NearlyAll => "more than nine tenths",
    };
    let lease = match inputs.lease {
        LeaseView::Held => "held",
        LeaseView::CannotWin => "cannot be won",
        LeaseView::Unknown => "not known",
    };
    let mut text = String::from("Inputs:\n");
    for (name, value) in [
        ("contacted", format!("{contacted} of {configured}: {reach}")),
        ("management runs", yes(inputs.management_runs).to_owned()),
        ("highest priority here", yes(inputs.highest_priority).to_owned()),
        ("missing unreachable", yes(inputs.missing_unreachable).to_owned()),
        ("lease", lease.to_owned()),
    ] {
        let _ = writeln!(text, "  {name:<22} {value}");
    }
    let _ = writeln!(text, "Row {row} fires: {}", profile.text());
    text.push_str(
        "A profile starts services; only a register's lease gives the right to write a guest's volume.\n",
    );
    let json = json!({
        "ok": true,
        "row": row,
        "start": profile.text(),
        "managementStartsHere": profile.manages(),
        "inputs": {
            "contacted": contacted,
            "configured": configured,
            "reach": reach,
            "managementRuns": inputs.management_runs,
            "highestPriority": inputs.highest_priority,
            "missingUnreachable": inputs.missing_unreachable,
            "lease": lease,
        },
    });
    Report::new(text, json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Profile,
    }

    fn run(line: &[&str]) -> Option<Report> {
        explain(&Line::try_parse_from([&["explain"], line].concat()).unwrap().args)
    }

    /// X01: the row that fired and every input.
    #[test]
    fn the_row_and_every_input_are_told() {
        let report = run(&["--contacted", "9", "--configured", "10", "--highest-priority"]).unwrap();
        assert_eq!(report.json["row"], 2);
        assert!(
            report.text.contains("9 of 10: more than half") && report.text.contains("Row 2"),
            "{}",
            report.text
        );
        let alone = ["--contacted", "0", "--configured", "3", "--lease", "cannot-win"];
        assert_eq!(run(&alone).unwrap().json["row"], 3);
        assert_eq!(run(&[]).map(|report| report.code), None);
        assert!(Line::try_parse_from(["explain", "--lease", "held"]).is_err(), "inputs without their counts");
    }
}
