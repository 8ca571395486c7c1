//! Beside qemu-nbd on the same file, in one run: `cargo test --release -p bulkhead --test nbd -- --ignored
//! --nocapture`. The figures are in docs/nbd.md.

use super::harness::{Plant, have, ok};
use super::qemu::Qemu;
use bulkhead::nbd::client::connection::Client;
use bulkhead::nbd::export::{Export as _, Reply, Request, Span};
use bulkhead::nbd::limits::Limits;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Processor time so far, in clock ticks of 10 ms.
fn ticks(process: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// IOPS, and the median in microseconds.
fn fio(uri: &str, rw: &str, bs: &str, depth: &str) -> (f64, f64) {
    let uri = format!("--uri={uri}");
    let (rw, bs, depth) = (format!("--rw={rw}"), format!("--bs={bs}"), format!("--iodepth={depth}"));
    let fixed = ["--name=x", "--ioengine=nbd", "--size=512M", "--time_based", "--runtime=3"];
    let args = [&fixed[..], &["--output-format=json", &uri, &rw, &bs, &depth]].concat();
    let told = ok("fio", &args);
    let json: serde_json::Value = serde_json::from_str(&told[told.find('{').unwrap()..]).unwrap();
    let side = if rw.contains("write") { "write" } else { "read" };
    let job = &json["jobs"][0][side];
    let p50 = job["clat_ns"]["percentile"]["50.000000"].as_f64().unwrap() / 1000.0;
    (job["iops"].as_f64().unwrap(), p50)
}

fn row((iops, p50, cost): (f64, f64, f64)) -> String {
    format!("{iops:9.0} {p50:9.1} {cost:8.1}")
}

/// The same of our own client, for fio takes certificates from the directories of the machine only.
fn ours(uri: &str, is_write: bool, length: u32, depth: u64) -> (f64, f64) {
    let client = Client::connect(&uri.parse().unwrap(), Duration::from_secs(10)).unwrap();
    let (done, answers) = channel();
    let begin = |number: u64| {
        let offset = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (512 << 20) / (128 << 10) * (128 << 10);
        let request = match is_write {
            true => Request::Write { offset, data: vec![7; length as usize], durable: false },
            false => Request::Read { span: Span { offset, length } },
        };
        let (done, begun) = (done.clone(), Instant::now());
        let reply = Reply::new(move |answer| done.send(answer.map(|_| begun.elapsed())).unwrap());
        client.submit(request, reply);
    };
    (0..depth).for_each(begin);
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(2) {
        times.push(answers.recv().unwrap().unwrap());
        begin(depth + times.len() as u64);
    }
    (0..depth).for_each(|_| times.push(answers.recv().unwrap().unwrap()));
    let iops = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_unstable();
    (iops, times[times.len() / 2].as_secs_f64() * 1e6)
}

/// V43: what encryption costs, the same server, file and client in turn; processor time of both ends.
#[test]
#[ignore = "a measurement of a minute, for a quiet machine"]
fn encrypted_beside_clear() {
    let (plant, _) = Plant::secure(Limits::default(), false);
    let disk = plant.path("big");
    std::fs::write(&disk, vec![1; 512 << 20]).unwrap();
    let export = bulkhead::nbd::file::FileExport::open(&disk, false).unwrap();
    plant.server.publish("big", "", std::sync::Arc::new(export)).unwrap();
    let clear = format!("nbd://{}/big", plant.tcp);
    let encrypted = format!("nbds://{}/big?tls-certificates={}", plant.tcp, plant.path("client").display());
    println!("{:16} {:>9} {:>9} {:>8}   {:>9}", "", "IOPS", "p50 us", "us/op", "the same with TLS");
    for (is_write, length, depth) in [
        (true, 4 << 10, 1),
        (false, 4 << 10, 1),
        (true, 4 << 10, 32),
        (false, 4 << 10, 32),
        (true, 128 << 10, 8),
        (false, 128 << 10, 8),
    ] {
        for _ in 0..2 {
            let [one, other] = [&clear, &encrypted].map(|uri| {
                let (before, begun) = (ticks("self"), Instant::now());
                let (iops, p50) = ours(uri, is_write, length, depth);
                let operations = iops * begun.elapsed().as_secs_f64();
                (iops, p50, (ticks("self") - before) as f64 * 10_000.0 / operations)
            });
            let name = format!("{} {}k {depth}", if is_write { "write" } else { "read" }, length >> 10);
            println!("{name:16} {}   {}", row(one), row(other));
        }
    }
}

#[test]
#[ignore = "a measurement of a minute, for a quiet machine"]
fn beside_qemu_nbd() {
    if !have("fio", "fio") || !have("qemu-nbd", "qemu-utils") {
        return;
    }
    let plant = Plant::new();
    let disk = plant.path("big");
    std::fs::write(&disk, vec![1; 512 << 20]).unwrap();
    let export = bulkhead::nbd::file::FileExport::open(&disk, false).unwrap();
    plant.server.publish("big", "", std::sync::Arc::new(export)).unwrap();
    let ours = plant.server.uris("big")[0].to_string();
    let socket = plant.path("qemu.sock");
    let qemu = Qemu::start(&disk, &socket);
    let theirs = format!("nbd+unix:///disk?socket={}", socket.display());
    println!("{:16} {:>9} {:>9} {:>8}   {:>9}", "", "IOPS", "p50 us", "us/op", "the same of qemu-nbd");
    for (rw, bs, depth) in [
        ("randwrite", "4k", "1"),
        ("randread", "4k", "1"),
        ("randwrite", "4k", "32"),
        ("randread", "4k", "32"),
        ("write", "128k", "8"),
        ("read", "128k", "8"),
    ] {
        for _ in 0..2 {
            let before = ticks("self");
            let (iops, p50) = fio(&ours, rw, bs, depth);
            let cost = (ticks("self") - before) as f64 * 10_000.0 / (iops * 3.0);
            let before = ticks(&qemu.process());
            let (their_iops, their_p50) = fio(&theirs, rw, bs, depth);
            let their_cost = (ticks(&qemu.process()) - before) as f64 * 10_000.0 / (their_iops * 3.0);
            let name = format!("{rw} {bs} {depth}");
            let (ours, theirs) = ((iops, p50, cost), (their_iops, their_p50, their_cost));
            println!("{name:16} {}   {}", row(ours), row(theirs));
        }
    }
}
