//! Commands to a running agent: `bulkhead controller`, `bulkhead node join | leave | fences`.

use crate::agent::default_state_dir;
use crate::cluster::client::{Client, socket};
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::output::Report;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Where the agent is.
#[derive(Clone, Debug, Args)]
pub(super) struct AgentArg {
    /// The agent's control socket
    #[arg(long, value_name = "PATH", env = "BULKHEAD_SOCKET")]
    pub(super) socket: Option<PathBuf>,
    /// The agent's configuration, which names its socket
    #[arg(long, value_name = "FILE", env = "BULKHEAD_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// The agent's state directory
    #[arg(long, visible_alias = "state", value_name = "DIR", env = "BULKHEAD_STATE",
          default_value_os = default_state_dir().as_os_str())]
    pub(super) state_dir: PathBuf,
}

impl AgentArg {
    /// The control socket.
    pub(super) fn path(&self) -> Result<PathBuf, Failure> {
        socket(self.socket.as_deref(), self.config.as_deref(), &self.state_dir)
    }

    /// Whether the agent was named, rather than looked for in the usual place.
    pub(super) const fn is_named(&self) -> bool {
        self.socket.is_some() || self.config.is_some()
    }

    /// A connection.
    pub(super) fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.path()?)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum ControllerVerb {
    Show(Show),
    Move(Move),
}

/// Show which node takes the cluster's decisions
///
/// Shows the designated controller as this node knows it.
///
/// Example:
///   bulkhead controller show --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Show {
    #[command(flatten)]
    agent: AgentArg,
}

/// Make another node the designated controller
///
/// Hands the role over to another node. It must be run on the node that is controller now; exit code
/// 3: it is not.
///
/// Example:
///   bulkhead controller move 2
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Move {
    /// The `id` of the new controller
    #[arg(value_name = "NODE")]
    node: u16,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn controller(verb: &ControllerVerb) -> Result<Report, Failure> {
    match verb {
        ControllerVerb::Show(args) => {
            let answer = args.agent.connect()?.ask(&Request::ControllerShow)?;
            let text = match word(&answer, "/controller/name") {
                Some(name) => {
                    let epoch = answer.pointer("/controller/epoch").and_then(Value::as_u64).unwrap_or(0);
                    format!("controller: {name}, epoch {epoch}\n")
                }
                None => "controller: none that this node knows of\n".to_owned(),
            };
            Ok(Report::new(text, answer))
        }
        ControllerVerb::Move(args) => {
            let answer = args.agent.connect()?.ask(&Request::ControllerMove { node: args.node })?;
            let name = word(&answer, "/movedTo/name").unwrap_or_default();
            Ok(Report::new(format!("{name} is asked to become controller\n"), answer))
        }
    }
}

/// Have a node take part in the cluster again
///
/// Has the node start its part in the cluster. It must be run on that node.
///
/// Example:
///   bulkhead node join 2
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Join {
    /// The node's `id`
    #[arg(value_name = "NODE")]
    node: u16,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn join(args: &Join) -> Result<Report, Failure> {
    let answer = args.agent.connect()?.ask(&Request::NodeJoin { node: args.node })?;
    let name = word(&answer, "/joined/name").unwrap_or_default();
    Ok(Report::new(format!("{name} takes part in the cluster\n"), answer))
}

/// Have a node take no part in the cluster
///
/// Has the node give back its roles and take none until it joins again; it goes on voting. It must be
/// run on that node. Exit code 3: held, for something would end with it: what, and the word that lets
/// it pass once, is said.
///
/// Examples:
///   bulkhead node leave 2
///   bulkhead node leave 2 --override 1f0a93bc
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Leave {
    /// The node's `id`
    #[arg(value_name = "NODE")]
    node: u16,
    /// The word that was given when it was held
    #[arg(long = "override", value_name = "WORD")]
    word: Option<String>,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn leave(args: &Leave) -> Result<Report, Failure> {
    let answer =
        args.agent.connect()?.ask(&Request::NodeLeave { node: args.node, word: args.word.clone() })?;
    let name = word(&answer, "/left/name").unwrap_or_default();
    Ok(Report::new(format!("{name} takes no part in the cluster; it still votes\n"), answer))
}

/// Show which nodes were fenced, and how that ended
///
/// The same as `bulkhead fence history`.
///
/// Example:
///   bulkhead node fences
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Fences {
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn fences(args: &Fences) -> Result<Report, Failure> {
    let (text, fences) = super::fence::history(&mut args.agent.connect()?)?;
    Ok(Report::new(text, json!({ "ok": true, "fences": fences })))
}

fn word<'a>(answer: &'a Value, pointer: &str) -> Option<&'a str> {
    answer.pointer(pointer).and_then(Value::as_str)
}
