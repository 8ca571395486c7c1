//! The firmware witness with a power strip: a rightful fence really ends a node, a wrongful one does not, a
//! strip that lies or is silent confirms nothing, and who was cut stays off for 5 s (S1-06, V19, V20, V21,
//! F28, F29). And it finds its address by DHCP (S1-09). The nodes are agents on this machine; what their
//! outlets switch is their processes.

mod liar;
mod rig;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead_core::fence::desk::Act;
use bulkhead_core::fence::words::{FenceId, Outcome, Plea, Want};
use bulkhead_core::id::{Epoch, NodeId, PairId};
use bulkhead_core::node::settings::infra_register;
use bulkhead_core::provision::Local;
use bulkhead_core::provision::records::{Record, Ring};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::witness::budget::STACK_LEFT_MIN;
use qemu_tests::witness::card::user_paths;
use qemu_tests::witness::strip::Manner;

use liar::LIAR;
use rig::Rig;

const A1: NodeId = NodeId(1);
const B1: NodeId = NodeId(2);

#[test]
fn a_rightful_fence_ends_a_node_and_nothing_else_does() -> Result<()> {
    Artefacts::of("firmware-fence", |artefacts| {
        let mut rig = Rig::new(artefacts, user_paths())?;
        let [a1, b1] = rig.agents.clone();
        a1.start()?;
        a1.wait("a1 is master by the vote of the firmware", |status| status["role"] == "master")?;
        // The master wants its peer started: the strip gives it the power.
        b1.wait("b1 was switched on, and follows", |status| status["role"] == "slave")?;

        // Wrongful: one who has the key, but not the register, gets nobody cut.
        let register = infra_register(PairId(1));
        for (number, want) in [(1, Want::Off), (2, Want::On)] {
            let (id, node) = (FenceId(number), A1);
            let plea = Plea { id, node, start: None, register, epoch: Epoch(1), want };
            let outcome = rig.liar.plead(plea)?;
            ensure!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
        // Wrongful: b1 hears nothing of the master any more, the witness does.
        rig.wire.cut();
        b1.wait("b1 misses a1", |status| status["nodes"][0]["verdict"] == "silent")?;
        let (code, text) = b1.run(&["fence", "node", "a1", "--yes"])?;
        ensure!(code == Some(3), "{code:?} {text}");
        let asked = [rig.asked(1, Act::Off), rig.asked(1, Act::On)].concat();
        ensure!(asked.is_empty() && a1.runs()?, "nobody asked the strip to switch the master");

        // Rightful, and read back.
        let (code, text) = a1.run(&["fence", "node", "b1", "--yes"])?;
        let logged = rig.logged();
        ensure!(code == Some(0) && text.contains("read back as off"), "{code:?} {text}\n{logged}");
        ensure!(!b1.runs()? && a1.runs()?, "b1 has no power");
        ensure!(logged.matches("Refused").count() >= 2, "the wrongful pleas are in the log: {logged}");
        let off = rig.asked(2, Act::Off).last().copied().context("the strip was asked to cut b1")?;

        // It is switched on again, by the master's rule, but stays off for 5 s.
        b1.wait("b1 has power again", |status| status["nodes"][2]["verdict"] == "up")?;
        let on = rig.asked(2, Act::On).last().copied().context("the strip was asked to switch b1 on")?;
        let off = on.saturating_duration_since(off);
        ensure!(Duration::from_secs(5) <= off, "b1 was off for {off:?}");

        // F28: nothing that the strip says or does not say counts but the measured power.
        let unfit = [(Manner::Lies, "lies"), (Manner::Silent, "is silent"), (Manner::Garbles, "garbles")];
        for (manner, words) in unfit {
            rig.strip.behave(manner);
            let (code, text) = a1.run(&["fence", "node", "b1", "--yes"])?;
            ensure!(code == Some(1) && !text.contains("read back"), "a strip that {words}: {code:?} {text}");
        }
        rig.strip.behave(Manner::Slow(Duration::from_millis(300)));
        b1.wait("b1 has power", |status| status["nodes"][2]["verdict"] == "up")?;
        let (code, text) = a1.run(&["fence", "node", "b1", "--yes"])?;
        ensure!(code == Some(0) && !b1.runs()?, "slow, and in time: {code:?} {text}");
        let [used, stack] = rig.board.stack()?;
        println!("{used} of {stack} bytes of the stack were used");
        ensure!(used + STACK_LEFT_MIN <= stack, "{used} of {stack} bytes of the stack were used");
        every_fence_is_on_the_card(&rig)
    })
}

/// S1-09: QEMU's user network has a DHCP server. It gives what the other tests write on the card: 10.0.2.15.
#[test]
fn a_witness_votes_at_an_address_that_it_got_by_dhcp() -> Result<()> {
    Artefacts::of("firmware-dhcp", |artefacts| {
        let paths = user_paths().map(|path| Local { host: None, ..path });
        let rig = Rig::new(artefacts, paths)?;
        let begin = Instant::now();
        let mut lines = Vec::new();
        while !lines.iter().any(|line: &String| line.contains("address 10.0.2.15 by DHCP")) {
            ensure!(begin.elapsed() < rig::LONG, "no address: {lines:#?}");
            lines.extend(rig.board.log.recv_timeout(rig::LONG));
        }
        let [a1, _] = &rig.agents;
        a1.start()?;
        a1.wait("a1 is master by the vote of the firmware", |status| status["role"] == "master")
    })
}

/// Begun and ended, executed or refused, in the order in which it came about.
fn every_fence_is_on_the_card(rig: &Rig) -> Result<()> {
    let orders = rig.records(Ring::Orders)?;
    let mut numbers = orders.iter().map(|record| record.entry.number).collect::<Vec<_>>();
    numbers.dedup();
    for number in numbers {
        let of = |record: &&Record| record.entry.number == number;
        let outcomes: Vec<_> = orders.iter().filter(of).map(|record| record.entry.outcome).collect();
        let is_whole =
            matches!(outcomes.as_slice(), [Outcome::UnderWay, Outcome::Off | Outcome::On | Outcome::Failed]);
        ensure!(is_whole, "order {number}: {outcomes:?}");
    }
    for (want, outcome) in [(Want::Off, Outcome::Off), (Want::On, Outcome::On), (Want::Off, Outcome::Failed)]
    {
        let is = |record: &Record| {
            let entry = &record.entry;
            (entry.asker, entry.plea.node, entry.plea.want, entry.outcome) == (A1, B1, want, outcome)
        };
        ensure!(orders.iter().any(is), "{want:?} {outcome:?} is on the card: {orders:#?}");
    }
    let refusals = rig.records(Ring::Refusals)?;
    let by_liar = |record: &&Record| (record.entry.asker, record.entry.plea.node) == (LIAR, A1);
    ensure!(refusals.iter().filter(by_liar).count() == 2, "{refusals:#?}");
    Ok(())
}
