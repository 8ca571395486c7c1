//! I5, V23: a guest between its keeper and an agent that says anything, or nothing.

use super::*;
use crate::vmm::console::Console;
use crate::vmm::description::Description;
use crate::vmm::machine::{Origin, kvm};
use crate::vmm::testing::elf;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::channel;
use vm_memory::{Bytes as _, GuestAddress};

const LONG: Duration = Duration::from_secs(30);
const MS: fn(u64) -> Duration = Duration::from_millis;
/// What an agent has left when it is asked.
const LEFT: u64 = 400;

/// An agent's control socket.
struct Agent {
    directory: tempfile::TempDir,
    says: Arc<Mutex<Says>>,
    /// How often a lease was given back.
    returns: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// It may run, under this epoch.
    Lease(u64),
    /// Another node leads.
    Refused,
    /// Nobody does.
    Failed,
    /// Nothing, for as long as this is what it says.
    Nothing,
}

impl Agent {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("control.sock")).unwrap();
        let says = Arc::new(Mutex::new(Says::Lease(7)));
        let own = Arc::clone(&says);
        let returns = Arc::new(AtomicUsize::new(0));
        let returned = Arc::clone(&returns);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                if line.starts_with("{\"request\":\"guest-return\",\"lease\":\"") {
                    returned.fetch_add(1, Ordering::SeqCst);
                    writeln!(stream, "{}", json!({ "ok": true })).unwrap();
                    continue;
                }
                assert!(line.starts_with("{\"request\":\"guest-lease\",\"lease\":\""), "{line}");
                while *own.lock().unwrap() == Says::Nothing {
                    std::thread::sleep(MS(1));
                }
                let answer = answer(*own.lock().unwrap());
                // Who asked may be gone.
                let _ = writeln!(stream, "{answer}");
            }
        });
        Self { directory, says, returns }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

fn answer(says: Says) -> Value {
    let failed = |kind: &str, what: &str| json!({ "ok": false, "error": { "kind": kind, "what": what } });
    match says {
        Says::Lease(epoch) => {
            let lease = json!({ "node": 1, "epoch": epoch, "leftMs": LEFT, "volumes": "/run/nbd.sock" });
            json!({ "ok": true, "guestLease": lease })
        }
        Says::Refused => failed("refused", "b1 leads"),
        Says::Failed => failed("failed", "nobody leads"),
        Says::Nothing => Value::Null,
    }
}

/// Who notes since when it is held.
#[derive(Default)]
struct Noted(Mutex<Option<Instant>>);

impl Noted {
    fn held_at(&self) -> Option<Instant> {
        *self.0.lock().unwrap()
    }
}

impl Reins for Noted {
    fn hold(&self) {
        self.0.lock().unwrap().get_or_insert_with(clock::now);
    }

    fn release(&self) {
        *self.0.lock().unwrap() = None;
    }
}

fn within<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = seen() {
            return found;
        }
        assert!(begun.elapsed() < LONG, "{what}");
        std::thread::sleep(MS(1));
    }
}

/// A guest that runs by the lease of an agent.
struct Kept {
    keeper: Keeper,
    reins: Arc<Noted>,
    right: Arc<Right>,
    lost: Receiver<Failure>,
}

impl Kept {
    fn by(agent: &Agent) -> Self {
        let lease = Lease::obtain(&agent.socket()).unwrap();
        let right = Arc::clone(&lease.right);
        let (reins, (tell, lost)) = (Arc::new(Noted::default()), channel());
        reins.hold();
        let own = Arc::clone(&reins) as Arc<dyn Reins>;
        let keeper = lease.keep(own, move |why| tell.send(why).unwrap()).unwrap();
        within("it runs", || reins.held_at().is_none().then_some(()));
        Self { keeper, reins, right, lost }
    }
}

/// I4, I5: what each thing that an agent says, or does not say, comes to.
#[test]
fn a_guest_runs_for_as_long_as_its_agent_says() {
    //  then the agent says   is held   must end because
    let rows = [
        (Says::Lease(7), false, None),
        (Says::Nothing, true, None),
        (Says::Failed, true, None),
        (Says::Refused, true, Some("b1 leads")),
        (Says::Lease(8), true, Some("under epoch 8, after 7")),
    ];
    for (says, is_held, ends) in rows {
        let agent = Agent::new();
        let Kept { keeper, reins, right, lost } = Kept::by(&agent);
        std::thread::sleep(MS(LEFT * 2));
        assert!(reins.held_at().is_none() && right.holds(), "it is renewed");

        let changed = clock::now();
        agent.says(says);
        let end = changed.after(MS(LEFT));
        std::thread::sleep(end.since(clock::now()));
        assert_eq!((reins.held_at().is_some(), right.holds()), (is_held, !is_held), "{says:?}");
        assert!(reins.held_at().is_none_or(|at| at < end), "{says:?}: held too late");
        match ends {
            Some(why) => assert!(lost.recv_timeout(LONG).unwrap().what.contains(why), "{says:?}"),
            None => assert!(lost.try_recv().is_err(), "{says:?}"),
        }
        // The same again, and it goes on, unless it must not any more.
        agent.says(Says::Lease(7));
        match ends {
            Some(_) => {
                std::thread::sleep(MS(LEFT));
                assert!(reins.held_at().is_some(), "{says:?}: what has ended does not go on");
            }
            None => within("it goes on", || (reins.held_at().is_none() && right.holds()).then_some(())),
        }
        drop(keeper);
        assert!(reins.held_at().is_some() && !right.holds(), "nobody watches it any more");
    }
}

/// I5: who gives its lease back stands still before the agent hears of it, and stays so whatever that says,
/// until it is to go by that again; then it goes on, under the same epoch.
#[test]
fn a_lease_is_given_back() {
    for (then, goes_on) in [(Says::Lease(7), true), (Says::Lease(8), false)] {
        let agent = Agent::new();
        let Kept { keeper, reins, right, lost } = Kept::by(&agent);
        let loan = keeper.loan();
        loan.give_back().unwrap();
        let held = reins.held_at();
        assert!(held.is_some() && !right.holds());
        assert_eq!(agent.returns.load(Ordering::SeqCst), 1);
        std::thread::sleep(MS(LEFT * 2));
        assert_eq!((reins.held_at(), right.holds()), (held, false), "the agent said yes meanwhile");
        agent.says(then);
        loan.take_again();
        match goes_on {
            true => within("it goes on", || (reins.held_at().is_none() && right.holds()).then_some(())),
            false => assert!(lost.recv_timeout(LONG).unwrap().what.contains("under epoch 8, after 7")),
        }
    }
}

#[test]
fn a_guest_does_not_begin_where_it_must_not() {
    let agent = Agent::new();
    for (says, exit, why) in
        [(Says::Refused, Exit::Refused, "b1 leads"), (Says::Failed, Exit::Failed, "nobody leads")]
    {
        agent.says(says);
        let failure = Lease::obtain(&agent.socket()).unwrap_err();
        assert_eq!((failure.exit, failure.what.as_str()), (exit, why));
    }
    let nobody = Lease::obtain(&agent.directory.path().join("none.sock")).unwrap_err();
    assert!(nobody.what.contains("no agent answers") && nobody.next.contains("--alone"), "{nobody:?}");
}

/// X02: what a guest writes under a lease goes to the agent of its node, and nowhere else.
#[test]
fn a_disk_of_somebody_else_is_refused() {
    let lease = Lease {
        name: "it".into(),
        agent: PathBuf::new(),
        epoch: 7,
        until: Instant::ZERO,
        volumes: std::env::current_exe().unwrap(),
        right: Arc::default(),
    };
    let tied = lease.tie(&Uri::unix(&lease.volumes, "web1")).unwrap();
    assert_eq!(crate::nbd::turns::of_session(&tied.uri.export), Some("~web1"));
    for other in ["nbd://10.0.0.1/web1", "nbd+unix:///web1?socket=/", "nbd+unix:///web1?socket=/none.sock"] {
        let refused = lease.tie(&other.parse().unwrap()).unwrap_err();
        assert_eq!(refused.exit, Exit::Refused, "{}", refused.what);
    }
}

/// A guest that counts at 0x3000, and does nothing else; `None`: this machine runs none.
fn counting(directory: &Path) -> Option<Arc<Machine>> {
    kvm().inspect_err(|why| println!("without a guest: {}", why.what)).ok()?;
    // inc dword [0x3000]; jmp back
    let count = [0xff, 0x05, 0, 0x30, 0, 0, 0xeb, 0xf8];
    std::fs::write(directory.join("kernel"), elf(&count, true)).unwrap();
    let file = directory.join("guest.toml");
    let text = "version = 1\nname = \"test\"\nprocessors = 2\nmemory = \"16M\"\nkernel = \"kernel\"\n";
    std::fs::write(&file, text).unwrap();
    let described = Description::read(&file).unwrap();
    let origin = Origin::find(described, Console::default(), None).unwrap();
    Some(Arc::new(Machine::start(origin, &[Hold::Lease], |_| ()).unwrap()))
}

fn counted(machine: &Machine) -> u32 {
    machine.memory().read_obj(GuestAddress(0x3000)).unwrap()
}

/// V23: not one instruction is carried out from the end of the lease on, when the agent is silent; and it
/// goes on where it was when that speaks again, if nobody else has led.
#[test]
fn a_guest_stands_still_when_its_lease_has_ended() {
    let agent = Agent::new();
    let lease = Lease::obtain(&agent.socket()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let Some(machine) = counting(directory.path()) else { return };
    assert_eq!(counted(&machine), 0, "it waits for its keeper");
    let harness = Arc::new(Harness::default());
    let keeper = lease.keep(Arc::clone(&harness) as Arc<dyn Reins>, |why| panic!("{why:?}")).unwrap();
    harness.put_on(&machine);
    within("it runs", || (counted(&machine) != 0).then_some(()));
    for _ in 0..3 {
        let before = counted(&machine);
        std::thread::sleep(MS(LEFT * 3));
        assert_ne!(counted(&machine), before, "it is renewed");
        agent.says(Says::Nothing);
        let end = clock::now().after(MS(LEFT));
        std::thread::sleep(end.since(clock::now()));
        let at_end = counted(&machine);
        std::thread::sleep(MS(100));
        assert_eq!(counted(&machine), at_end);
        // So does one that begins anew meanwhile.
        let next = counting(directory.path()).unwrap();
        harness.put_on(&next);
        std::thread::sleep(MS(50));
        assert_eq!(counted(&next), 0);
        harness.put_on(&machine);
        agent.says(Says::Lease(7));
        within("it goes on", || (counted(&machine) != at_end).then_some(()));
    }
    harness.take_off();
    let at_end = counted(&machine);
    std::thread::sleep(MS(LEFT));
    assert_eq!(counted(&machine), at_end, "nobody watches it any more");
    drop(keeper);
}

/// Names the process of [`the_kernel_ends_a_guest_that_nobody_holds`].
const CHILD: &str = "BULKHEAD_TEST_LEASE";

/// Reins that let go, and never hold: a keeper that hangs.
struct Stuck(Option<Arc<Machine>>);

impl Reins for Stuck {
    fn hold(&self) {
        loop {
            std::thread::park();
        }
    }

    fn release(&self) {
        if let Some(machine) = &self.0 {
            machine.release(Hold::Lease);
        }
    }
}

/// In a process of its own: a guest whose keeper hangs when it should hold it. Says when it is, how far it
/// has counted, and until when it has the right to.
fn child(agent: &Path) -> ! {
    let lease = Lease::obtain(agent).unwrap();
    let (directory, right) = (tempfile::tempdir().unwrap(), Arc::clone(&lease.right));
    let machine = counting(directory.path());
    let _keeper = lease.keep(Arc::new(Stuck(machine.clone())), |_| ()).unwrap();
    for rounds in 1..10_000 {
        let count = machine.as_ref().map_or(rounds, |machine| counted(machine));
        let until = right.0.load(Ordering::SeqCst);
        println!("tick {} {count} {until}", clock::now().as_micros());
        std::thread::sleep(MS(1));
    }
    std::process::exit(0)
}

/// V23: a guest whose keeper hangs is ended by the kernel before its lease ends, whether its process runs or
/// is stopped.
#[test]
fn the_kernel_ends_a_guest_that_nobody_holds() {
    if let Some(agent) = std::env::var_os(CHILD) {
        child(Path::new(&agent));
    }
    for is_stopped in [false, true] {
        let agent = Agent::new();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "vmm::lease::tests::the_kernel_ends_a_guest_that_nobody_holds"]);
        command.args(["--nocapture", "--test-threads=1"]).env(CHILD, agent.socket());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut tick = || {
            lines.by_ref().map_while(Result::ok).find_map(|line| {
                let words = line.strip_prefix("tick ")?.split(' ');
                let words: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
                let [at, count, until] = words.try_into().unwrap();
                Some((Instant::from_micros(at), count, Instant::from_micros(until)))
            })
        };
        let (begun, ..) = tick().unwrap();
        while tick().expect("it is renewed").0 < begun.after(MS(LEFT * 2)) {}
        agent.says(Says::Nothing);
        if is_stopped {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        }
        let ticks: Vec<_> = std::iter::from_fn(&mut tick).collect();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        let Some((last, count, _)) = ticks.last().copied() else {
            assert!(is_stopped);
            continue;
        };
        let right = ticks.iter().map(|(.., until)| *until).max().unwrap();
        assert!(
            last < right.after(KILL),
            "it ran until {} us after",
            last.since(right.after(KILL)).as_micros()
        );
        if !is_stopped {
            // It had no right any more, nobody held it, and it went on: what ended it was nothing of its own.
            let (.., at_end, _) = ticks.iter().find(|(.., until)| *until == Instant::ZERO).unwrap();
            assert!(*at_end < count, "it stood still by itself");
        }
    }
}
