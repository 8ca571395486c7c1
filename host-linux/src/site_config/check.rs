//! The rules between keys: what is right alone and wrong in this site (F54, V40). All that is broken is
//! found in one go.

use super::file::{BoardTable, FencingTable, File, MethodWord, NodeTable, PresetWord, SideWord, TimersTable};
use super::problem::Problem;
use super::resources::resources;
use super::storage;
use super::value::{Address, Hardware, Pair, Time, time};
use super::{Board, Duty, Fencing, Goal, Local, Member, Method, Preset, SiteConfig, Timing, WatchdogDevice};
use crate::guests::home::GUESTS;
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::id::{NodeId, PairId, Side};
use bulkhead_core::node::settings::MEMBERS_MAX;
use bulkhead_core::register::voters::VOTERS_MAX;
use bulkhead_core::time::Drift;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

/// The pair of a witness that names none.
const FIRST_PAIR: PairId = PairId(1);

/// Where a fencing device answers within, unless said otherwise: what fence-agents use for power switches.
const FENCING_TIMEOUT: Duration = Duration::from_secs(20);
/// The default of sbd, which is what operators know.
const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type Problems = Vec<Problem>;

pub(super) fn check(file: File, beside: &Path) -> Result<SiteConfig, Problems> {
    let mut problems = Problems::new();
    let members: Vec<Member> = file.node.iter().filter_map(|node| member(node, &mut problems)).collect();
    roster(&file, &mut problems);
    if problems.is_empty() {
        voters(&file.node, &members, &mut problems);
        pairs(&file.node, &members, &mut problems);
    }
    let listen = listen(&file, &members, &mut problems);
    let storage = storage::storage(&file, &members, beside, &mut problems);
    let timers = timers(&file.timers, &mut problems);
    let fencing = all_fencing(&file.fencing, &members, &mut problems);
    let resources = resources(&file.resource, &mut problems);
    let watchdog = file.watchdog.map(|table| WatchdogDevice {
        device: table.device,
        timeout: bounded(table.timeout.as_ref(), WATCHDOG_TIMEOUT, (1, 600), &mut problems),
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let state = beside.join(file.local.state);
    let socket = match file.local.socket {
        Some(socket) => beside.join(socket.into_inner()),
        None => state.join("control.sock"),
    };
    Ok(SiteConfig {
        site: file.site.id.0,
        site_name: file.site.name.0,
        local: Local {
            node: NodeId(file.local.node.into_inner()),
            key_file: beside.join(file.local.key_file),
            state,
            device: file.local.device,
            socket,
            guests: beside.join(file.local.guests.unwrap_or_else(|| GUESTS.into())),
            storage,
        },
        listen,
        members,
        timers,
        fencing,
        watchdog,
        resources,
    })
}

fn member(node: &Spanned<NodeTable>, problems: &mut Problems) -> Option<Member> {
    let table = node.as_ref();
    let mut wrong = |span: Range<usize>, what: &str, remedy: &str| {
        problems.push(Problem::new(span, what, remedy));
        None
    };
    let name = &table.name.as_ref().0;
    if *table.id.as_ref() == 0 {
        return wrong(table.id.span(), "0 is no node id", "number the nodes from 1");
    }
    let [one, two] = *table.addresses.as_ref();
    if one == two || (one.0.ip() == two.0.ip() && !one.0.ip().is_loopback()) {
        let what = format!("both addresses of {name} are on one network");
        return wrong(
            table.addresses.span(),
            &what,
            "give it one address in each of the two control networks",
        );
    }
    let duty = match duty(table) {
        Ok(duty) => duty,
        Err((what, remedy)) => return wrong(node.span(), &format!("{name} {what}"), remedy),
    };
    if table.witness && !table.voter {
        let what = format!("the witness {name} does not vote");
        return wrong(node.span(), &what, "write `voter = true`: a witness does nothing else");
    }
    let board = match &table.board {
        Some(board) if !table.witness => {
            return wrong(
                board.span(),
                "only a witness has a board",
                "take `board` out, or add `witness = true`",
            );
        }
        Some(board) => Some(self::board(board, problems)),
        None => None,
    };
    Some(Member {
        id: NodeId(*table.id.as_ref()),
        name: name.clone(),
        duty,
        addresses: [one.0, two.0],
        voter: table.voter,
        external: table.external.clone(),
        board,
        nbd: storage::nbd(table, problems),
        guests: storage::guests(table, problems),
        room: storage::room(table, problems),
    })
}

/// What a node is there for, or what is wrong with it and its remedy.
fn duty(table: &NodeTable) -> Result<Duty, (&'static str, &'static str)> {
    match (table.witness, table.pair, table.side) {
        (true, _, None) if table.priority.is_some() => Err((
            "is a witness with a priority",
            "take `priority` out: a witness never runs the management system",
        )),
        (true, pair, None) => Ok(Duty::Witness { pair: pair.map_or(FIRST_PAIR, |pair| pair.0) }),
        (true, _, Some(_)) => {
            Err(("is a witness and stands in a compartment", "take `side` out, or `witness = true`"))
        }
        (false, Some(Pair(PairId::EVERY)), Some(_)) => {
            let remedy = "write the number of its pair; only a witness serves every one";
            Err(("stands in every pair", remedy))
        }
        (false, Some(pair), Some(side)) => {
            let priority = table.priority.as_ref().map_or(0, |priority| *priority.as_ref());
            Ok(Duty::Compartment { pair: pair.0, side: side.into(), priority })
        }
        (false, None, _) | (false, _, None) => {
            let remedy = "write `pair = 1` and `side = \"a\"` or \"b\", or `witness = true`";
            Err(("is in no compartment", remedy))
        }
    }
}

fn board(table: &Spanned<BoardTable>, problems: &mut Problems) -> Board {
    let BoardTable { dhcp, bits, gateway, hardware } = table.as_ref();
    if bits.is_some_and(|bits| bits.iter().any(|bits| !(1..=30).contains(bits))) {
        let what = "a network of this size has no room for a witness and a node";
        problems.push(Problem::new(table.span(), what, "write 1 to 30, such as `bits = [24, 24]`"));
    }
    let hardware = hardware.as_ref().map(|Hardware(address)| *address);
    Board { dhcp: *dhcp, bits: *bits, gateway: *gateway, hardware }
}

/// Nobody is there twice, nobody answers for another, and this node is one of them.
fn roster(file: &File, problems: &mut Problems) {
    let nodes = &file.node;
    if MEMBERS_MAX < nodes.len() {
        let what = format!("there are {} nodes, at most {MEMBERS_MAX} are allowed", nodes.len());
        let span = nodes.get(MEMBERS_MAX).map_or(0..0, Spanned::span);
        problems.push(Problem::new(span, what, "split the site"));
    }
    for (index, node) in nodes.iter().enumerate() {
        let this = node.as_ref();
        for other in nodes.iter().take(index).map(Spanned::as_ref) {
            let (name, known) = (&this.name.as_ref().0, &other.name.as_ref().0);
            if this.id.as_ref() == other.id.as_ref() {
                let what = format!("{name} has the id {} of {known}", this.id.as_ref());
                problems.push(Problem::new(this.id.span(), what, "give each node an id of its own"));
            }
            if name == known {
                let what = format!("there are two nodes named {name}");
                problems.push(Problem::new(this.name.span(), what, "give each node a name of its own"));
            }
            addresses(this, other, problems);
            storage::different(this, other, problems);
        }
    }
    let me = *file.local.node.as_ref();
    if !nodes.iter().any(|node| *node.as_ref().id.as_ref() == me) {
        let what = format!("this node, {me}, is not one of the nodes of the site");
        let remedy = "set it to the `id` of the [[node]] this file is for";
        problems.push(Problem::new(file.local.node.span(), what, remedy));
    }
}

fn addresses(this: &NodeTable, other: &NodeTable, problems: &mut Problems) {
    let (mine, theirs) = (this.addresses.as_ref(), other.addresses.as_ref());
    let (name, known) = (&this.name.as_ref().0, &other.name.as_ref().0);
    let span = this.addresses.span();
    if let Some(taken) = mine.iter().find(|address| theirs.contains(address)) {
        let what = format!("{name} has the address {} of {known}", taken.0);
        problems.push(Problem::new(span, what, "give each node addresses of its own"));
    } else if mine.iter().zip(theirs).any(|(a, b)| a.0.is_ipv4() != b.0.is_ipv4()) {
        let what = format!("{name} and {known} have addresses of different kinds in one network");
        let remedy = "write the two networks in the same order for all nodes, each IPv4 or each IPv6";
        problems.push(Problem::new(span, what, remedy));
    }
}

/// An odd number for each pair, and no compartment holds the majority alone: else its loss stops the pair.
fn voters(nodes: &[Spanned<NodeTable>], members: &[Member], problems: &mut Problems) {
    let mut pairs: Vec<PairId> = members.iter().map(|member| member.duty.pair()).collect();
    pairs.sort_unstable();
    pairs.dedup();
    // Who serves every pair serves those that there are.
    pairs.retain(|pair| *pair != PairId::EVERY);
    for pair in pairs {
        let of_pair = || nodes.iter().zip(members).filter(move |(_, member)| member.duty.serves(pair));
        let voters = || of_pair().filter(|(_, member)| member.voter);
        let count = voters().count();
        let span =
            voters().next_back().or_else(|| of_pair().next_back()).map_or(0..0, |(node, _)| node.span());
        if !(3..=VOTERS_MAX).contains(&count) || count.checked_rem(2) == Some(0) {
            let what =
                format!("{count} nodes of pair {} have `voter = true`: no loss can be outvoted", pair.0);
            let remedy = "let 3 vote (one node of each compartment and a witness), or 5";
            problems.push(Problem::new(span, what, remedy));
            continue;
        }
        for side in [Side::A, Side::B] {
            let here =
                |member: &Member| matches!(member.duty, Duty::Compartment { side: s, .. } if s == side);
            if count < voters().filter(|(_, member)| here(member)).count().saturating_mul(2) {
                let letter = letter(side);
                let what = format!("side {letter} of pair {} alone has the majority of its voters", pair.0);
                let remedy = "let a node of the other side or a witness vote instead: the loss of one \
                              compartment must leave a majority";
                problems.push(Problem::new(span.clone(), what, remedy));
            }
        }
    }
}

/// A pair has two sides.
fn pairs(nodes: &[Spanned<NodeTable>], members: &[Member], problems: &mut Problems) {
    let mut said = Vec::new();
    for (node, member) in nodes.iter().zip(members) {
        let Duty::Compartment { pair, side, .. } = member.duty else { continue };
        let place = |member: &Member| match member.duty {
            Duty::Compartment { pair, side, .. } => Some((pair, side)),
            Duty::Witness { .. } => None,
        };
        let across = |other: &Member| place(other) == Some((pair, side.other()));
        if !members.iter().any(across) && !said.contains(&pair) {
            said.push(pair);
            let what = format!("pair {} has no node on side {}", pair.0, letter(side.other()));
            let remedy =
                "a pair is two compartments: add a node on the other side, or correct `pair` or `side`";
            problems.push(Problem::new(node.span(), what, remedy));
        }
    }
}

fn listen(file: &File, members: &[Member], problems: &mut Problems) -> [SocketAddr; 2] {
    let me = members.iter().find(|member| member.id.0 == *file.local.node.as_ref());
    let mine = me.map(|member| member.addresses);
    let Some(network) = &file.network else {
        return mine.unwrap_or([SocketAddr::from(([0, 0, 0, 0], 0)); 2]);
    };
    let written = network.listen.as_ref().map(|Address(address)| address);
    let [one, two] = written;
    let swapped = mine.is_some_and(|mine| mine == [two, one]);
    if swapped || one == two {
        let what = if swapped { "the two networks are swapped" } else { "both networks are one" };
        let remedy = "write the addresses of this node in the order of its [[node]], or leave `listen` out";
        problems.push(Problem::new(network.listen.span(), what, remedy));
    }
    written
}

fn timers(table: &TimersTable, problems: &mut Problems) -> Timing {
    if let (Some(_), Some(preset)) = (&table.rto, &table.preset) {
        let what = "both `rto` and `preset` are written";
        problems.push(Problem::new(preset.span(), what, "keep one of them"));
    }
    if let Some(ppm) = table.drift_ppm.as_ref().filter(|ppm| Drift::from_ppm(*ppm.as_ref()).is_none()) {
        let what = format!("a clock that is {} ppm off is broken", ppm.as_ref());
        problems.push(Problem::new(ppm.span(), what, format!("write at most {}", Drift::MAX.as_ppm())));
    }
    if let Some(loss) = table.loss_permille.as_ref().filter(|loss| 300 < *loss.as_ref()) {
        let what = format!("a network that loses {} of 1000 heartbeats carries no site", loss.as_ref());
        problems.push(Problem::new(loss.span(), what, "write at most 300"));
    }
    let goal = match (&table.rto, &table.preset) {
        (Some(rto), _) => Goal::Recovery(rto.as_ref().0),
        (None, Some(preset)) => Goal::Preset((*preset.as_ref()).into()),
        (None, None) => Goal::Preset(Preset::Default),
    };
    let plain = |time: &Option<Spanned<Time>>| time.as_ref().map(|time| time.as_ref().0);
    Timing {
        goal,
        round_trip: plain(&table.round_trip),
        pause: plain(&table.pause),
        persist: plain(&table.persist),
        loss_permille: table.loss_permille.as_ref().map(|loss| *loss.as_ref()),
        drift_ppm: table.drift_ppm.as_ref().map(|ppm| *ppm.as_ref()),
    }
}

fn all_fencing(
    tables: &[Spanned<FencingTable>],
    members: &[Member],
    problems: &mut Problems,
) -> Vec<Fencing> {
    let mut all: Vec<Fencing> = Vec::new();
    for table in tables.iter().map(Spanned::as_ref) {
        let node = NodeId(*table.node.as_ref());
        let fenced = members.iter().find(|member| member.id == node);
        if fenced.is_none_or(|member| member.duty.is_witness()) {
            let what = format!("{} is no node that could act", node.0);
            problems.push(Problem::new(
                table.node.span(),
                what,
                "name the `id` of a [[node]] in a compartment",
            ));
        }
        if all.iter().any(|known| known.node == node) {
            let what = format!("node {} is fenced in two ways", node.0);
            problems.push(Problem::new(table.node.span(), what, "keep one [[fencing]] for each node"));
        }
        let timeout = bounded(table.timeout.as_ref(), FENCING_TIMEOUT, (1, 600), problems);
        one_witness(table, node, &all, members, problems);
        if let Some(method) = method(table, members, problems) {
            all.push(Fencing { node, method, timeout });
        }
    }
    all
}

/// Both sides of a pair are cut by one witness: two could each cut for another side (V21).
fn one_witness(
    table: &FencingTable,
    node: NodeId,
    all: &[Fencing],
    members: &[Member],
    problems: &mut Problems,
) {
    let pair = |node: NodeId| members.iter().find(|member| member.id == node).map(|one| one.duty.pair());
    let Some(mine) = table.witness.map(NodeId) else { return };
    let other = all.iter().find_map(|fencing| match fencing.method {
        Method::Relay { witness, .. } if pair(fencing.node) == pair(node) && witness != mine => Some(witness),
        Method::Relay { .. } | Method::FenceAgent { .. } | Method::Expiry => None,
    });
    if let Some(other) = other {
        let what =
            format!("the pair of node {} is fenced by the witnesses {} and {}", node.0, other.0, mine.0);
        let remedy = "have all relays of a pair switched by one witness: two could each cut for another side";
        problems.push(Problem::new(table.node.span(), what, remedy));
    }
}

fn method(table: &FencingTable, members: &[Member], problems: &mut Problems) -> Option<Method> {
    let mut wrong = |what: String, remedy: &str| {
        problems.push(Problem::new(table.method.span(), what, remedy));
        None
    };
    let FencingTable { agent, options, witness, .. } = table;
    let outlet = match (table.relay, table.strip) {
        (Some(relay), None) => Some(Outlet::Relay(relay)),
        (None, Some(strip)) => Some(Outlet::Strip(strip)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            return wrong("`relay` and `strip` are two places".into(), "name the one that feeds the node");
        }
    };
    let bad = |text: &str| text.contains(['\n', '\r', '\0']);
    if let Some((key, _)) = options.iter().find(|(key, value)| key.contains('=') || bad(key) || bad(value)) {
        return wrong(
            format!("the option `{}` cannot be told to an agent", key.escape_debug()),
            "write no line breaks, and no `=` in keys",
        );
    }
    match (table.method.as_ref(), agent, witness, outlet) {
        (MethodWord::FenceAgent, Some(agent), None, None) => {
            Some(Method::FenceAgent { agent: agent.clone(), options: options.clone() })
        }
        (MethodWord::Relay, agent, Some(witness), Some(outlet)) if is_switchable(outlet, agent, options) => {
            let (witness, agent, options) = (NodeId(*witness), agent.clone(), options.clone());
            match members.iter().find(|member| member.id == witness && member.duty.is_witness()) {
                Some(_) => Some(Method::Relay { witness, outlet, agent, options }),
                None => {
                    wrong(format!("{} is no witness", witness.0), "name the `id` of a [[node]] that is one")
                }
            }
        }
        (MethodWord::Expiry, None, None, None) if options.is_empty() => Some(Method::Expiry),
        (MethodWord::FenceAgent, ..) => wrong(
            "a fence agent needs `agent`, and no `witness`, `relay` or `strip`".into(),
            "write such as `agent = \"fence_ipmilan\"` and `options = { ip = \"10.0.9.1\" }`",
        ),
        (MethodWord::Relay, ..) => wrong(
            "a relay needs `witness`, and `relay` or `strip`; an `agent` and its `options` go with `relay`"
                .into(),
            "write the witness's id and a number; on Linux also the `agent` that switches the relay",
        ),
        (MethodWord::Expiry, ..) => wrong("expiry has no further keys".into(), "take them out"),
    }
}

/// An agent switches a relay for a witness on Linux; the strip of a microcontroller needs none.
fn is_switchable(outlet: Outlet, agent: &Option<String>, options: &BTreeMap<String, String>) -> bool {
    match outlet {
        Outlet::Relay(_) => agent.is_some() || options.is_empty(),
        Outlet::Strip(_) => agent.is_none() && options.is_empty(),
    }
}

/// A time between two numbers of seconds.
pub(super) fn bounded(
    value: Option<&Spanned<Time>>,
    usual: Duration,
    range: (u64, u64),
    problems: &mut Problems,
) -> Duration {
    let Some(spanned) = value else { return usual };
    let (least, most) = (Duration::from_secs(range.0), Duration::from_secs(range.1));
    let Time(found) = *spanned.as_ref();
    if !(least..=most).contains(&found) {
        let what = format!("{} is out of range", time(found));
        problems.push(Problem::new(spanned.span(), what, format!("write {} to {}", time(least), time(most))));
    }
    found
}

/// A side as people write it.
pub const fn letter(side: Side) -> &'static str {
    match side {
        Side::A => "a",
        Side::B => "b",
    }
}

impl From<SideWord> for Side {
    fn from(word: SideWord) -> Self {
        match word {
            SideWord::A => Self::A,
            SideWord::B => Self::B,
        }
    }
}

impl From<PresetWord> for Preset {
    fn from(word: PresetWord) -> Self {
        match word {
            PresetWord::Default => Self::Default,
            PresetWord::Tight => Self::Tight,
            PresetWord::Wide => Self::Wide,
        }
    }
}
