//! `bulkhead playground demo`: the story of two compartments, told while it happens: a guest writes, the
//! node that leads dies, the guest goes on, and nothing acknowledged is lost (S1-17 to S1-20, S4-11; V1, V4).

use super::playground::{AGREE_MAX, Outside, describe};
use crate::cluster::client::Client;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::nbd::uri::Uri;
use crate::output::Report;
use crate::playground::guest::Guest;
use crate::playground::layout::Wanted;
use crate::playground::site::Site;
use crate::site_config::Preset;
use crate::volume::serve::NBD_SOCKET;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The guest's volume, and its blocks.
const GUEST: &str = "guest";
const GUEST_BLOCKS: u64 = 4096;

/// Show two compartments lose their master and go on
///
/// Starts a playground, waits for a master, has a guest write into a mirrored volume, kills the
/// master, shows the other take over, the guest go on and read all that was acknowledged, and the
/// first come back as slave; then cuts the link between the two and shows that only one acts.
///
/// Example:
///   bulkhead playground demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Demo {
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "bulkhead-playground")]
    dir: PathBuf,
    #[command(flatten)]
    outside: Outside,
}

/// A story, told while it happens.
struct Story {
    site: Site,
    as_json: bool,
    begun: Instant,
}

impl Story {
    fn tell(&self, who: &str, what: &str) {
        let seconds = self.begun.elapsed().as_secs_f64();
        match self.as_json {
            true => println!("{}", json!({ "seconds": seconds, "who": who, "what": what })),
            false => println!("{seconds:>7.1} s  {who:<9} {what}"),
        }
    }

    /// Waits until `seen` gives something; how long it took.
    fn wait<T>(&self, for_what: &str, seen: impl Fn(&Site) -> Option<T>) -> Result<(T, Duration), Failure> {
        let begun = Instant::now();
        loop {
            if let Some(found) = seen(&self.site) {
                return Ok((found, begun.elapsed()));
            }
            if AGREE_MAX < begun.elapsed() {
                let what = format!("{for_what}: not within {} s", AGREE_MAX.as_secs());
                return Err(Failure::failed(what).left("All parts were stopped."));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn name(&self, place: usize) -> &str {
        self.site.parts.get(place).map_or("", |part| &part.name)
    }
}

/// Tells the story.
///
/// # Errors
///
/// Something went another way than it is to go. All parts are stopped.
pub(super) fn demo(args: &Demo, as_json: bool) -> Result<Report, Failure> {
    let elsewhere = args.outside.elsewhere();
    if !as_json {
        let witness =
            if elsewhere.is_some() { ", and a witness that is no process of it" } else { " and a witness" };
        println!("Two compartments as processes on this machine{witness}:\n");
    }
    let wanted = Wanted {
        pairs: 1,
        per_side: 1,
        preset: Preset::Default,
        elsewhere,
        holders: 2,
        is_shared: false,
        is_direct: false,
        rooms: [None; 2],
    };
    let site = Site::start(&args.dir, &wanted)?;
    let mut story = Story { site, as_json, begun: Instant::now() };
    story.tell("operator", "switches on a1, b1 and the witness");
    let (master, _) = story.wait("a master", protected_by)?;
    let slave = usize::from(master == 0);
    story.tell(story.name(master), &describe(&story.site, master));
    story.tell(story.name(slave), &describe(&story.site, slave));
    let guest = story.guest(master, slave)?;

    story.tell("room", &format!("the power of {} fails", story.name(master)));
    story.site.kill(master);
    let seen = |site: &Site| site.master().filter(|other| *other != master);
    let ((), took) = story.wait("a takeover", |site| seen(site).map(|_| ()))?;
    story.tell(story.name(slave), &describe(&story.site, slave));
    story.tell(story.name(slave), &format!("acts {} ms after the power failed", took.as_millis()));
    let (written, pause) = story.guest_goes_on(guest, slave)?;

    story.tell("room", &format!("the power of {} is back", story.name(master)));
    story.site.launch(master)?;
    let is_slave = |site: &Site| role(site, master).filter(|role| role == "slave");
    let _ = story.wait("the old master to follow", is_slave)?;
    story.tell(story.name(master), &describe(&story.site, master));
    let _ = story.wait("protection", protected_by)?;
    story.tell("operator", "sees: any one part may fail again");
    story.cut(master, slave)?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let json = json!({
        "ok": true,
        "takeoverMs": millis(took),
        "guest": { "writes": written, "lost": 0, "longestPauseMs": millis(pause) },
    });
    Ok(Report::new(String::new(), json))
}

impl Story {
    /// A guest begins to write into a mirrored volume, through the node that does not lead.
    fn guest(&self, master: usize, slave: usize) -> Result<Guest, Failure> {
        let _ =
            self.wait("the volumes in sync", |site| state(site, master).filter(|state| state == "synced"))?;
        let (Some(first), Some(other)) = (self.site.parts.get(master), self.site.parts.get(slave)) else {
            return Err(Failure::failed("the playground has no nodes"));
        };
        if !leads(&self.site, master) {
            Client::connect(&other.socket)?.ask(&Request::VolumePromote { node: first.node })?;
            let _ = self.wait("the volumes' lead", |site| leads(site, master).then_some(()))?;
        }
        let blocks = GUEST_BLOCKS;
        Client::connect(&first.socket)?.ask(&Request::VolumeCreate { name: GUEST.into(), blocks })?;
        self.tell("operator", &format!("makes {GUEST}, a volume in the logs of both compartments"));
        let uri = Uri::unix(&other.state.join(NBD_SOCKET), GUEST);
        let (guest, _) = self.wait("the guest's volume", |_| Guest::start(&uri, blocks).ok())?;
        let _ = self.wait("the guest's first writes", |_| (1_000 < guest.written()).then_some(()))?;
        let text = format!("writes through {}, which passes it on to {}", other.name, first.name);
        self.tell("guest", &text);
        Ok(guest)
    }

    /// The guest has gone on, and reads again everything that was acknowledged. How many writes that are, and
    /// the longest that one of them took.
    fn guest_goes_on(&self, guest: Guest, slave: usize) -> Result<(u64, Duration), Failure> {
        let enough = guest.written().saturating_add(1_000);
        let _ = self.wait("the guest's next writes", |_| (enough < guest.written()).then_some(()))?;
        let (written, pause) = (guest.written(), guest.longest());
        guest.end_and_check()?;
        let text = format!(
            "noticed a pause of {} ms; reads every one of {written} acknowledged writes through {}",
            pause.as_millis(),
            self.name(slave)
        );
        self.tell("guest", &text);
        Ok((written, pause))
    }

    /// The links between the compartments are cut, and only one acts.
    fn cut(&self, master: usize, slave: usize) -> Result<(), Failure> {
        self.tell("room", "the links between the two compartments are cut; both still reach the witness");
        self.site.cut(master, slave)?;
        std::thread::sleep(Duration::from_secs(3));
        let is_master = |place: &usize| role(&self.site, *place).as_deref() == Some("master");
        let masters: Vec<_> = [master, slave].into_iter().filter(is_master).collect();
        if masters != [slave] {
            return Err(
                Failure::failed("not exactly the one master was left").left("All parts were stopped.")
            );
        }
        self.tell(self.name(slave), "goes on as the only master: the other cannot win the voters");
        self.site.heal();
        let _ = self.wait("protection", protected_by)?;
        self.tell("operator", "heals the links: any one part may fail again. Nobody was called");
        Ok(())
    }
}

/// How a part sees the volumes.
fn state(site: &Site, place: usize) -> Option<String> {
    site.status(place)?.pointer("/storage/state").and_then(Value::as_str).map(str::to_owned)
}

/// Whether a part leads the volumes.
fn leads(site: &Site, place: usize) -> bool {
    site.status(place).is_some_and(|status| status.pointer("/storage/leads") == Some(&Value::Bool(true)))
}

fn role(site: &Site, place: usize) -> Option<String> {
    site.status(place)?.get("role").and_then(Value::as_str).map(str::to_owned)
}

/// The master, once every part sees the site protected.
fn protected_by(site: &Site) -> Option<usize> {
    let protected =
        |place| site.status(place).is_some_and(|status| status.get("protected") == Some(&Value::Bool(true)));
    let nodes = site.parts.iter().enumerate().filter(|(_, part)| !part.is_witness);
    let all = nodes.map(|(place, _)| place).all(protected);
    site.master().filter(|_| all)
}
