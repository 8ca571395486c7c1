//! The clients people use, over both transports.

use super::harness::{Plant, SIZE, have, noise, ok, run};

const PYTHON: &str = "/usr/bin/python3";
const LIBNBD: &str = "/usr/lib/python3/dist-packages/nbd.py";

#[test]
fn nbdinfo_finds_everything_that_is_promised() {
    if !have("nbdinfo", "libnbd-bin") {
        return;
    }
    let plant = Plant::new();
    for uri in plant.uris() {
        let told: serde_json::Value = serde_json::from_str(&ok("nbdinfo", &["--json", &uri])).unwrap();
        assert_eq!(told["protocol"], "newstyle-fixed");
        assert_eq!(told["structured"], true);
        let export = &told["exports"][0];
        assert_eq!(export["export-name"], "disk");
        assert_eq!(export["description"], "a disk of the plant");
        assert_eq!(export["export-size"], SIZE);
        assert_eq!(export["contexts"], serde_json::json!(["base:allocation", "x-bulkhead:dirty"]));
        assert_eq!(export["is_rotational"], false);
        assert_eq!(export["is_read_only"], false);
        for can in ["cache", "df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero"] {
            assert_eq!(export[format!("can_{can}")], true, "{can}");
        }
        assert_eq!(export["block_size_minimum"], 1);
        assert_eq!(export["block_size_preferred"], 4096);
        assert_eq!(export["block_size_maximum"], 32 << 20);
        assert!(ok("nbdinfo", &["--list", &uri]).contains("export=\"disk\""));
        assert_ne!(run("nbdinfo", &[&uri.replace("disk", "other")]).0, Some(0));
    }
    // The only export is the default one.
    let bare = format!("nbd://{}/", plant.tcp);
    assert!(ok("nbdinfo", &[&bare]).contains("export-size: 67108864"));
}

#[test]
fn nbdcopy_brings_back_what_it_took_there_with_its_holes() {
    if !have("nbdcopy", "libnbd-bin") {
        return;
    }
    let plant = Plant::new();
    let (source, back) = (plant.path("source"), plant.path("back"));
    let mut content = noise(1, 8 << 20);
    content.resize(40 << 20, 0);
    content.extend_from_slice(&noise(2, 3 << 20));
    content.resize(SIZE as usize, 0);
    std::fs::write(&source, &content).unwrap();
    for uri in plant.uris() {
        ok("nbdcopy", &["--flush", "--connections=4", source.to_str().unwrap(), &uri]);
        assert!(std::fs::read(plant.path("disk")).unwrap() == content, "{uri}");
        ok("nbdcopy", &["--connections=4", &uri, back.to_str().unwrap()]);
        assert!(std::fs::read(&back).unwrap() == content, "{uri}");
        let map = ok("nbdinfo", &["--map", &uri]);
        assert!(map.contains("hole,zero") && map.contains("data"), "{map}");
        std::fs::remove_file(&back).unwrap();
    }
}

#[test]
fn qemu_reads_writes_discards_and_compares() {
    if !have("qemu-io", "qemu-utils") || !have("qemu-img", "qemu-utils") {
        return;
    }
    let plant = Plant::new();
    let disk = plant.path("disk");
    for uri in plant.uris() {
        let io = |commands: &[&str]| {
            let commands = commands.iter().flat_map(|command| ["-c", command]);
            let args: Vec<_> = ["-f", "raw", "-d", "unmap", &uri].into_iter().chain(commands).collect();
            let told = ok("qemu-io", &args);
            assert!(!told.contains("failed") && !told.contains("error"), "{told}");
        };
        io(&["write -P 0xaa 1M 3M", "write -f -P 0xbb 2M 64k", "flush", "read -P 0xaa 1M 1M"]);
        io(&["read -P 0xbb 2M 64k", "write -z 3M 512k", "write -z -u 3584k 512k", "read -P 0 3M 1M"]);
        io(&["aio_write -P 0xcc 8M 8M", "aio_read -P 0xbb 2M 64k", "aio_flush", "read -P 0xcc 8M 8M"]);
        io(&["discard 8M 8M", "read -P 0 8M 8M", "write -P 0x11 777 333", "read -P 0x11 777 333"]);
        ok("qemu-img", &["compare", "-f", "raw", "-F", "raw", &uri, disk.to_str().unwrap()]);
        let copy = plant.path("copy.qcow2");
        ok("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &uri, copy.to_str().unwrap()]);
        ok("qemu-img", &["compare", "-f", "raw", &uri, copy.to_str().unwrap()]);
        ok("qemu-img", &["convert", "-n", "-f", "qcow2", "-O", "raw", copy.to_str().unwrap(), &uri]);
    }
}

#[test]
fn fio_verifies_what_it_wrote_with_many_requests_under_way() {
    if !have("fio", "fio") {
        return;
    }
    let plant = Plant::new();
    for (name, uri) in ["unix", "tcp"].iter().zip(plant.uris()) {
        let uri = format!("--uri={uri}");
        let common = [
            "--ioengine=nbd",
            &uri,
            "--size=48M",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
        ];
        let small = ["--name=small", "--rw=randrw", "--bs=4k", "--iodepth=32", "--fsync=64"];
        let sizes = ["--name=sizes", "--rw=randwrite", "--bsrange=512-512k", "--iodepth=8", "--io_size=96M"];
        for job in [small, sizes] {
            let mut args = common.to_vec();
            args.extend(job);
            args.extend(["--do_verify=1", "--verify_backlog=512", "--output-format=terse"]);
            println!("{name}: {}", ok("fio", &args).len());
        }
    }
}

#[test]
fn libnbd_sees_each_command_each_flag_and_each_error() {
    if !have(PYTHON, "python3-libnbd") || !have(LIBNBD, "python3-libnbd") {
        return;
    }
    let plant = Plant::new();
    for uri in plant.uris() {
        let told = ok(PYTHON, &["-c", include_str!("client.py"), &uri]);
        assert!(told.ends_with("fine\n"), "{told}");
    }
}
