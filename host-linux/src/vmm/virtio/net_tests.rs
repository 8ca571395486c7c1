//! A network between a driver written by hand and a real tap, whose other end is this kernel's own UDP.

use super::super::VERSION_1;
use super::super::testing::{AVAILABLE, DATA, Driver, SIZE, TABLE, event, initialise_queues, set};
use super::super::transport::Transport;
use super::*;
use crate::vmm::namespace::{has_own_network, ip, network};
use proptest::prelude::*;
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

/// Where frames are received into, and sent from.
const ROOM: u64 = 0x1_0000;
const SENT: u64 = DATA + 0x20_0000;
const NODE: ([u8; 6], Ipv4Addr) = ([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 7, 0, 1));
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
const PORT: u16 = 7;
/// What stands before the content of a datagram, from the header of the frame on.
const BEFORE: usize = HEADER + 14 + 20 + 8;

/// A driver with a network, and the node at its other end.
struct Guest {
    receive: Driver,
    send: Driver,
    transport: Transport,
    node: UdpSocket,
    tap: Arc<Tap>,
    mac: Mac,
}

impl Guest {
    fn new(features: u64) -> Self {
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let described = network("tap0", None);
        let tap = Arc::new(Tap::open(&described).unwrap());
        let net = Net::new(Arc::clone(&tap), described.mac);
        ip("link set tap0 address 02:00:00:00:00:01");
        ip("address add 10.7.0.1/24 dev tap0");
        ip(&format!("neighbour replace 10.7.0.2 lladdr {} dev tap0 nud permanent", described.mac));
        let node = UdpSocket::bind(SocketAddrV4::new(NODE.1, PORT)).unwrap();
        node.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let receive = Driver::default();
        let send = receive.beside();
        let events = vec![event(), event()];
        let transport = Transport::new(Box::new(net), receive.memory.clone(), event(), events).unwrap();
        let mut guest = Self { receive, send, transport, node, tap, mac: described.mac };
        guest.begin(features);
        guest
    }

    fn begin(&mut self, features: u64) {
        assert_eq!(initialise_queues(&mut self.transport, VERSION_1 | features, 2), 15);
    }

    fn reset(&mut self) {
        set(&mut self.transport, 0x70, 0);
        self.receive.restart();
        self.send.restart();
    }

    /// Offers so much room, at this place of the table.
    fn offer(&mut self, place: u16, length: u32) {
        self.receive.ask(place, &[(DATA + ROOM * u64::from(place), length, true)]);
        set(&mut self.transport, 0x50, 0);
    }

    /// The node sends this content.
    fn tell(&self, content: &[u8]) {
        self.node.send_to(content, SocketAddrV4::new(GUEST, PORT)).unwrap();
    }

    /// The next frame that came, with its header, and in which chains it is.
    fn hear(&mut self, chains: usize) -> (Vec<u8>, Vec<(u32, u32)>) {
        let used = self.receive.wait(chains);
        let part = |(head, length): &(u32, u32)| {
            self.receive.get(DATA + ROOM * u64::from(*head), usize::try_from(*length).unwrap())
        };
        (used.iter().flat_map(part).collect(), used)
    }

    /// Sends this in two parts, and waits until the device has given them back.
    fn send(&mut self, frame: &[u8]) {
        self.send.put(SENT, frame);
        let half = u32::try_from(frame.len() / 2).unwrap();
        let rest = u32::try_from(frame.len()).unwrap() - half;
        self.send.ask(0, &[(SENT, half, false), (SENT + u64::from(half), rest, false)]);
        set(&mut self.transport, 0x50, 1);
        assert_eq!(self.send.wait(1), [(0, 0)]);
    }

    /// What the node hears.
    fn heard(&self) -> Vec<u8> {
        let mut content = vec![0; 2048];
        let (count, from) = self.node.recv_from(&mut content).unwrap();
        assert_eq!(from, SocketAddrV4::new(GUEST, PORT).into());
        content.truncate(count);
        content
    }

    /// A datagram from the guest to the node, behind this header. Its sum is that of what its content is not
    /// in, as for who completes it; none if there is no header.
    fn datagram(&self, header: [u8; HEADER], content: &[u8]) -> Vec<u8> {
        let udp_length = u16::try_from(8 + content.len()).unwrap();
        let mut ip = [&[0x45, 0][..], &(20 + udp_length).to_be_bytes(), &[0, 0, 0, 0, 64, 17, 0, 0]].concat();
        ip.extend(GUEST.octets().into_iter().chain(NODE.1.octets()));
        let checksum = !sum(&ip, 0);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        let pseudo = sum(&[&ip[12..20], &[0, 17][..], &udp_length.to_be_bytes()].concat(), 0);
        let partial = if header == [0; HEADER] { 0 } else { pseudo };
        let ports = [PORT, PORT, udp_length, partial].map(u16::to_be_bytes).concat();
        [&header[..], &NODE.0, &self.mac.bytes(), &[8, 0], &ip, &ports, content].concat()
    }

    /// Hears this, whatever comes before it.
    fn hears_at_last(&mut self, content: &[u8]) {
        self.offer(0, 2048);
        while self.hear(1).0[BEFORE..] != *content {
            self.offer(0, 2048);
        }
    }

    /// Both directions work.
    fn is_served(&mut self) {
        self.offer(0, 2048);
        self.tell(b"to the guest");
        let (frame, _) = self.hear(1);
        assert_eq!(&frame[BEFORE..], b"to the guest");
        let frame = self.datagram([0; HEADER], b"to the node");
        self.send(&frame);
        assert_eq!(self.heard(), b"to the node");
    }
}

/// The sum of the internet's protocols.
fn sum(bytes: &[u8], start: u16) -> u16 {
    let words = bytes.chunks(2).map(|word| u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]));
    words.fold(start, |sum, word| {
        let (sum, carried) = sum.overflowing_add(word);
        sum + u16::from(carried)
    })
}

/// How long the device's thread has worked, in hundredths of a second.
fn worked() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let stat = stats.filter(|stat| stat.contains("(vmm-net)")).last().unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// V16: who waits costs nothing.
fn costs_nothing(when: &str) {
    // A thread that is new has no name yet.
    std::thread::sleep(Duration::from_millis(50));
    let before = worked();
    std::thread::sleep(Duration::from_millis(300));
    let after = worked();
    assert!(after - before < 10, "{when}: {before} to {after}");
}

/// Waits until this is counted: frames and bytes that the guest has received, and that it has sent.
fn until_counted(tap: &Tap, expected: ((u64, u64), (u64, u64))) {
    let begun = std::time::Instant::now();
    while tap.traffic().all() != expected {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", tap.traffic());
    }
}

#[test]
fn frames_go_both_ways() {
    if !has_own_network() {
        return;
    }
    let mut guest = Guest::new(0);
    let mut config = [0; 12];
    guest.transport.read(0x100, &mut config);
    let expected = [&guest.mac.bytes()[..], &[0; 4], &1500_u16.to_le_bytes()].concat();
    assert_eq!(config[..], expected);

    for features in [0, feature::CHECKSUM | feature::GUEST_CHECKSUM, FEATURES] {
        guest.reset();
        guest.begin(features);
        guest.is_served();
        guest.offer(3, 2048);
        guest.tell(&[7; 1000]);
        let (frame, used) = guest.hear(1);
        assert_eq!((used[0].0, frame.len()), (3, BEFORE + 1000));
        assert_eq!(frame[header::CHAINS..HEADER], [1, 0], "{features:#x}");
        assert_eq!((&frame[HEADER..18], &frame[BEFORE..]), (&guest.mac.bytes()[..], &[7; 1000][..]));
        let is_unsummed = features & feature::GUEST_CHECKSUM != 0;
        assert_eq!(frame[header::FLAGS] & header::UNSUMMED != 0, is_unsummed);
        if !is_unsummed {
            let pseudo = sum(&[0, 17, 0x03, 0xf0], sum(&frame[HEADER + 26..HEADER + 34], 0));
            assert_eq!(sum(&frame[HEADER + 34..], pseudo), u16::MAX, "its sum is right");
        }
    }
    // The node completes what the guest left to it: from byte 34 on, at byte 6 of that.
    let unsummed = [1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0];
    let frame = guest.datagram(unsummed, b"complete me");
    guest.send(&frame);
    assert_eq!(guest.heard(), b"complete me");
    // Without what stands before each of them.
    let [served, told, sent] = [12, 1000, 11].map(|length| length + 42);
    until_counted(&guest.tap, ((6, 3 * (served + told)), (4, 4 * sent)));
}

/// F43: what is no frame, or too long for one, is lost, and the next one is sent.
#[test]
fn what_is_no_frame_is_lost() {
    if !has_own_network() {
        return;
    }
    let mut guest = Guest::new(FEATURES);
    let whole = guest.datagram([0; HEADER], b"hello");
    for bad in [&whole[..2], &whole[..HEADER], &whole[..HEADER + 13], &[0xff; 200], &[0; FRAME_MAX + 2]] {
        guest.send(bad);
    }
    // One that is nowhere, and one that the device is to write.
    guest.send.ask(2, &[(u64::MAX - 100, 60, false)]);
    guest.send.ask(4, &[(SENT, 60, true)]);
    set(&mut guest.transport, 0x50, 1);
    assert_eq!(guest.send.wait(2), [(2, 0), (4, 0)]);
    guest.is_served();
    // Without the feature, what stands in the header is nothing.
    guest.reset();
    guest.begin(0);
    let nonsense = [&[0xff; HEADER], &whole[HEADER..]].concat();
    guest.send(&nonsense);
    assert_eq!(guest.heard(), b"hello");
}

/// What a guest has no room for waits in the tap, in order, and nobody is busy with it.
#[test]
fn frames_wait_for_room() {
    if !has_own_network() {
        return;
    }
    let mut guest = Guest::new(FEATURES);
    (0..40_u8).for_each(|number| guest.tell(&[number; 10]));
    costs_nothing("without room");
    for number in 0..40_u8 {
        assert!(guest.receive.used().is_empty(), "{number}");
        guest.offer(u16::from(number) % SIZE, 2048);
        assert_eq!(guest.hear(1).0[BEFORE..], [number; 10]);
    }
    // In several chains, when there are enough of them.
    guest.tell(&[1; 1000]);
    guest.offer(0, 500);
    guest.offer(1, 500);
    costs_nothing("without room enough");
    assert!(guest.receive.used().is_empty());
    guest.offer(2, 500);
    let (frame, used) = guest.hear(3);
    assert_eq!(used, [(0, 500), (1, 500), (2, 54)]);
    assert_eq!((&frame[header::CHAINS..HEADER], &frame[BEFORE..]), (&[3, 0][..], &[1; 1000][..]));
    // More than all chains that there can be: the next one has room.
    guest.tell(&[1; 1000]);
    (0..SIZE).for_each(|place| guest.receive.ask(place, &[(DATA + ROOM * u64::from(place), 60, true)]));
    set(&mut guest.transport, 0x50, 0);
    guest.tell(&[2; 6]);
    assert_eq!(guest.hear(1), (guest.receive.get(DATA, 60), vec![(0, 60)]));
    assert_eq!(guest.receive.get(DATA + 54, 6), [2; 6]);
}

/// A driver that knows no frames in several chains, and has too little room, loses only what is too long.
#[test]
fn a_frame_without_room_is_lost() {
    if !has_own_network() {
        return;
    }
    let mut guest = Guest::new(0);
    guest.offer(0, 100);
    guest.offer(1, 2000);
    guest.tell(&[1; 1000]);
    guest.tell(&[2; 20]);
    guest.tell(&[3; 1000]);
    let (_, used) = guest.hear(2);
    assert_eq!(used, [(0, 74), (1, 1054)]);
    // The header is none of it; what was lost is not counted.
    until_counted(&guest.tap, ((2, 74 + 1054 - 2 * 12), (0, 0)));
    assert_eq!(guest.receive.get(DATA + 54, 20), [2; 20]);
}

/// What came for a driver that understood more is not for the next one, and nothing is written behind a
/// reset.
#[test]
fn a_reset_ends_what_is_under_way() {
    if !has_own_network() {
        return;
    }
    let mut guest = Guest::new(FEATURES);
    for _ in 0..20 {
        guest.tell(b"of before");
        guest.reset();
        guest.begin(0);
        guest.is_served();
        (1..8).for_each(|place| guest.offer(place, 2048));
        guest.tell(b"to nobody");
        guest.reset();
        guest.receive.put(DATA, &[1; 2048]);
        guest.tell(b"to nobody");
        guest.begin(FEATURES);
        assert_eq!(guest.receive.get(DATA, 2048), [1; 2048], "nothing came late");
        guest.tell(b"last");
        guest.hears_at_last(b"last");
    }
}

/// S3-06: what waits in the rings when a guest is saved goes by its copy; nothing else is its own.
#[test]
fn a_network_goes_on_as_its_copy() {
    if !has_own_network() {
        return;
    }
    let mut guest = Guest::new(FEATURES);
    for _ in 0..3 {
        guest.is_served();
        (0..3).for_each(|place| guest.offer(place, 1000));
        guest.transport.pause();
        guest.tell(b"while it was paused");
        let frame = guest.datagram([0; HEADER], b"sent while it was paused");
        guest.send.put(SENT, &frame);
        guest.send.ask(0, &[(SENT, u32::try_from(frame.len()).unwrap(), false)]);
        set(&mut guest.transport, 0x50, 1);
        std::thread::sleep(Duration::from_millis(20));
        assert!(guest.receive.used().is_empty() && guest.send.used().is_empty());
        let saved = guest.transport.saved();
        assert!(guest.transport.waits_for().is_none());
        assert!(saved.queues.iter().all(|queue| queue.taken.is_empty()));
        guest.transport.end();

        let copy = Box::new(Net::new(Arc::clone(&guest.tap), guest.mac));
        let (memory, events) = (guest.receive.memory.clone(), vec![event(), event()]);
        guest.transport = Transport::new(copy, memory, event(), events).unwrap();
        guest.transport.restore(&saved).unwrap();
        assert_eq!(guest.hear(1).0[BEFORE..], *b"while it was paused");
        assert_eq!((guest.send.wait(1), guest.heard()), (vec![(0, 0)], b"sent while it was paused".to_vec()));
        (0..2).for_each(|_| guest.tell(b"more"));
        assert_eq!(guest.receive.wait(2), [(1, 58), (2, 58)]);
    }
}

/// S2-01: where a guest goes on, its network knows at once, without a word of the guest.
#[test]
fn a_bridge_learns_where_a_guest_is() {
    if !has_own_network() {
        return;
    }
    ip("link add br0 type bridge");
    ip("link set br0 up");
    let mut devices = Vec::new();
    for tap in ["tap0", "tap1", "tap0"] {
        let described = network(tap, Some("br0"));
        // The one of before has lost the guest.
        devices.clear();
        let net = Net::new(Arc::new(Tap::open(&described).unwrap()), described.mac);
        let driver = Driver::default();
        let mut transport =
            Transport::new(Box::new(net), driver.memory, event(), vec![event(), event()]).unwrap();
        let known =
            || std::process::Command::new("bridge").args(["fdb", "show", "br", "br0"]).output().unwrap();
        let place = format!("{} dev {tap} master br0", described.mac);
        let is_known = || String::from_utf8(known().stdout).unwrap().contains(&place);
        assert!(!is_known());
        assert_eq!(initialise_queues(&mut transport, VERSION_1, 2), 15);
        assert!(is_known(), "{:?}", known());
        devices.push(transport);
    }
}

/// An operator who takes the tap away leaves a guest without a network, not a thread without an end.
#[test]
fn a_tap_that_goes_away_stops_frames_only() {
    if !has_own_network() {
        return;
    }
    let mut guest = Guest::new(FEATURES);
    guest.is_served();
    guest.offer(0, 2048);
    ip("link delete tap0");
    costs_nothing("without a tap");
    let frame = guest.datagram([0; HEADER], b"to nobody");
    (0..100).for_each(|_| guest.send(&frame));
    guest.reset();
}

/// A part of what a hostile driver asks: where, how long, which flags, what is next.
fn any_part() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let at = prop_oneof![6 => DATA..DATA + 0x1_0000, 1 => any::<u64>()];
    let length = prop_oneof![4 => 0_u32..2000, 2 => Just(64), 1 => any::<u32>()];
    let flags = prop_oneof![Just(0_u16), Just(1), Just(2), Just(3), Just(4), any::<u16>()];
    (at, length, flags, prop_oneof![4 => 0..SIZE, 1 => any::<u16>()])
}

/// F43, V44: whatever is in both rings, at worst the device stops, and a reset has it serve again.
#[test]
fn any_bytes_are_survived() {
    if !has_own_network() {
        return;
    }
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if std::thread::current().name().is_some_and(|name| name == "vmm-net") {
            std::process::abort();
        }
    }));
    let guest = RefCell::new(Guest::new(FEATURES));
    let parts = || proptest::collection::vec(any_part(), usize::from(SIZE));
    let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(receive in parts(), send in parts(), content in any::<[u8; 64]>(),
                        asked in (0..=SIZE + 1, 0..=SIZE + 1), features in 0..=FEATURES)| {
        let guest = &mut *guest.borrow_mut();
        guest.reset();
        guest.begin(features & FEATURES);
        guest.receive.put(DATA, &content);
        for (driver, base, parts, asked) in
            [(&guest.receive, 0, receive, asked.0), (&guest.send, 0x4000, send, asked.1)]
        {
            for (place, (at, length, flags, next)) in (0..).zip(parts) {
                driver.describe_in(base + TABLE, place, (at, length), flags, next);
                driver.put(base + AVAILABLE + 4 + u64::from(place) * 2, &(next % (SIZE + 1)).to_le_bytes());
            }
            driver.put(base + AVAILABLE + 2, &asked.to_le_bytes());
        }
        (0..4).for_each(|_| guest.tell(&content));
        [0, 1].into_iter().for_each(|queue| set(&mut guest.transport, 0x50, queue));
        std::thread::sleep(Duration::from_millis(2));
        guest.reset();
        // What the node heard of it.
        guest.node.set_nonblocking(true).unwrap();
        while guest.node.recv(&mut [0; 2048]).is_ok() {}
        guest.node.set_nonblocking(false).unwrap();
        guest.begin(0);
        guest.tell(b"last");
        guest.hears_at_last(b"last");
        let frame = guest.datagram([0; HEADER], b"to the node");
        guest.send(&frame);
        prop_assert_eq!(guest.heard(), b"to the node");
    });
}
