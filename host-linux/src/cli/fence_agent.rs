//! `fence_bulkhead`: our fencing behind the interface of the fence-agents, so that Pacemaker and others can
//! use it (V19, V20; ECOSYSTEM "fence agents").
//!
//! Options come as `name=value` lines on standard input, or as arguments; unknown ones are ignored. The exit
//! code is 0 or 1, and for `status` 0 on, 2 off, 1 cannot tell: so nothing else here may ever exit with 2.
//!
//! It has no power of its own: the agent of this node refuses what `fence_requests` and the witness's
//! `bulkhead_core::fence::right` do not allow. A refusal is a failed fence: Pacemaker then asks another node,
//! or waits, but never goes on as if the rightful master were off.

use super::fence::{Cut, Found, IS_OFF, asked, cut, find, order_and_wait, within};
use crate::agent::default_state_dir;
use crate::cluster::client::{Client, socket};
use crate::cluster::fence_agent::Power;
use crate::cluster::fence_history::CONFIRMED;
use crate::cluster::request::{PowerWord, Request};
use crate::failure::Failure;
use crate::output::Report;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// What Pacemaker and `pcs` ask for first.
const METADATA: &str = include_str!("fence_bulkhead.xml");
/// More than any caller writes.
const INPUT_MAX: u64 = 64 << 10;
/// Shorter than Pacemaker's own 60 s, so that it hears the reason.
const PATIENCE: Duration = Duration::from_secs(50);
/// The exit code of anything that failed.
pub(super) const FAILED: u8 = 1;
/// The exit code of `status` for a node that is off.
const CODE_OFF: u8 = 2;
/// From one try to switch on to the next.
const ON_PAUSE: Duration = Duration::from_secs(1);
/// The word of a look at a node that is on.
const IS_ON: &str = Power::On.word();
/// For how long a reboot tries to switch on what it has cut: twice the time that it must stay off.
const ON_AGAIN: Duration = Duration::from_secs(10);

/// Fence nodes for Pacemaker: the interface of the fence-agents
///
/// Reads `name=value` lines from standard input, or takes -o, -n and --name=value, as all
/// fence-agents do; also run by the name fence_bulkhead. The actions are on, off, reboot, status,
/// monitor, list, metadata and validate-all. Exit code 0 done, 1 failed; status: 0 on, 2 off,
/// 1 cannot tell.
///
/// Example:
///   printf 'action=status\nplug=a1\n' | bulkhead fence-agent
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct FenceAgent {
    /// As the fence-agents take them; without any, standard input is read
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Always an answer: a [`Failure`] would exit with a code that means something else here.
pub(super) fn fence_agent(args: &FenceAgent) -> Report {
    let options = if args.words.is_empty() { of_input() } else { Ok(of_words(&args.words)) };
    let report = options.and_then(|options| act(&options));
    report.unwrap_or_else(|failure| {
        eprint!("{}", failure.text());
        Report { text: String::new(), json: failure.json(), code: FAILED }
    })
}

type Options = BTreeMap<String, String>;

fn of_input() -> Result<Options, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(INPUT_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::failed(format!("standard input cannot be read: {error}")))?;
    Ok(of_text(&text))
}

/// `name=value` lines; comments and what is no such line are ignored.
fn of_text(text: &str) -> Options {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (key(name), value.into())).collect()
}

fn of_words(words: &[String]) -> Options {
    let mut options = Options::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some((name, value)) = word.strip_prefix("--").and_then(|word| word.split_once('=')) {
            options.insert(key(name), value.into());
        } else if let Some(name) = word.strip_prefix('-') {
            let value = words.next().cloned().unwrap_or_default();
            options.insert(key(name.trim_start_matches('-')), value);
        }
    }
    options
}

/// One name for each option, whatever it is called.
fn key(name: &str) -> String {
    match name.trim().replace('-', "_").as_str() {
        "o" | "option" => "action".into(),
        "n" | "port" => "plug".into(),
        other => other.into(),
    }
}

fn act(options: &Options) -> Result<Report, Failure> {
    let of = |name: &str| options.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let action = of("action").unwrap_or("reboot");
    if action == "metadata" {
        return Ok(Report::new(METADATA.into(), json!({ "ok": true, "metadata": METADATA })));
    }
    let patience = of("power_timeout").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let until = within(patience.unwrap_or(PATIENCE));
    let (by_socket, by_config) = (of("socket").map(Path::new), of("config").map(Path::new));
    let path = socket(by_socket, by_config, default_state_dir())?;
    let mut client = Client::connect(&path)?;
    let plug = of("plug").or_else(|| of("nodename"));
    let node = |client: &mut Client| {
        let plug = plug.ok_or_else(|| Failure::failed("no `plug` is given").next("name the node."))?;
        find(client, plug)
    };
    match action {
        "monitor" => {
            client.ask(&Request::FenceStatus)?;
            Ok(said("the agent answers\n"))
        }
        "list" => {
            let nodes = super::fence::nodes(&mut client)?;
            let names = nodes.iter().filter(|node| !node.is_witness).map(|node| format!("{},\n", node.name));
            Ok(said(&names.collect::<String>()))
        }
        "validate-all" => {
            if plug.is_some() {
                node(&mut client)?;
            }
            Ok(said("the options are complete\n"))
        }
        "status" => {
            let node = node(&mut client)?;
            status(&mut client, &node, until)
        }
        "off" | "on" | "reboot" => {
            let node = node(&mut client)?;
            power(&mut client, &node, action, until)
        }
        other => Err(Failure::failed(format!("`{other}` is no action of a fence agent"))),
    }
}

fn status(client: &mut Client, node: &Found, until: Instant) -> Result<Report, Failure> {
    let ended = order_and_wait(client, node, PowerWord::Look, None, until)?;
    match ended.as_str() {
        IS_OFF => Ok(Report { code: CODE_OFF, ..said("Status: OFF\n") }),
        IS_ON => Ok(said("Status: ON\n")),
        why => Err(Failure::failed(format!("the power of {} cannot be told: {why}", node.name)).left("")),
    }
}

fn power(client: &mut Client, node: &Found, action: &str, until: Instant) -> Result<Report, Failure> {
    let by = Some("asked by fence_bulkhead".to_owned());
    if action != "on"
        && let Cut::Failed(ended) = cut(client, node, &asked(node, PowerWord::Off, by.clone()), until)?
    {
        return Err(not_switched(node, &ended));
    }
    match action {
        "off" => {}
        "on" => switch_on(client, node, &by, until)?,
        // Cut it is, and that is what a reboot is asked for.
        _ => match switch_on(client, node, &by, until.min(within(ON_AGAIN))) {
            Ok(()) => {}
            Err(failure) => eprint!("{}", failure.text()),
        },
    }
    Ok(said(&format!("Success: {} is {action}\n", node.name)))
}

/// Again and again: what was just cut must stay off for some seconds.
pub(super) fn switch_on(
    client: &mut Client,
    node: &Found,
    by: &Option<String>,
    until: Instant,
) -> Result<(), Failure> {
    loop {
        let ended = order_and_wait(client, node, PowerWord::On, by.clone(), until)?;
        if ended == CONFIRMED {
            return Ok(());
        }
        if until <= Instant::now() {
            return Err(not_switched(node, &ended));
        }
        std::thread::sleep(ON_PAUSE);
    }
}

fn not_switched(node: &Found, ended: &str) -> Failure {
    Failure::failed(format!("{} was not switched: {ended}", node.name)).left("")
}

fn said(text: &str) -> Report {
    Report::new(text.into(), json!({ "ok": true, "said": text.trim_end() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_fence_agents_do() {
        let expected =
            Options::from([("action", "off"), ("plug", "a=1"), ("weird", "")].map(|(name, value)| {
                let (name, value): (&str, &str) = (name, value);
                (name.to_owned(), value.to_owned())
            }));
        assert_eq!(of_text("# a comment\n action=off\nport=a=1\nno line\nweird=\n"), expected);
        let words = ["-o", "off", "--plug=a=1", "--weird="].map(str::to_owned);
        assert_eq!(of_words(&words), expected);
    }

    /// The grammar of the fence-agents: elements in their order, and each parameter complete.
    #[test]
    fn the_metadata_have_the_form_of_the_grammar() {
        let order = ["<resource-agent name=", "<longdesc>", "<vendor-url>", "<parameters>", "<actions>"];
        let places: Vec<_> = order.iter().map(|word| METADATA.find(word).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
        let parameters: Vec<_> = METADATA.split("<parameter ").skip(1).collect();
        assert_eq!(parameters.len(), 6);
        for parameter in parameters {
            let order =
                ["name=", "unique=", "required=", "<getopt mixed=", "<content type=", "<shortdesc lang="];
            let places: Vec<_> = order.iter().map(|word| parameter.find(word).unwrap()).collect();
            assert!(places.is_sorted(), "{parameter}");
        }
        for action in ["on", "off", "reboot", "status", "list", "monitor", "metadata", "validate-all"] {
            assert!(METADATA.contains(&format!("<action name=\"{action}\"")), "{action}");
        }
    }

    /// Nothing that fails may look like `status` of a node that is off.
    #[test]
    fn what_fails_never_exits_with_2() {
        for words in [&["-o", "dance"][..], &["-o", "status", "--socket=/no/such/socket", "-n", "a1"]] {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(fence_agent(&FenceAgent { words }).code, FAILED);
        }
    }
}
