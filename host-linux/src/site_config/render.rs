//! A configuration back as text: for programs that make one, such as the playground.

use super::check::letter;
use super::value::{EVERY, hardware_text, site_text, size_text, time};
use super::{
    Board, Duty, Fencing, Goal, Member, Method, Preset, Resource, Runner, RunsOn, Secrecy, SiteConfig,
    Storage, Timing, Tls,
};
use crate::guests::home::GUESTS;
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::id::PairId;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

impl SiteConfig {
    /// The file that reads back as this configuration. All paths are written as they are.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let [one, two] = self.listen.map(|address| address.to_string());
        // Writing into a string does not fail.
        let _ = write!(
            out,
            "[site]\nid = \"{}\"\nname = {}\n\n[local]\nnode = {}\nkey_file = {}\nstate = {}\nsocket = {}\n",
            site_text(self.site),
            quoted(&self.site_name),
            self.local.node.0,
            path(&self.local.key_file),
            path(&self.local.state),
            path(&self.local.socket),
        );
        if self.local.guests.as_path() != Path::new(GUESTS) {
            let _ = writeln!(out, "guests = {}", path(&self.local.guests));
        }
        if let Some(device) = &self.local.device {
            let _ = writeln!(out, "device = {}", path(device));
        }
        if let Some(each) = &self.local.storage {
            storage(each, &mut out);
        }
        let _ = writeln!(out, "\n[network]\nlisten = [\"{one}\", \"{two}\"]");
        self.shared(&mut out);
        if let Some(watchdog) = &self.watchdog {
            let (device, timeout) = (path(&watchdog.device), time(watchdog.timeout));
            let _ = writeln!(out, "\n[watchdog]\ndevice = {device}\ntimeout = \"{timeout}\"");
        }
        self.resources.iter().for_each(|each| resource(each, &mut out));
        out
    }

    /// What must be the same on all nodes: who there is, and how fast.
    fn shared(&self, out: &mut String) {
        self.members.iter().for_each(|each| member(each, out));
        timers(&self.timers, out);
        self.fencing.iter().for_each(|each| fencing(each, out));
    }

    /// Identifies what must be the same on all nodes, whatever the order or the comments in their files:
    /// nodes with different digests have different sites in mind (F54). Addresses are left out:
    /// behind a relay each node may know another under one of its own, and whose address is wrong is not
    /// heard.
    pub fn digest(&self) -> [u8; 16] {
        let mut same = self.clone();
        for member in &mut same.members {
            member.addresses = [SocketAddr::from(([0, 0, 0, 0], 0)); 2];
            member.board = None;
            member.nbd = None;
            member.guests = None;
        }
        same.members.sort_by_key(|member| member.id);
        same.fencing.sort_by_key(|fencing| fencing.node);
        let mut text = site_text(same.site);
        same.shared(&mut text);
        let full: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let (half, _) = full.split_first_chunk().unwrap_or((&[0; 16], &[]));
        *half
    }

    /// The digest in hex: for people to compare.
    pub fn digest_text(&self) -> String {
        self.digest().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn member(member: &Member, out: &mut String) {
    let [one, two] = member.addresses;
    let _ = write!(
        out,
        "\n[[node]]\nid = {}\nname = {}\naddresses = [\"{one}\", \"{two}\"]\nvoter = {}\n",
        member.id.0,
        quoted(&member.name),
        member.voter
    );
    let _ = match member.duty {
        Duty::Witness { pair: PairId::EVERY } => writeln!(out, "witness = true\npair = {}", quoted(EVERY)),
        Duty::Witness { pair } => writeln!(out, "witness = true\npair = {}", pair.0),
        Duty::Compartment { pair, side, priority } => {
            writeln!(out, "pair = {}\nside = \"{}\"\npriority = {priority}", pair.0, letter(side))
        }
    };
    if !member.external.is_empty() {
        let external: Vec<_> = member.external.iter().map(|ip| format!("\"{ip}\"")).collect();
        let _ = writeln!(out, "external = [{}]", external.join(", "));
    }
    if let Some(board) = &member.board {
        let _ = writeln!(out, "board = {{ {} }}", self::board(board));
    }
    if let Some(nbd) = &member.nbd {
        let _ = writeln!(out, "nbd = \"{nbd}\"");
    }
    if let Some(guests) = &member.guests {
        let _ = writeln!(out, "guests = \"{guests}\"");
    }
    if let Some(room) = &member.room {
        let memory = room.memory.map(|mib| format!("memory = \"{}\"", size_text(u64::from(mib.get()) << 20)));
        let processors = room.processors.map(|processors| format!("processors = {processors}"));
        let placeholder = room.placeholder.then(|| "placeholder = true".to_owned());
        let all: Vec<_> = [memory, processors, placeholder].into_iter().flatten().collect();
        let _ = writeln!(out, "room = {{ {} }}", all.join(", "));
    }
}

fn storage(storage: &Storage, out: &mut String) {
    let Storage { log, log_size, volumes, is_shared, memory, read_cache, backing, tls } = storage;
    let _ = writeln!(out, "\n[local.storage]\nlog = {}\nvolumes = {}", path(log), path(volumes));
    if *is_shared {
        let _ = writeln!(out, "shared = true");
    }
    if let Some(bytes) = log_size {
        let _ = writeln!(out, "log_size = \"{}\"", size_text(*bytes));
    }
    let _ = writeln!(out, "memory = \"{}\"", size_text(*memory));
    if *read_cache != 0 {
        let _ = writeln!(out, "read_cache = \"{}\"", size_text(*read_cache));
    }
    if !backing.is_empty() {
        let _ = writeln!(out, "\n[local.storage.backing]");
    }
    for (volume, place) in backing {
        let _ = writeln!(out, "{} = {}", quoted(volume), quoted(&place.to_string()));
    }
    if let Some(Tls { is_required, streams, certificate, key, authorities }) = tls {
        let mode = if *is_required { "require" } else { "allow" };
        let streams = match streams {
            Secrecy::Clear => "clear",
            Secrecy::Allowed => "allow",
            Secrecy::Required => "require",
        };
        let _ = writeln!(out, "\n[local.storage.tls]\nmode = \"{mode}\"\nstreams = \"{streams}\"");
        for (name, value) in [("certificate", certificate), ("key", key), ("authorities", authorities)] {
            let _ = writeln!(out, "{name} = {}", path(value));
        }
    }
}

fn board(board: &Board) -> String {
    let Board { dhcp, bits, gateway, hardware } = board;
    let mut keys = vec![format!("dhcp = {dhcp}")];
    keys.extend(bits.map(|[one, two]| format!("bits = [{one}, {two}]")));
    keys.extend(gateway.map(|host| format!("gateway = \"{host}\"")));
    keys.extend(hardware.map(|address| format!("hardware = \"{}\"", hardware_text(&address))));
    keys.join(", ")
}

fn timers(timing: &Timing, out: &mut String) {
    let _ = match timing.goal {
        Goal::Recovery(rto) => writeln!(out, "\n[timers]\nrto = \"{}\"", time(rto)),
        Goal::Preset(preset) => writeln!(out, "\n[timers]\npreset = \"{}\"", preset.name()),
    };
    let times = [("round_trip", timing.round_trip), ("pause", timing.pause), ("persist", timing.persist)];
    for (key, value) in times {
        if let Some(value) = value {
            let _ = writeln!(out, "{key} = \"{}\"", time(value));
        }
    }
    let numbers = [("loss_permille", timing.loss_permille.map(u32::from)), ("drift_ppm", timing.drift_ppm)];
    for (key, value) in numbers {
        if let Some(value) = value {
            let _ = writeln!(out, "{key} = {value}");
        }
    }
}

fn fencing(fencing: &Fencing, out: &mut String) {
    let _ =
        writeln!(out, "\n[[fencing]]\nnode = {}\ntimeout = \"{}\"", fencing.node.0, time(fencing.timeout));
    let _ = match &fencing.method {
        Method::FenceAgent { agent, options } => {
            let (agent, options) = (quoted(agent), table(options));
            writeln!(out, "method = \"fence-agent\"\nagent = {agent}\noptions = {options}")
        }
        Method::Relay { witness, outlet, agent, options } => {
            let (key, number) = match outlet {
                Outlet::Relay(number) => ("relay", number),
                Outlet::Strip(number) => ("strip", number),
            };
            let _ = writeln!(out, "method = \"relay\"\nwitness = {}\n{key} = {number}", witness.0);
            match agent {
                Some(agent) => writeln!(out, "agent = {}\noptions = {}", quoted(agent), table(options)),
                None => Ok(()),
            }
        }
        Method::Expiry => writeln!(out, "method = \"expiry\""),
    };
}

fn resource(resource: &Resource, out: &mut String) {
    let _ = writeln!(out, "\n[[resource]]\nname = {}", quoted(&resource.name));
    let _ = match &resource.runner {
        Runner::Systemd { unit } => writeln!(out, "class = \"systemd\"\nunit = {}", quoted(unit)),
        Runner::Ocf { agent, options } => {
            writeln!(out, "class = \"ocf\"\nagent = {}\noptions = {}", quoted(agent), table(options))
        }
    };
    let on = match resource.on {
        RunsOn::Infrastructure => "infrastructure",
        RunsOn::Management => "management",
    };
    let _ = writeln!(
        out,
        "on = \"{on}\"\norder = {}\nstart_timeout = \"{}\"\nstop_timeout = \"{}\"\ninterval = \"{}\"",
        resource.order,
        time(resource.start_timeout),
        time(resource.stop_timeout),
        time(resource.interval)
    );
}

fn table(options: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> =
        options.iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Preset {
    /// Its word in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Tight => "tight",
            Self::Wide => "wide",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Room;
    use super::*;
    use std::num::{NonZeroU16, NonZeroU32};

    #[test]
    fn what_is_written_reads_back() {
        let at = Path::new("/etc/bulkhead/site.toml");
        let mut config = SiteConfig::parse(at, super::super::EXAMPLE).unwrap();
        config.local.state = "/tmp/a \"quoted\"\\\u{1} path".into();
        config.local.device = Some("/dev/x".into());
        config.timers.goal = Goal::Recovery(std::time::Duration::from_millis(1500));
        config.timers.loss_permille = Some(40);
        let gateway = Some(std::net::Ipv4Addr::new(10, 0, 1, 254));
        let hardware = Some([2, 0, 0, 0, 0, 9]);
        let witness = config.members.iter_mut().find(|member| member.duty.is_witness()).unwrap();
        witness.duty = Duty::Witness { pair: PairId::EVERY };
        witness.board = Some(Board { dhcp: false, bits: Some([24, 16]), gateway, hardware });
        let device = "/dev/watchdog".into();
        config.watchdog =
            Some(super::super::WatchdogDevice { device, timeout: std::time::Duration::from_secs(9) });
        let text = config.to_toml();
        assert_eq!(SiteConfig::parse(at, &text).unwrap(), config, "{text}");
        let both = [None, Some(1 << 30)].into_iter();
        let secrecies = [Secrecy::Clear, Secrecy::Allowed, Secrecy::Required];
        for (log_size, streams) in both.flat_map(|size| secrecies.map(|streams| (size, streams))) {
            let volumes = "/srv/volumes".into();
            let tls = Tls {
                is_required: log_size.is_none(),
                streams,
                certificate: "/c \"c\"".into(),
                key: "/k".into(),
                authorities: "/a".into(),
            };
            let (log, memory) = ("/dev/x \"y\"".into(), 9 << 20);
            let device = |path: &str| super::super::BackedBy::Device(path.into());
            let backing = [("vm.1".to_owned(), device("/dev/x")), ("vm2".to_owned(), device("/dev/y \""))];
            let remote = "nbd+unix:///a%20b?socket=/run/s".parse().unwrap();
            let remote = ("vm3".to_owned(), super::super::BackedBy::Nbd(remote));
            let backing = backing.into_iter().chain([remote]).collect();
            let (read_cache, tls, is_shared) = (log_size.unwrap_or(0), Some(tls), streams == Secrecy::Clear);
            let backing = if is_shared { Default::default() } else { backing };
            config.local.storage =
                Some(Storage { log, log_size, volumes, is_shared, memory, read_cache, backing, tls });
            config.members[0].nbd = Some(SocketAddr::from(([10, 0, 1, 1], 10_809)));
            config.local.guests = if is_shared { "/g \"g\"".into() } else { GUESTS.into() };
            config.members[0].guests = Some(SocketAddr::from(([10, 0, 1, 1], 7902)));
            config.members[0].room = Some(Room {
                memory: NonZeroU32::new(49_152),
                processors: NonZeroU16::new(64),
                placeholder: false,
            });
            config.members[1].room =
                Some(Room { memory: None, processors: NonZeroU16::new(1), placeholder: true });
            let text = config.to_toml();
            assert_eq!(SiteConfig::parse(at, &text).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn the_digest_is_of_what_nodes_must_agree_on() {
        let at = Path::new("/etc/bulkhead/site.toml");
        let one = SiteConfig::parse(at, super::super::EXAMPLE).unwrap();
        let mut two = one.clone();
        two.local.node = bulkhead_core::id::NodeId(2);
        two.local.state = "/elsewhere".into();
        two.members.reverse();
        two.members[0].addresses.swap(0, 1);
        two.members[0].board = Some(Board::default());
        two.members[0].nbd = Some(SocketAddr::from(([10, 0, 1, 1], 9)));
        two.members[0].guests = Some(SocketAddr::from(([10, 0, 1, 1], 8)));
        assert_eq!(one.digest(), two.digest());
        two.members[0].room = Some(Room { memory: NonZeroU32::new(1), processors: None, placeholder: false });
        assert_ne!(one.digest(), two.digest(), "what a forecast is made of");
        two.members[0].room = None;
        two.members[0].voter = false;
        assert_ne!(one.digest(), two.digest());
    }
}
