//! What the agent owes to the machine it runs on: watchdogs fed by progress only, the service manager told,
//! floods survived (V29, V39, F24, I11).

use crate::harness::Site;
use bulkhead::site_config::WatchdogDevice;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// V29. A file stands for the device: what is written to it is the food.
#[test]
fn the_watchdog_is_fed_by_progress_and_disarmed_by_a_clean_stop_only() {
    let mut site = Site::with(|config, directory| {
        let (device, timeout) = (directory.join("watchdog"), Duration::from_secs(5));
        std::fs::write(&device, "").unwrap();
        config.watchdog = Some(WatchdogDevice { device, timeout });
    });
    let food = |site: &Site| std::fs::read(site.path("watchdog")).unwrap();
    site.start(3);
    site.wait("it runs", 3, |status| status["role"] == "witness");
    let before = food(&site).len();
    std::thread::sleep(Duration::from_millis(500));
    let fed = food(&site).len();
    assert!(before < fed, "{before} bytes, then {fed}");
    site.freeze(3);
    std::thread::sleep(Duration::from_millis(50));
    let starving = food(&site).len();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(food(&site).len(), starving, "a frozen agent must starve the watchdog");
    site.thaw(3);
    site.kill(3);
    assert!(!food(&site).contains(&b'V'), "an agent that was killed leaves it armed");
    std::fs::write(site.path("watchdog"), "").unwrap();
    site.start(3);
    site.wait("it runs", 3, |status| status["role"] == "witness");
    site.stop(3);
    assert_eq!(food(&site).last(), Some(&b'V'));
}

#[test]
fn the_service_manager_is_told() {
    let mut site = Site::new();
    let manager = UnixDatagram::bind(site.path("notify3")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let told = || {
        let mut buffer = [0; 64];
        let len = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    };
    site.start(3);
    assert_eq!(told(), "READY=1");
    assert_eq!([told(), told()], ["WATCHDOG=1", "WATCHDOG=1"]);
    site.stop(3);
    let mut last = told();
    while last == "WATCHDOG=1" {
        last = told();
    }
    assert_eq!(last, "STOPPING=1");
}

/// I11, V39: whatever comes in, the roles stay, and memory does not grow.
#[test]
fn a_flood_of_garbage_changes_nothing() {
    let mut site = Site::new();
    site.start_all();
    site.wait("all is well", 1, |status| status["protected"] == true);
    let memory = |site: &Site| {
        let text = std::fs::read_to_string(format!("/proc/{}/status", site.pid(1))).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
        line.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = memory(&site);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let targets: Vec<_> =
        site.relay.entrances.iter().filter(|((_, to, _), _)| *to == 1).map(|(_, address)| *address).collect();
    let (begin, mut sent, mut chance) = (Instant::now(), 0_u32, 1_u64);
    while begin.elapsed() < Duration::from_secs(2) {
        for target in &targets {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let len = usize::try_from(chance >> 53).unwrap();
            let bytes: Vec<u8> = (0..len).map(|at| (chance >> (at % 56)) as u8).collect();
            let _ = socket.send_to(&bytes, target);
            sent += 1;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let status = site.wait("it still answers", 1, |status| status["role"] == "master");
    let dropped = ["malformed", "oversize", "foreign"].map(|key| status["counters"][key].as_u64().unwrap());
    assert!(0 < dropped[0] && 0 < dropped[1], "{sent} sent, {status:#}");
    assert_eq!((site.times_master(1), site.times_master(2)), (1, 0), "a role changed");
    let after = memory(&site);
    assert!(after < before + 4096, "{before} KiB, then {after} KiB");
}
